"""Derivatives of the layer: central differences, unrolled iterations, both modes, and jax's transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.allocation import SlotProblem, SolverConfig, _solver, allocate

X64 = jax.config.jax_enable_x64
FLOAT = np.float64 if X64 else np.float32
LEAVES = tuple(SlotProblem.__dataclass_fields__)
EXACT = SolverConfig(iterations=24, tolerance=1e-13, rescues=0)


def smooth_problem():
    """Three users whose constraints are clearly active or clearly not; the third skips its uplink and server."""
    leaves = {
        "device_work_s": [0.05, 0.02, 0.3],
        "uplink_bits": [1e6, 4e5, 0.0],
        "server_work_s": [0.01, 0.03, 0.0],
        "arrival_rate_hz": [2.0, 3.0, 1.0],
        "device_power_w": [4.0, 6.0, 5.0],
        "tx_power_w": [0.2, 0.1, 0.2],
        "snr": [30.0, 5.0, 10.0],
        "delay_price": [10.0, 8.0, 12.0],
        "energy_price": [20.0, 3.0, 9.0],
        "bandwidth_hz": 2e7,
        "server_power_w": 200.0,
        "server_energy_price": 0.05,
        "slot_s": 1.0,
        "knee": 0.9,
    }
    return SlotProblem(**{name: jnp.asarray(leaf, FLOAT) for name, leaf in leaves.items()})


def flat(answer):
    return jnp.concatenate(
        [
            answer.device_share,
            answer.bandwidth_share,
            answer.server_share,
            jnp.stack([answer.bandwidth_price, answer.server_price, answer.objective]),
        ]
    )


def scaled(problem, logs):
    return jax.tree.map(lambda leaf, log: leaf * jnp.exp(log), problem, logs)


def outputs(logs):
    return flat(allocate(scaled(smooth_problem(), logs), EXACT))


def zeros():
    return jax.tree.map(jnp.zeros_like, smooth_problem())


@pytest.fixture(scope="module")
def forward():
    return jax.jit(jax.jacfwd(outputs))(zeros())


@pytest.mark.skipif(not X64, reason="central differences need float64")
def test_every_leaf_agrees_with_central_differences(forward):
    function = jax.jit(outputs)
    step = 1e-5
    for name in LEAVES:
        leaf = getattr(zeros(), name)
        for index in np.ndindex(leaf.shape):
            bump = leaf.at[index].set(step)
            high, low = (function(zeros().replace(**{name: sign * bump})) for sign in (1.0, -1.0))
            difference = np.asarray((high - low) / (2 * step))
            found = np.asarray(getattr(forward, name))[(slice(None), *index)]
            scale = np.abs(difference).max()
            np.testing.assert_allclose(found, difference, rtol=1e-5, atol=1e-5 * scale + 1e-9, err_msg=name)
    assert all(np.abs(getattr(forward, name)).max() > 0 for name in LEAVES if name != "knee")


def test_reverse_mode_gives_what_forward_mode_gives(forward):
    reverse = jax.jit(jax.jacrev(outputs))(zeros())
    for name in LEAVES:
        a, b = np.asarray(getattr(forward, name)), np.asarray(getattr(reverse, name))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=(1e-9 if X64 else 1e-4) * max(1.0, np.abs(a).max()))


@pytest.mark.skipif(not X64, reason="the iterations' own rounding is too large in float32")
def test_implicit_derivatives_are_those_of_the_iterations_themselves(forward):
    def unrolled(uplink_bits):
        demand = _solver.to_demand(smooth_problem().replace(uplink_bits=uplink_bits))
        demand = jax.tree.map(lambda leaf: leaf[:, None], demand)
        point = _solver.iterate(demand, _solver.start(demand), 24, EXACT)
        return jnp.concatenate([share[:, 0] for share in _solver.shares(demand, point)])

    bits = smooth_problem().uplink_bits
    expected = np.asarray(jax.jit(jax.jacfwd(unrolled))(bits)) * np.asarray(bits)
    np.testing.assert_allclose(np.asarray(forward.uplink_bits)[:9], expected, rtol=1e-5, atol=1e-8)


def test_transforms_nest():
    problem = smooth_problem()

    def cost(bandwidth_hz):
        return allocate(problem.replace(bandwidth_hz=bandwidth_hz)).objective

    bands = jnp.asarray(np.linspace(1e7, 4e7, 6), FLOAT)
    values = jax.jit(jax.vmap(cost))(bands)
    compiled = jax.jit(cost)
    single = jnp.stack([compiled(band) for band in bands])
    np.testing.assert_allclose(values, single, rtol=1e-5)
    twice = jax.jit(jax.vmap(jax.vmap(cost)))(bands.reshape(2, 3))
    np.testing.assert_allclose(twice.ravel(), single, rtol=1e-5)
    slopes = jax.jit(jax.vmap(jax.grad(cost)))(bands)
    of_vmap = jax.jit(jax.grad(lambda b: jax.vmap(cost)(b).sum()))(bands)
    np.testing.assert_allclose(of_vmap, slopes, rtol=1e-4)
    scanned = jax.jit(lambda b: jax.lax.scan(lambda total, band: (total + cost(band), None), 0.0 * b[0], b)[0])
    np.testing.assert_allclose(jax.grad(scanned)(bands), slopes, rtol=1e-4)
    # More band never costs, and the price is the derivative: objective saved per additional share of the band.
    assert (np.asarray(slopes) < 0).all()

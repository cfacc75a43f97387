"""Certificates: against converged solutions, against exhaustive search; and the status of bad values."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.allocation import SlotProblem, SolverConfig, Status, allocate, lower_bound
from jaxmec.policies import make_policy


@pytest.fixture(scope="module")
def small_systems():
    """Bound [S] and exhaustive optimum [S] of systems of three users, queues at random."""
    env, params = jaxmec.make("coinfer10", num_users=3)
    count = 64
    keys = jax.random.split(jax.random.key(3), 3)
    _, states = jax.vmap(env.reset, (0, None))(jax.random.split(keys[0], count), params)
    states = states.replace(
        device_queue=(5 * jax.random.exponential(keys[1], (count, 3))).astype(states.device_queue.dtype),
        server_queue=(5 * jax.random.exponential(keys[2], (count,))).astype(states.server_queue.dtype),
    )
    combinations = jnp.asarray(list(itertools.product(range(env.num_cuts), repeat=3)), jnp.int32)

    def value(state, cuts):
        valid = jnp.take_along_axis(env.action_mask(state, params), cuts[:, None], axis=-1).all()
        return jnp.where(valid, allocate(env.slot_problem(state, cuts, params)).objective, jnp.inf)

    best = jax.jit(lambda s: jax.lax.map(lambda one: jax.vmap(value, (None, 0))(one, combinations).min(), s))(
        states
    )

    def bound(state):
        return lower_bound(env.cut_problems(state, params), env.action_mask(state, params)).value

    bounds = jax.jit(jax.vmap(bound))(states)
    cuts = jax.jit(jax.vmap(make_policy("price", env), (0, 0, None)))(
        jax.random.split(jax.random.key(0), count), states, params
    )
    rounded = jax.jit(jax.vmap(value))(states, cuts)
    return np.asarray(bounds), np.asarray(best), np.asarray(rounded)


def test_no_cuts_whatever_are_below_the_lower_bound(small_systems):
    bounds, best, _ = small_systems
    assert (bounds <= best).all()


def test_the_lower_bound_is_tight(small_systems):
    bounds, best, _ = small_systems
    gap = 1 - bounds / best
    assert np.median(gap) <= 0.005
    assert np.percentile(gap, 95) <= 0.03


def test_the_price_policy_is_nearly_optimal(small_systems):
    _, best, rounded = small_systems
    assert (rounded >= best * (1 - 1e-5)).all()
    assert np.mean(rounded / best) <= 1.001


def test_values_outside_the_domain_are_told_and_harmless():
    good = {
        **{name: [0.1, 0.2] for name in ("device_work_s", "server_work_s")},
        "uplink_bits": [1e6, 2e6],
        **{name: [1.0, 2.0] for name in ("arrival_rate_hz", "device_power_w", "tx_power_w", "snr", "delay_price")},
        "energy_price": [0.0, 1.0],
        **{"bandwidth_hz": 1e7, "server_power_w": 10.0, "server_energy_price": 1.0, "slot_s": 1.0, "knee": 0.9},
    }
    changes = [
        {},
        {"device_work_s": [-0.1, 0.2]},
        {"bandwidth_hz": 0.0},
        {"snr": [np.nan, 1.0]},
        {"uplink_bits": [np.inf, 1e6]},
        {"delay_price": [0.0, 1.0]},
        {"knee": 1.0},
        {"server_energy_price": -1.0},
        {"arrival_rate_hz": [-1.0, 2.0]},
    ]
    rows = [good | change for change in changes]
    batch = SlotProblem(**{name: jnp.asarray([row[name] for row in rows], jnp.float32) for name in good})
    answer = jax.jit(jax.vmap(allocate))(batch)
    assert answer.status[0] == Status.OPTIMAL
    assert (answer.status[1:] == Status.OUT_OF_DOMAIN).all()
    assert (answer.duality_gap[1:] == 1.0).all()  # nothing is claimed
    slopes = jax.jit(jax.vmap(jax.grad(lambda p: allocate(p).objective)))(batch)
    for leaf in jax.tree.leaves((answer, slopes)):
        assert np.isfinite(leaf).all()


def test_outside_the_domain_the_objective_is_that_of_the_problem_that_was_asked_for():
    leaves = {name: [0.3] for name in ("device_work_s", "server_work_s")} | {"uplink_bits": [1e6]}
    leaves |= {name: [1.0] for name in ("arrival_rate_hz", "device_power_w", "tx_power_w", "snr", "delay_price")}
    leaves |= {"bandwidth_hz": 1e7, "server_power_w": 10.0, "server_energy_price": 1.0, "slot_s": 1.0, "knee": 0.9}
    leaves["energy_price"] = [2e12]  # a thousand times the largest
    problem = SlotProblem(**{name: jnp.asarray(leaf, jnp.float32) for name, leaf in leaves.items()})
    answer = allocate(problem)
    assert answer.status == Status.OUT_OF_DOMAIN
    assert answer.duality_gap == 1.0
    # Its energy alone: device .3 s at 1 W and share y (y² of it), and .1 s of radio at the whole band.
    energy = 0.3 * float(answer.device_share[0]) ** 2 + 0.1
    np.testing.assert_allclose(answer.objective, 2e12 * energy, rtol=1e-3)


def test_feeble_signals_are_certified():
    # Uplinks of minutes whose energy outweighs everything else: no device's barrier may cost the certificate.
    rng = np.random.default_rng(0)
    shape = (256, 6)

    def log_uniform(low, high, *shape):
        return np.exp(rng.uniform(np.log(low), np.log(high), shape))

    leaves = {
        "device_work_s": log_uniform(1e-3, 0.3, *shape) * (rng.random(shape) > 0.3),
        "uplink_bits": log_uniform(1e4, 2e6, *shape) * (rng.random(shape) > 0.2),
        "server_work_s": log_uniform(1e-4, 0.02, *shape),
        "arrival_rate_hz": log_uniform(1.0, 3.0, *shape),
        "device_power_w": np.full(shape, 4.0),
        "tx_power_w": np.full(shape, 0.2),
        "snr": log_uniform(1e-9, 1e-3, *shape),
        "delay_price": np.full(shape, 10.0),
        "energy_price": log_uniform(1.0, 1e7, *shape),
        **{name: np.full(256, value) for name, value in (("bandwidth_hz", 2e7), ("server_power_w", 225.0))},
        **{
            name: np.full(256, value)
            for name, value in (("server_energy_price", 1.0), ("slot_s", 1.0), ("knee", 0.9))
        },
    }
    answer = jax.jit(jax.vmap(allocate))(
        SlotProblem(**{k: jnp.asarray(v, jnp.float32) for k, v in leaves.items()})
    )
    assert (answer.status == Status.OPTIMAL).all()


def test_a_hopeless_tolerance_is_told():
    problem = SlotProblem(
        **{name: jnp.full(1, 0.3, jnp.float32) for name in ("device_work_s", "server_work_s", "energy_price")},
        uplink_bits=jnp.full(1, 1e6, jnp.float32),
        **{
            name: jnp.ones(1, jnp.float32)
            for name in ("arrival_rate_hz", "device_power_w", "tx_power_w", "snr", "delay_price")
        },
        **{name: jnp.float32(1.0) for name in ("server_power_w", "server_energy_price", "slot_s")},
        bandwidth_hz=jnp.float32(1e7),
        knee=jnp.float32(0.9),
    )
    answer = allocate(problem, SolverConfig(iterations=1, rescues=0))
    assert answer.status == Status.INEXACT
    exact = allocate(problem)
    assert exact.status == Status.OPTIMAL
    assert answer.objective * (1 - answer.duality_gap) <= exact.objective <= answer.objective * (1 + 1e-6)


@pytest.mark.parametrize("rate_hz", [0.0, 1e-6])
def test_users_with_hardly_any_requests_are_solved_exactly(rate_hz):
    # Without waiting, delay of a lone user is the sum of its full-speed stage times.
    leaves = {name: [0.1] for name in ("device_work_s", "server_work_s")}
    leaves |= {"uplink_bits": [1e6], "arrival_rate_hz": [rate_hz], "snr": [3.0], "energy_price": [0.0]}
    leaves |= {name: [1.0] for name in ("device_power_w", "tx_power_w", "delay_price")}
    leaves |= {"bandwidth_hz": 1e7, "server_power_w": 1.0, "server_energy_price": 0.0, "slot_s": 1.0, "knee": 0.9}
    answer = allocate(SlotProblem(**{name: jnp.asarray(leaf, jnp.float32) for name, leaf in leaves.items()}))
    assert answer.status == Status.OPTIMAL
    np.testing.assert_allclose(answer.objective, 0.1 + 1e6 / (1e7 * 2) + 0.1, rtol=1e-5)  # log2(1 + 3) = 2

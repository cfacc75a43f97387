"""Derivatives of the layer: central differences of every order, unrolled iterations, modes, transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.allocation import SlotProblem, SolverConfig, _allocate, _implicit, _solver, allocate, stage_times

X64 = jax.config.jax_enable_x64
FLOAT = np.float64 if X64 else np.float32
USERS = 3
OUTPUTS = 3 * USERS + 3
EXACT = SolverConfig(iterations=16, tolerance=1e-13, rescues=2)
SHARED = {"bandwidth_hz": 2e7, "server_power_w": 200.0, "slot_s": 1.0, "knee": 0.9}


def problems(count, seed=0):
    """Random float64 problems [count] in which every stage is somebody's slowest now and then."""
    rng = np.random.default_rng(seed)

    def log_uniform(low, high, *shape):
        return np.exp(rng.uniform(np.log(low), np.log(high), shape or (count, USERS)))

    present = rng.random((3, count, USERS)) > 0.2
    leaves = {
        "device_work_s": log_uniform(0.01, 1.0) * present[0],
        "uplink_bits": log_uniform(1e5, 2e7) * present[1],
        "server_work_s": log_uniform(1e-3, 0.3) * present[2],
        "arrival_rate_hz": log_uniform(0.3, 4.0),
        "device_power_w": log_uniform(3.0, 7.0),
        "tx_power_w": log_uniform(0.1, 0.3),
        "snr": log_uniform(0.1, 1e3),
        "delay_price": log_uniform(5.0, 20.0),
        "energy_price": log_uniform(0.01, 30.0),
        "server_energy_price": log_uniform(0.007, 1.0, count),
        "waiting_scale": log_uniform(0.2, 5.0),
        "backlog_price": log_uniform(0.1, 10.0),
    }
    leaves |= {name: np.full(count, value) for name, value in SHARED.items()}
    return SlotProblem(**{name: jnp.asarray(leaf, jnp.float64) for name, leaf in leaves.items()})


def smooth_problem(dtype=FLOAT):
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
        "server_energy_price": 0.05,
        **SHARED,
    }
    return SlotProblem(**{name: jnp.asarray(leaf, dtype) for name, leaf in leaves.items()})


def outputs(logs, problem, config=SolverConfig()):
    """Shares, prices and objective [OUTPUTS] of the problem with its numbers times exp(logs), flat in both."""
    leaves, structure = jax.tree.flatten(problem)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = jnp.split(logs, ends[:-1])
    changed = [leaf * jnp.exp(part.reshape(leaf.shape)) for leaf, part in zip(leaves, parts, strict=True)]
    answer = allocate(jax.tree.unflatten(structure, changed), config)
    prices = jnp.stack([answer.bandwidth_price, answer.server_price, answer.objective])
    return jnp.concatenate([answer.device_share, answer.bandwidth_share, answer.server_share, prices])


def zeros(problem, dtype=FLOAT):
    return jnp.zeros(sum(leaf.size for leaf in jax.tree.leaves(problem)), dtype)


def central_differences(function, size, step):
    """Of the fourth order, and the same with half the step: [size, ...] each, at zero."""
    offsets = np.array([[k * step * e for k in (-2, -1, -0.5, 0.5, 1, 2)] for e in np.eye(size)])
    values = jax.lax.map(function, jnp.asarray(offsets.reshape(-1, size)))
    m2, m1, mh, ph, p1, p2 = jnp.moveaxis(values.reshape(size, 6, *values.shape[1:]), 1, 0)
    return (8 * (p1 - m1) - (p2 - m2)) / (12 * step), (8 * (ph - mh) - (p1 - m1)) / (6 * step)


def relative_errors(found, differences, value):
    """[P] largest error of any pair relative to the output's largest derivative, and where differences agree.

    Differences of two steps disagree where a constraint starts or ends to bind in between; nothing but the
    function's values decides it. Derivatives of an output that does not move count relative to its size, those
    of prices to the objective's.
    """
    coarse, fine = (np.asarray(d) for d in differences)
    size = np.abs(np.asarray(value))
    size[:, -3:] = size[:, -1:]
    size = np.expand_dims(1e-3 * size + 1e-9, tuple(range(2, found.ndim)))
    scale = size + np.abs(fine).max(axis=tuple(range(2, found.ndim)), keepdims=True)
    axes = tuple(range(1, found.ndim))
    agree = (np.abs(coarse - fine) / scale).max(axes) < 1e-7
    return (np.abs(found - fine) / scale).max(axes), agree


@pytest.fixture(scope="module")
def first_derivatives():
    """Errors [P], where they count [P], and the slowest stage of every user [P, N]."""
    with jax.enable_x64(True):
        batch = problems(160)
        zero = zeros(jax.tree.map(lambda leaf: leaf[0], batch), jnp.float64)
        found = jax.jit(jax.vmap(lambda p: jax.jacfwd(lambda logs: outputs(logs, p))(zero)))(batch)
        exact = jax.vmap(lambda logs, p: outputs(logs, p, EXACT), (None, 0))
        differences = jax.jit(lambda p: central_differences(lambda logs: exact(logs, p), zero.size, 1e-3))(batch)
        differences = (jnp.moveaxis(d, 0, -1) for d in differences)
        answer = jax.jit(jax.vmap(allocate))(batch)
        times = jax.vmap(stage_times)(batch, answer.device_share, answer.bandwidth_share, answer.server_share)
        value = jax.jit(exact)(zero, batch)
    errors, count = relative_errors(np.asarray(found), differences, value)
    return errors, count, np.asarray(times).argmax(-1)


@pytest.mark.parametrize(("stage", "name"), [(0, "device"), (1, "uplink"), (2, "server")])
def test_every_output_by_every_leaf_agrees_with_central_differences(first_derivatives, stage, name):
    errors, count, slowest = first_derivatives
    assert count.mean() > 0.9
    chosen = count & (slowest == stage).any(-1)
    assert chosen.sum() >= 40, name
    assert errors[chosen].max() < 1e-6, name


@pytest.fixture(scope="module")
def forward():
    problem = smooth_problem()
    return np.asarray(jax.jit(jax.jacfwd(lambda logs: outputs(logs, problem)))(zeros(problem)))


def test_reverse_mode_gives_what_forward_mode_gives(forward):
    problem = smooth_problem()
    reverse = jax.jit(jax.jacrev(lambda logs: outputs(logs, problem)))(zeros(problem))
    np.testing.assert_allclose(forward, reverse, rtol=1e-4, atol=1e-9 if X64 else 1e-4)


def test_derivatives_in_float32_are_those_in_float64(forward):
    with jax.enable_x64(True):
        problem = smooth_problem(np.float64)
        exact = jax.jit(jax.jacfwd(lambda logs: outputs(logs, problem)))(zeros(problem, np.float64))
    np.testing.assert_allclose(forward, exact, rtol=1e-3, atol=1e-3)


def test_implicit_derivatives_are_those_of_the_iterations_themselves():
    with jax.enable_x64(True):
        problem = smooth_problem(np.float64)

        def unrolled(uplink_bits):
            demand = _solver.to_demand(problem.replace(uplink_bits=uplink_bits))
            demand = jax.tree.map(lambda leaf: leaf[:, None], demand)
            point = _solver.iterate(demand, _solver.start(demand), 24, EXACT)
            return jnp.concatenate([share[:, 0] for share in _solver.shares(demand, point)])

        def implicit(uplink_bits):
            answer = allocate(problem.replace(uplink_bits=uplink_bits))
            return jnp.concatenate([answer.device_share, answer.bandwidth_share, answer.server_share])

        bits = problem.uplink_bits
        expected, found = (
            np.asarray(jax.jit(jax.jacfwd(f))(bits)) * np.asarray(bits) for f in (unrolled, implicit)
        )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def second_derivatives():
    """Differences [P, O, D, D] of exact first derivatives, where they count [P], their scale, and the problems."""
    with jax.enable_x64(True):
        batch = problems(12, seed=1)
        zero = zeros(jax.tree.map(lambda leaf: leaf[0], batch), jnp.float64)
        exact = jax.vmap(lambda logs, p: jax.jacrev(lambda x: outputs(x, p))(logs), (None, 0))
        differences = jax.jit(lambda p: central_differences(lambda logs: exact(logs, p), zero.size, 1e-3))(batch)
        differences = tuple(np.moveaxis(np.asarray(d), 0, -1) for d in differences)
        value = jax.jit(jax.vmap(lambda p: outputs(zero, p)))(batch)
    return batch, zero, differences, value


def test_second_derivatives_of_everything_are_differences_of_first_derivatives(second_derivatives):
    batch, zero, differences, value = second_derivatives
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(lambda p: jax.jacfwd(jax.jacrev(lambda x: outputs(x, p)))(zero)))(batch)
    errors, count = relative_errors(np.asarray(found), differences, value)
    assert count.sum() >= 8
    assert errors[count].max() < 1e-6
    hessian = np.asarray(found)[:, -1]
    scale = np.asarray(value)[:, -1, None, None]
    np.testing.assert_allclose(hessian / scale, hessian.mT / scale, atol=1e-10)


def test_reverse_over_both_modes_gives_the_same_second_derivatives(second_derivatives):
    batch, zero, (_, fine), value = second_derivatives
    problem, scale = jax.tree.map(lambda leaf: leaf[0], batch), np.asarray(value)[0, -1]

    def objective(logs):
        return outputs(logs, problem)[-1]

    with jax.enable_x64(True):
        direction = jnp.asarray(np.random.default_rng(0).normal(size=zero.size))

        @jax.jit
        def along(x):
            return (
                jax.grad(lambda x: jax.jvp(objective, (x,), (direction,))[1])(x),
                jax.grad(lambda x: jnp.vdot(jax.grad(objective)(x), direction))(x),
            )

        products = [np.asarray(value) for value in along(zero)]
    for product in products:
        np.testing.assert_allclose(product, fine[0, -1] @ np.asarray(direction), atol=1e-6 * scale)


def test_what_is_bound_moves_with_its_multiplier_to_the_last_digits():
    # A device at full speed that is the slowest stage, too: further derivatives are divided by what is nearly nothing.
    with jax.enable_x64(True):
        batch = problems(48, seed=1)

        def moved(problem):
            demand = _solver.to_demand(problem)
            answer = _allocate._solution(SolverConfig(), demand)
            return answer.point, _implicit.tangent(demand, answer.point, jax.tree.map(jnp.sin, demand))

        point, dot = jax.jit(jax.vmap(moved))(batch)
    slack, room = np.asarray(point.slack[0]), -np.asarray(point.x[0])
    rigid = (np.asarray(batch.device_work_s) > 0) & (slack < 1e-9) & (room < 1e-9)
    assert rigid.sum() >= 20
    for small, change, multiplier, other in (
        (slack, dot.slack[0], point.z[0], dot.z[0]),
        (room, -dot.x[0], point.q, dot.q),
    ):
        products = np.asarray(multiplier * change), small * np.asarray(other)  # which stay what they are
        np.testing.assert_allclose(products[0][rigid], -products[1][rigid], rtol=1e-9)


def test_third_derivatives_are_differences_of_second_derivatives():
    with jax.enable_x64(True):
        problem = smooth_problem(np.float64)

        def band(log):
            return allocate(
                problem.replace(snr=problem.snr * jnp.exp(log * jnp.array([1.0, 0, 0])))
            ).bandwidth_share[0]

        second = jax.grad(jax.grad(band))
        orders = jax.jit(lambda x: (second(x), jax.jvp(second, (x,), (1.0,))[1]))
        step = 1e-3
        (low, _), (_, third), (high, _) = (orders(k * step) for k in (-1.0, 0.0, 1.0))
    np.testing.assert_allclose(third, (float(high) - float(low)) / (2 * step), rtol=1e-4)


def test_transforms_nest():
    problem = smooth_problem()

    def cost(bandwidth_hz):
        return allocate(problem.replace(bandwidth_hz=bandwidth_hz)).objective

    bands = jnp.asarray(np.linspace(1e7, 4e7, 6), FLOAT)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(cost)))(bands)
    of_vmap = jax.jit(jax.grad(lambda b: jax.vmap(cost)(b).sum()))(bands)
    np.testing.assert_allclose(of_vmap, slopes, rtol=1e-4)

    def scanned(bands):
        return jax.lax.scan(lambda total, band: (total + cost(band), None), 0.0 * bands[0], bands)[0]

    total, of_scan = jax.jit(jax.value_and_grad(scanned))(bands)
    np.testing.assert_allclose(total, values.sum(), rtol=1e-5)
    np.testing.assert_allclose(of_scan, slopes, rtol=1e-4)
    # More band never costs, and the price is the derivative: objective saved per additional share of the band.
    assert (np.asarray(slopes) < 0).all()

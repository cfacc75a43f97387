"""The Lagrangian bound: users' costs against nested golden sections, the maximum against a grid that zooms in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_systems import as_float64, dual_maxima, exhaustive_optima, random_systems

import jaxmec
from jaxmec.allocation import SlotProblem, cut_costs, lower_bound, round_bound
from jaxmec.delay import waiting_time

PRICES = [(0.0, 0.0), (0.0, 3.0), (2e-3, 0.5), (5.0, 0.0), (40.0, 7.0), (3e3, 8e2)]


def golden(function, low, high, steps=70):
    """Least value of an elementwise convex function between two arrays."""
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(steps):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        smaller = function(left) < function(right)
        low, high = np.where(smaller, low, left), np.where(smaller, right, high)
    return function(0.5 * (low + high))


def costs_by_search(problem, band_price, server_price):
    """φ [N, K] in float64: over the slowest time, and in it over the shares of each stage."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), problem)
    rate, delay, snr = p.arrival_rate_hz[:, None], p.delay_price[:, None], p.snr[:, None]
    energy = p.energy_price[:, None] * p.slot_s * rate

    def uplink_s(y):
        return p.uplink_bits / (p.bandwidth_hz * y * np.log2(1.0 + snr / y))

    def share_for(theta):
        low, high = np.full(theta.shape, 1e-12), np.ones(theta.shape)
        for _ in range(60):
            middle = np.sqrt(low * high)
            fast = uplink_s(middle) <= theta
            low, high = np.where(fast, low, middle), np.where(fast, middle, high)
        return high

    def least(cost, work, lowest_share):
        x = golden(lambda x: cost(np.exp(x)), np.log(np.maximum(lowest_share, 1e-12)), np.zeros(work.shape), 50)
        return np.where(work > 0, x, 0.0)

    def at(log_theta):
        theta = np.exp(log_theta)
        device = least(
            lambda y: delay * p.device_work_s / y + energy * p.device_power_w[:, None] * p.device_work_s * y**2,
            p.device_work_s,
            p.device_work_s / theta,
        )
        uplink = least(
            lambda y: (delay + energy * p.tx_power_w[:, None]) * uplink_s(y) + band_price * y,
            p.uplink_bits,
            share_for(theta),
        )
        burn = p.server_energy_price * p.server_power_w * p.slot_s * rate * p.server_work_s
        server = least(
            lambda y: delay * p.server_work_s / y + burn * y**2 + server_price * y,
            p.server_work_s,
            p.server_work_s / theta,
        )
        waiting = np.asarray(waiting_time(theta, rate, p.knee))
        return device + uplink + server + delay * waiting

    shortest = np.maximum(np.maximum(p.device_work_s, uplink_s(1.0)), p.server_work_s)
    return golden(at, np.log(shortest), np.log(shortest) + 12.0, 45)


@pytest.fixture(scope="module")
def searched():
    """Random systems, their cuts, and users' costs at all pairs of prices."""
    problems, masks = random_systems(4, 4)
    with jax.enable_x64(True):
        expected = [
            [costs_by_search(jax.tree.map(lambda leaf, i=i: leaf[i], problems), *pair) for pair in PRICES]
            for i in range(4)
        ]
    return problems, masks, expected


@pytest.mark.parametrize("double", [False, True])
def test_users_costs_at_prices_are_those_of_a_nested_search(searched, double):
    problems, masks, expected = searched
    with jax.enable_x64(double):
        dtype = np.float64 if double else np.float32
        typed = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), problems)
        pairs = jnp.asarray(PRICES, dtype)
        costs = jax.jit(jax.vmap(jax.vmap(cut_costs, (None, 0, 0)), (0, None, None)))(
            typed, pairs[:, 0], pairs[:, 1]
        )
        costs = np.asarray(costs, np.float64)
    valid = np.broadcast_to(np.asarray(masks)[:, None], costs.shape)
    short = 1.0 - (costs / np.asarray(expected))[valid]
    assert short.min() >= -1e-9  # the search's own error
    assert np.percentile(short, 99) <= 1e-5
    assert short.max() <= 5e-3


@pytest.mark.parametrize(("num_users", "count"), [(1, 48), (3, 48), (10, 12)])
def test_the_bound_is_the_duals_maximum(num_users, count):
    problems, masks = random_systems(num_users, count, seed=num_users)
    bound = jax.jit(jax.vmap(lower_bound))(problems, masks)
    expected = dual_maxima(problems, masks)
    value = np.asarray(bound.value, np.float64)
    assert (value >= expected * (1.0 - 1e-4)).all()
    assert (np.asarray(bound.uncertainty) <= 1e-4).all()
    # At the prices that it names, the dual has the value that it claims.
    with jax.enable_x64(True):
        wide = as_float64(problems)
        prices = (
            jnp.asarray(np.asarray(leaf), jnp.float64) for leaf in (bound.bandwidth_price, bound.server_price)
        )
        costs = np.asarray(jax.jit(jax.vmap(cut_costs))(wide, *prices))
    there = np.where(masks, costs, np.inf).min(axis=-1).sum(axis=-1)
    there -= np.asarray(bound.bandwidth_price, np.float64) + np.asarray(bound.server_price, np.float64)
    np.testing.assert_allclose(value, there, rtol=1e-5)


def test_where_nothing_is_scarce_the_bound_is_the_optimum():
    group = {
        "networks": {"mobilenet_v2": 1},
        "devices": {"snapdragon_855": 1, "raspberry_pi_5": 1},
        "energy_budget_j": {"snapdragon_855": 0.15, "raspberry_pi_5": 0.2},
        "arrival_rate_hz": [1, 10],
        "count": 3,
    }
    env, params = jaxmec.make(
        "coinfer10",
        users=[group],
        server={"device": "epyc_7742", "energy_budget_j": 2.0},
        radio={"bandwidth_hz": 10e6},
        arrivals={"process": "markov"},
    )
    states = jax.vmap(lambda seed: env.reset(jax.random.key(seed), params)[1])(jnp.arange(8))
    problems = jax.vmap(env.cut_problems, (0, None))(states, params)
    masks = jax.vmap(env.action_mask, (0, None))(states, params)
    best = exhaustive_optima(problems, masks)
    value = np.asarray(jax.jit(jax.vmap(lower_bound))(problems, masks).value)
    assert (value <= best).all()
    np.testing.assert_allclose(value, best, rtol=1e-4)


def test_regrets_bound_what_a_users_other_cuts_can_reach():
    problems, masks = random_systems(3, 8, ("mobilenet_v2", "alexnet"), seed=5)
    bounds = jax.jit(jax.vmap(lower_bound))(problems, masks)
    for cut in range(masks.shape[-1]):
        forced = masks.at[:, 0].set(masks[:, 0] & (jnp.arange(masks.shape[-1]) == cut)[None])
        possible = np.asarray(masks)[:, 0, cut]
        best = exhaustive_optima(problems, forced)
        claimed = np.asarray(bounds.value + bounds.regret[:, 0, cut])
        assert (claimed[possible] <= best[possible] * (1.0 + 1e-6)).all()


def test_time_behind_the_last_stage_rules_cuts_out_as_a_mask_does():
    problem = SlotProblem(
        device_work_s=jnp.asarray([[0.0, 0.1, 0.3], [0.0, 0.2, 0.5]]),
        uplink_bits=jnp.asarray([[1e6, 2e5, 0.0], [2e6, 1e6, 0.0]]),
        server_work_s=jnp.asarray([[0.02, 0.01, 0.0], [0.05, 0.02, 0.0]]),
        arrival_rate_hz=jnp.asarray([1.0, 1.5]),
        device_power_w=jnp.asarray([4.0, 6.0]),
        tx_power_w=jnp.asarray([0.2, 0.2]),
        snr=jnp.asarray([30.0, 100.0]),
        delay_price=jnp.asarray([10.0, 20.0]),
        energy_price=jnp.asarray([1.0, 2.0]),
        bandwidth_hz=jnp.asarray(2e6),
        server_power_w=jnp.asarray(200.0),
        server_energy_price=jnp.asarray(0.1),
        slot_s=jnp.asarray(1.0),
        knee=jnp.asarray(0.9),
    )

    @jax.jit
    def solved(return_s, mask):
        of_cuts = problem.replace(return_s=return_s)
        bound = lower_bound(of_cuts, mask)
        return bound, round_bound(of_cuts, bound), cut_costs(of_cuts, bound.bandwidth_price, bound.server_price)

    rows, cuts, seconds = jnp.arange(2), jnp.asarray([1, 2]), jnp.asarray([0.25, 0.5])
    only = jnp.zeros((2, 3), bool).at[rows, cuts].set(True)
    return_s = jnp.full((2, 3), 1e3).at[rows, cuts].set(seconds)
    masked, masked_rounding, _ = solved(jnp.zeros((2, 3)), only)
    bound, rounding, costs = solved(return_s, jnp.ones((2, 3), bool))
    added = 10.0 * 0.25 + 20.0 * 0.5
    np.testing.assert_array_equal(bound.cuts, cuts)
    np.testing.assert_array_equal(rounding.cuts, cuts)
    np.testing.assert_allclose(bound.value, masked.value + added, rtol=1e-4)
    np.testing.assert_allclose(rounding.objective, masked_rounding.objective + added, rtol=1e-5)
    # A cut that is ruled out costs what its seconds do, and less than 100 besides.
    difference = costs - jnp.asarray([[10.0], [20.0]]) * return_s
    assert ((difference > 0) & (difference < 100)).all()
    np.testing.assert_allclose(
        bound.regret, costs - jnp.take_along_axis(costs, cuts[:, None], axis=1), rtol=1e-5, atol=1e-3
    )

"""Closed-form costs: by hand, and against the exact allocation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.closed_form import _headroom, cheapest_cuts, expected_costs
from jaxmec.evaluation import objectives_at
from jaxmec.policies import make_policy


@pytest.fixture(scope="module")
def system():
    env, params = jaxmec.make("coinfer10")
    state = jax.jit(lambda key: env.reset(key, params)[1])(jax.random.key(0))
    return env, params, state.replace(device_queue=jnp.full_like(state.device_queue, 4.0))


def test_expected_cost_of_a_local_cut_is_near_that_of_the_best_speed(system):
    env, params, state = system
    problem = jax.tree.map(lambda x: np.asarray(x, np.float64), env.cut_problems(state, params))
    mask = env.action_mask(state, params)
    stages, cost = expected_costs(env.cut_problems(state, params), mask)
    for n in range(10):
        last = int(mask[n].sum()) - 1
        work, rate = problem.device_work_s[n, last], problem.arrival_rate_hz[n]
        energy = problem.energy_price[n] * problem.slot_s * rate * problem.device_power_w[n]
        speed = np.linspace(1e-3, 1, 100_001)
        load = rate * work / speed
        slope = 0.5 * ((1 - problem.knee) ** -2 - 1)
        inside = np.minimum(load, problem.knee)
        wait = (inside**2 / (2 * (1 - inside)) + slope * (load - inside)) / rate
        by_speed = problem.delay_price[n] * (work / speed + wait) + energy * work * speed**2
        # The closed form does not know that past the knee waiting is only linear.
        within = 1.1 if load[np.argmin(by_speed)] < problem.knee else 1.2
        assert 0.9999 < cost[n, last] / by_speed.min() < within
        np.testing.assert_allclose([stage[n, last] for stage in stages[1:]], 0.0)


def test_time_behind_the_last_stage_is_paid_and_seen(system):
    env, params, state = system
    problem, mask = env.cut_problems(state, params), env.action_mask(state, params)
    costs = jax.jit(lambda return_s: expected_costs(problem.replace(return_s=return_s), mask)[1])
    same = jnp.broadcast_to(jnp.arange(10.0)[:, None], mask.shape)  # for all cuts of a user: none becomes better
    difference = costs(same) - costs(0.0 * same)
    np.testing.assert_allclose(difference, problem.delay_price[:, None] * same, rtol=1e-4, atol=1e-3)
    # Where only the device's own result need not return, it is best.
    last = jnp.sum(mask, axis=-1) - 1
    away = jnp.where(jnp.arange(mask.shape[1])[None] == last[:, None], 0.0, 1e4)
    np.testing.assert_array_equal(jnp.argmin(jnp.where(mask, costs(away), jnp.inf), axis=-1), last)


@pytest.mark.parametrize(
    ("scale", "within"), [(None, 1.001), (0.1, 1.04), (1.0, 1.001), (4.0, 1.001), (30.0, 1.06)]
)
@pytest.mark.parametrize("load", [0.01, 0.3, 1.0, 3.0])
def test_headroom_gives_nearly_the_best_share_of_a_slowest_stage(load, scale, within):
    # One second of work at rent one: the share is 1 without waiting.
    share = np.linspace(load + 1e-3, load + 15.0, 600_001)
    seconds = 1 / share
    cost = seconds + (1.0 if scale is None else scale) * load * seconds**2 / (2 * (1 - load * seconds)) + share
    found = 1.0 + float(_headroom(jnp.asarray(1.0), jnp.asarray(load), scale))
    assert np.interp(found, share, cost) < within * cost.min()
    if scale is None:
        np.testing.assert_allclose(found, share[np.argmin(cost)], rtol=0.03)


@pytest.mark.parametrize(("bandwidth_hz", "within"), [(20e6, 1.005), (3e6, 1.03)])
def test_expected_costs_point_at_cuts_near_the_best(system, bandwidth_hz, within):
    env, params, _ = system
    params = params.replace(bandwidth_hz=jnp.asarray(bandwidth_hz))
    _, states = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(1), 64), params)
    queues = jax.random.uniform(jax.random.key(2), states.device_queue.shape, maxval=20.0)
    states = states.replace(device_queue=queues, server_queue=jnp.full_like(states.server_queue, 5.0))

    policies = {name: make_policy(name, env) for name in ("closed_form", "best_response", "greedy")}
    closed, best, greedy = objectives_at(env, policies, jax.random.key(0), params, states).values()
    assert closed.mean() < within * best.mean()
    assert greedy.mean() > 1.02 * best.mean()  # the states are not trivial


def test_expected_costs_by_hand_for_one_user_who_only_sends():
    # Alone, without waiting and energy, the clearing rent of the whole band equals the cost of the time it takes.
    # The first guess is (0.6 √cost)², and halfway to the clearing rent in the logarithm is 0.6 of the cost.
    env, params = jaxmec.make("coinfer10", num_users=1)
    _, state = env.reset(jax.random.key(3), params)
    problem = env.cut_problems(state, params)
    problem = problem.replace(
        device_work_s=jnp.zeros_like(problem.device_work_s),
        server_work_s=jnp.zeros_like(problem.server_work_s),
        uplink_bits=jnp.full_like(problem.uplink_bits, 1e5),
        arrival_rate_hz=jnp.full_like(problem.arrival_rate_hz, 1e-3),
    )
    stages, cost = expected_costs(problem, env.action_mask(state, params))
    seconds = 1e5 / (float(problem.bandwidth_hz) * np.log2(1 + float(problem.snr[0])))
    np.testing.assert_allclose(stages[1][0], seconds, rtol=1e-5)
    np.testing.assert_allclose(cost[0], 1.6 * float(problem.delay_price[0]) * seconds, rtol=1e-3)

    # At a capacity, bits / (share capacity); with a price of the load, cost and rent are those of price + backlog rate.
    told = {"capacity_bps": 2e6, "waiting_scale": 0.0, "backlog_price": 3e4}
    problem = problem.replace(**{name: jnp.asarray([value]) for name, value in told.items()})
    stages, cost = expected_costs(problem, env.action_mask(state, params))
    np.testing.assert_allclose(stages[1][0], 1e5 / 2e6, rtol=1e-5)
    np.testing.assert_allclose(cost[0], 1.6 * (float(problem.delay_price[0]) + 3e4 * 1e-3) * 0.05, rtol=1e-3)


def test_cheapest_cuts_are_valid_and_those_of_least_expected_cost(system):
    env, params, state = system
    problem, mask = env.cut_problems(state, params), np.asarray(env.action_mask(state, params))
    cuts = np.asarray(cheapest_cuts(problem, mask))
    cost = np.where(mask, expected_costs(problem, mask)[1], np.inf)
    np.testing.assert_array_equal(cuts, cost.argmin(axis=-1))
    np.testing.assert_array_equal(cuts, make_policy("closed_form", env)(jax.random.key(0), state, params))

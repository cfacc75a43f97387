"""Features: their layout, and the closed-form costs against the exact allocation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.allocation import allocate
from jaxmec.features import equal_share_costs, expected_costs, log_expected_cost, observation_size, unpack
from jaxmec.policies import make_policy


@pytest.fixture(scope="module")
def system():
    env, params = jaxmec.make("coinfer10")
    _, state = env.reset(jax.random.key(0), params)
    return env, params, state.replace(device_queue=jnp.full_like(state.device_queue, 4.0))


def test_rows_unpack_into_what_the_problem_holds(system):
    env, params, state = system
    obs = env.observe(state, params)
    assert obs.shape == (10, observation_size(env.num_cuts))
    users, cuts = unpack(obs, env.num_cuts)
    problem = env.cut_problems(state, params)
    np.testing.assert_allclose(users[:, 0], np.log10(problem.arrival_rate_hz + 1e-4), rtol=1e-5)
    np.testing.assert_allclose(users[:, 1], np.log10(problem.snr), rtol=1e-5)
    np.testing.assert_allclose(users[:, 6], 1.0, rtol=1e-6)  # ten users
    assert cuts.shape == (10, env.num_cuts, 7)


def test_what_users_expect_can_be_read_from_the_observation(system):
    env, params, state = system
    mask = np.asarray(env.action_mask(state, params))
    _, cost = expected_costs(env.cut_problems(state, params), env.action_mask(state, params))
    least = np.where(mask, cost, np.inf).min(axis=-1)
    log_cost = log_expected_cost(env.observe(state, params), env.num_cuts)
    np.testing.assert_allclose(log_cost, np.log(least), atol=2e-3)


def test_equal_share_cost_of_a_local_cut_by_hand(system):
    env, params, state = system
    problem = jax.tree.map(lambda x: np.asarray(x, np.float64), env.cut_problems(state, params))
    stages, cost = equal_share_costs(env.cut_problems(state, params))
    for n in range(10):
        last = int(env.action_mask(state, params)[n].sum()) - 1
        work, rate = problem.device_work_s[n, last], problem.arrival_rate_hz[n]
        energy = problem.energy_price[n] * problem.slot_s * rate * problem.device_power_w[n]
        speeds = np.linspace(1e-3, 1, 200_001)
        speed = speeds[np.argmin(problem.delay_price[n] / speeds + energy * speeds**2)]
        load = rate * work / speed
        slope = 0.5 * ((1 - problem.knee) ** -2 - 1)
        inside = min(load, problem.knee)
        wait = (inside**2 / (2 * (1 - inside)) + slope * (load - inside)) / rate
        by_hand = problem.delay_price[n] * (work / speed + wait) + energy * work * speed**2
        np.testing.assert_allclose([stage[n, last] for stage in stages], [work / speed, 0, 0], rtol=1e-3)
        np.testing.assert_allclose(cost[n, last], by_hand, rtol=1e-3)


def test_expected_costs_point_at_cuts_near_the_best(system):
    env, params, _ = system
    _, states = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(1), 64), params)
    queues = jax.random.uniform(jax.random.key(2), states.device_queue.shape, maxval=20.0)
    states = states.replace(device_queue=queues, server_queue=jnp.full_like(states.server_queue, 5.0))

    def objectives(name):
        policy = make_policy(name, env)

        def one(state):
            cuts = policy(jax.random.key(0), state, params)
            return allocate(env.slot_problem(state, cuts, params)).objective

        return np.asarray(jax.jit(jax.vmap(one))(states))

    closed, best, greedy = (objectives(name) for name in ("closed_form", "best_response", "greedy"))
    assert closed.mean() < 1.02 * best.mean()
    assert greedy.mean() > 1.02 * best.mean()  # the states are not trivial


def test_expected_costs_are_exact_for_one_user_who_only_sends():
    # Alone, without waiting and energy, the rent of the whole band equals the cost of the time it takes.
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
    np.testing.assert_allclose(cost[0], 2 * float(problem.delay_price[0]) * seconds, rtol=1e-3)

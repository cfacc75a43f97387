"""Observations: their layout, what can be read from them, and features that are held."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.closed_form import expected_costs
from jaxmec.observation import CUT_FEATURES, USER_FEATURES, Observation, log_expected_cost, observation_size


@pytest.fixture(scope="module")
def system():
    env, params = jaxmec.make("coinfer10")
    state = jax.jit(lambda key: env.reset(key, params)[1])(jax.random.key(0))
    return env, params, state.replace(device_queue=jnp.full_like(state.device_queue, 4.0))


def test_rows_unpack_into_what_the_problem_holds(system):
    env, params, state = system
    obs = env.observe(state, params)
    assert obs.shape == (10, observation_size(env.num_cuts))
    users, cuts, exists = env.unpack(obs)
    problem = env.cut_problems(state, params)
    np.testing.assert_allclose(users[:, 0], np.log10(problem.arrival_rate_hz + 1e-4), rtol=1e-5)
    np.testing.assert_allclose(users[:, 1], np.log10(problem.snr), rtol=1e-5)
    np.testing.assert_allclose(users[:, 6], 1.0, rtol=1e-6)  # ten users
    mask = np.asarray(env.action_mask(state, params))
    _, cost = expected_costs(problem, mask)
    dearer = np.where(mask, cost, np.inf) / np.where(mask, cost, np.inf).min(axis=-1, keepdims=True)
    np.testing.assert_array_equal(cuts[..., 0], mask)
    np.testing.assert_array_equal(exists, mask)
    np.testing.assert_allclose(cuts[..., 4][mask], np.log10(dearer[mask]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(cuts[..., 5][mask], 1 - 0.03 / (dearer[mask] - 0.97), rtol=1e-3, atol=1e-4)


def test_what_users_expect_can_be_read_from_the_observation(system):
    env, params, state = system
    mask = np.asarray(env.action_mask(state, params))
    _, cost = expected_costs(env.cut_problems(state, params), env.action_mask(state, params))
    least = np.where(mask, cost, np.inf).min(axis=-1)
    log_cost = log_expected_cost(env.observe(state, params))
    np.testing.assert_allclose(log_cost, np.log(least), atol=2e-3)


def test_held_features_show_a_constant_and_the_others_their_own(system):
    env, params, state = system
    problem, mask = env.cut_problems(state, params), env.action_mask(state, params)
    held = Observation(held=(("snr", 2.0), ("server seconds", -1.0)))
    full, partly = env.observation.observe(problem, mask), held.observe(problem, mask)
    constant = np.zeros(observation_size(env.num_cuts), bool)
    constant[USER_FEATURES.index("snr")] = True
    views = held.unpack(partly, env.num_cuts)
    np.testing.assert_array_equal(views.users[:, USER_FEATURES.index("snr")], 2.0)
    np.testing.assert_array_equal(views.options[..., CUT_FEATURES.index("server seconds")], -1.0)
    constant[len(USER_FEATURES) + CUT_FEATURES.index("server seconds") :: len(CUT_FEATURES)] = True
    assert constant.sum() == 1 + env.num_cuts
    np.testing.assert_array_equal(np.asarray(partly)[:, ~constant], np.asarray(full)[:, ~constant])
    with pytest.raises(ValueError, match="held: got 'weather'; allowed are arrival rate, snr"):
        Observation(held=(("weather", 0.0),))


def test_the_closed_form_of_the_observation_reads_the_scenarios_knee(system):
    # Overloaded: past a later knee the waiting time is steeper, so every user expects to pay more.
    env, params, state = system
    slow = params.replace(device_work_s=20 * params.device_work_s, server_work_s=20 * params.server_work_s)
    early, late = (
        log_expected_cost(env.observe(state, slow.replace(knee=jnp.asarray(knee)))) for knee in (0.5, 0.95)
    )
    assert (late > early + 0.05).any()
    assert (late >= early - 1e-3).all()

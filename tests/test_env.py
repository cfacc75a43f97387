"""The environment: by hand, against the allocation layer, and its promises about shapes and transforms."""

import copy
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxmec.features import unpack

import jaxmec
from jaxmec.allocation import allocate


@pytest.fixture(scope="module")
def system():
    return jaxmec.make("coinfer4")


def random_action(env, key, state, params):
    return jax.random.categorical(key, jnp.where(env.action_mask(state, params), 0.0, -jnp.inf))


def rollout(env, key, params, num_slots):
    key_reset, key_run = jax.random.split(key)

    def slot(carry, key):
        _, state = carry
        key_action, key_step = jax.random.split(key)
        action = random_action(env, key_action, state, params)
        next_obs, next_state, reward, terminated, truncated, info = env.step(key_step, state, action, params)
        return (next_obs, next_state), (state, next_obs, reward, terminated, truncated, info)

    return jax.lax.scan(slot, env.reset(key_reset, params), jax.random.split(key_run, num_slots))[1]


@pytest.fixture(scope="module")
def trajectory(system):
    env, params = system
    run = jax.jit(jax.vmap(rollout, in_axes=(None, 0, None, None)), static_argnums=(0, 3))
    return run(env, jax.random.split(jax.random.key(0), 8), params.replace(episode_slots=jnp.asarray(20)), 45)


def test_environments_of_equal_shape_are_equal_hash_alike_and_survive_copies(system):
    env, params = system
    other, other_params = jaxmec.make("coinfer4", radio={"bandwidth_hz": 1e6})
    assert env == other
    assert hash(env) == hash(other)
    assert other_params.bandwidth_hz != params.bandwidth_hz
    assert pickle.loads(pickle.dumps(env)) == env == copy.deepcopy(env)
    assert env != jaxmec.make("coinfer10")[0]


def test_equal_environments_share_one_compilation():
    traced = chex.assert_max_traces(lambda env, key, params: env.reset(key, params)[0], n=1)
    reset = jax.jit(traced, static_argnums=0)
    for bandwidth_hz in (1e6, 2e6):
        env, params = jaxmec.make("coinfer4", radio={"bandwidth_hz": bandwidth_hz})
        reset(env, jax.random.key(0), params)


def test_rollout_has_the_promised_shapes_and_is_finite(system, trajectory):
    env, params = system
    state, obs, reward, terminated, _, info = trajectory
    space = env.observation_space(params)
    assert obs.shape == (8, 45, *space.shape)
    assert obs.dtype == jnp.float32
    assert info["final_observation"].shape == obs.shape
    assert env.action_space(params).shape == (env.num_users,)
    assert not terminated.any()
    chex.assert_tree_all_finite((state, obs, reward, info))
    assert (info["delay_s"] > 0).all()
    assert (info["duality_gap"] >= 0).all()


def test_episodes_end_by_truncation_and_draw_a_new_population(trajectory):
    state, obs, _, _, truncated, info = trajectory
    assert (np.flatnonzero(truncated[0]) == [19, 39]).all()
    np.testing.assert_array_equal(state.slot[0, :41], list(range(20)) * 2 + [0])
    assert (state.device_queue[:, 20] == 0).all()
    moved = np.abs(state.mean_gain[:, 20] - state.mean_gain[:, 19]) > 0
    assert moved.all()
    np.testing.assert_array_equal(state.mean_gain[:, 0], state.mean_gain[:, 19])
    ended = np.asarray(truncated)
    assert (np.asarray(obs)[ended] != np.asarray(info["final_observation"])[ended]).any()
    np.testing.assert_allclose(obs[~ended], info["final_observation"][~ended], rtol=1e-4, atol=1e-5)


def test_reward_is_the_drift_plus_penalty_of_what_info_reports(system, trajectory):
    env, params = system
    state, _, reward, _, _, info = trajectory
    budget = jax.vmap(jax.vmap(env.device_budget_j, (0, None)), (0, None))(state, params)
    v = float(params.tradeoff)
    cost = (
        v * (np.asarray(params.delay_weight) * np.asarray(info["delay_s"])).sum(-1)
        + (state.device_queue * (info["device_energy_j"] / budget - 1)).sum(-1)
        + state.server_queue * (info["server_energy_j"] / params.server_budget_j - 1)
    )
    np.testing.assert_allclose(reward, -cost / (v * env.num_users), rtol=2e-4, atol=1e-5)


def test_queues_follow_their_recursion(system, trajectory):
    env, params = system
    state, _, _, _, _, info = trajectory
    budget = jax.vmap(jax.vmap(env.device_budget_j, (0, None)), (0, None))(state, params)
    expected = np.maximum(state.device_queue + info["device_energy_j"] / budget - 1, 0)
    np.testing.assert_allclose(state.device_queue[:, 1:19], expected[:, :18], rtol=1e-5, atol=1e-6)


def test_objective_is_that_of_the_slot_problem(system):
    env, params = system
    _, state = env.reset(jax.random.key(3), params)
    action = jnp.zeros(env.num_users, jnp.int32)
    info = env.step_env(jax.random.key(4), state, action, params)[4]
    expected = allocate(env.slot_problem(state, action, params)).objective
    np.testing.assert_allclose(info["objective"], expected, rtol=1e-6)


def test_slot_problem_picks_the_chosen_cut_of_cut_problems(system):
    env, params = system
    _, state = env.reset(jax.random.key(5), params)
    every = env.cut_problems(state, params)
    action = jnp.arange(env.num_users, dtype=jnp.int32)
    chosen = env.slot_problem(state, action, params)
    for name in ("device_work_s", "uplink_bits", "server_work_s"):
        table = np.asarray(getattr(every, name))
        assert table.shape == (env.num_users, env.num_cuts)
        np.testing.assert_array_equal(getattr(chosen, name), table[np.arange(env.num_users), action])


@pytest.mark.parametrize(("asked", "runs"), [(999, "last"), (-3, "first")])
def test_wrong_cuts_become_the_nearest_valid_one_and_are_flagged(system, asked, runs):
    env, params = system
    _, state = env.reset(jax.random.key(6), params)
    action = jnp.full(env.num_users, asked, jnp.int32)
    info = env.step(jax.random.key(7), state, action, params)[5]
    last = np.asarray(env.action_mask(state, params)).sum(-1) - 1
    np.testing.assert_array_equal(info["cut"], last if runs == "last" else np.zeros_like(last))
    assert info["invalid_action"].all()


def test_actions_do_not_move_channel_and_arrivals(system):
    env, params = system
    _, state = env.reset(jax.random.key(8), params)
    last = jnp.sum(env.action_mask(state, params), axis=-1, dtype=jnp.int32) - 1
    key = jax.random.key(9)
    a, b = (env.step_env(key, state, action, params)[1] for action in (jnp.zeros_like(last), last))
    chex.assert_trees_all_equal((a.fading, a.workload), (b.fading, b.workload))


def test_params_can_be_vmapped_over(system):
    env, params = system
    _, state = env.reset(jax.random.key(10), params)
    action = jnp.zeros(env.num_users, jnp.int32)

    def delay(bandwidth_hz):
        info = env.step_env(jax.random.key(11), state, action, params.replace(bandwidth_hz=bandwidth_hz))[4]
        return info["delay_s"]

    delays = jax.vmap(delay)(jnp.array([5e6, 10e6, 20e6]))
    assert (np.diff(delays.sum(axis=-1)) < 0).all()  # more band, less delay


def test_step_is_differentiable_with_the_envelope_gradient(system):
    env, params = system
    _, state = env.reset(jax.random.key(12), params)
    state = state.replace(device_queue=jnp.full_like(state.device_queue, 3.0))
    action = jnp.ones(env.num_users, jnp.int32)

    def reward(log_bandwidth):
        changed = params.replace(bandwidth_hz=params.bandwidth_hz * jnp.exp(log_bandwidth))
        return env.step_env(jax.random.key(13), state, action, changed)[2]

    step = 0.05
    slope = (reward(step) - reward(-step)) / (2 * step)
    assert np.isclose(jax.grad(reward)(0.0), slope, rtol=0.02)


def test_observation_tells_which_cuts_exist(system):
    env, params = system
    obs, state = env.reset(jax.random.key(14), params)
    _, cuts = unpack(obs, env.num_cuts)
    np.testing.assert_array_equal(cuts[..., 0] > 0.5, env.action_mask(state, params))


def test_population_follows_its_weights(system):
    env, params = system
    _, states = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(15), 4000), params)
    shares = np.bincount(np.asarray(states.network).ravel(), minlength=5) / states.network.size
    expected = np.asarray(params.network_probability[0])
    half_width = 4 * np.sqrt(expected * (1 - expected) / states.network.size)
    assert (np.abs(shares - expected) <= half_width).all()

"""Each view against the environment itself, slot by slot: same keys, same numbers."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.wrappers import Joint, PerUser, Rounded, View

MASK = jnp.array([[True, True, False], [True, True, True]])


def views(dials):
    """One of every kind whose library is installed."""
    made = [View(dials)]
    for library, file, names in (
        ("gymnax", "gymnax", ("GymnaxEnv", "FiveTupleEnv")),
        ("stoa", "stoa", ("StoaEnv",)),
        ("jumanji", "jumanji", ("JumanjiEnv",)),
        ("jaxmarl", "jaxmarl", ("JaxMARLEnv",)),
    ):
        try:
            __import__(library)
        except ImportError:
            continue
        room = __import__(f"jaxmec.wrappers.{file}", fromlist=names)
        made += [getattr(room, name)(dials) for name in names]
    return made


def test_per_user_actions_are_the_options():
    assert PerUser().decode(jnp.array([1, 2]), MASK).tolist() == [1, 2]
    assert PerUser().allowed(MASK).tolist() == [True, True, False, True, True, True]


def test_a_box_covers_the_options_that_a_user_has():
    # Two options split [-1, 1] at 0; three at -1/2 and 1/2.
    for place, wanted in (
        (-1.0, [0, 0]),
        (-0.6, [0, 0]),
        (-0.4, [0, 1]),
        (0.4, [1, 1]),
        (0.6, [1, 2]),
        (9.0, [1, 2]),
    ):
        assert Rounded().decode(jnp.full(2, place), MASK).tolist() == wanted
    holes = jnp.array([[False, True, False, True]])
    assert [int(Rounded().decode(jnp.array([x]), holes)[0]) for x in (-1.0, 1.0)] == [1, 3]
    assert Rounded().allowed(MASK).all()


def test_joint_actions_number_every_combination_once():
    decoded = [tuple(Joint().decode(jnp.asarray(number), MASK).tolist()) for number in range(9)]
    assert decoded == [(first, second) for first in range(3) for second in range(3)]
    mask = np.asarray(MASK)
    assert Joint().allowed(MASK).tolist() == [
        bool(mask[0, first] and mask[1, second]) for first, second in decoded
    ]


def test_views_are_values(dials):
    for view in views(dials):
        again = type(view)(dials)
        assert view == again
        assert hash(view) == hash(again)
        for other in (copy.deepcopy(view), pickle.loads(pickle.dumps(view))):
            assert other == view
            assert hash(other) == hash(view)
        dearer = type(view)(dials, dials.default_params.replace(price=jnp.asarray(3.0)))
        assert dearer != view  # or a compilation would keep the other's numbers


def test_what_a_view_cannot_be_is_said_at_once(dials):
    with pytest.raises(
        ValueError, match=r"actions: got Joint\(\) of 3\^20 combinations; allowed are at most 65536"
    ):
        View(type(dials)(num_users=20), actions=Joint())
    view, (_, state) = View(dials), dials.reset(jax.random.key(0), dials.default_params)
    for action in (jnp.zeros(3, jnp.int32), jnp.zeros(2)):
        with pytest.raises(ValueError, match=r"action: got .*; allowed are whole numbers of shape \[2\]"):
            jax.jit(view.slot)(jax.random.key(1), state, action, view.params)
    with pytest.raises(ValueError, match="params: got traced values"):
        jax.jit(lambda params: View(dials, params))(dials.default_params)


def test_info_has_one_structure_at_reset_and_step(dials):
    view, (_, state) = View(dials), dials.reset(jax.random.key(0), dials.default_params)
    start = view.nothing(state, view.params)
    *_, info = view.slot(jax.random.key(1), state, jnp.zeros(2, jnp.int32), view.params)
    assert jax.tree.structure(start) == jax.tree.structure(info)
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(start)] == [
        (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(info)
    ]
    np.testing.assert_array_equal(start["action_mask"], dials.action_mask(state, view.params).reshape(-1))


@pytest.mark.parametrize("five", [False, True])
def test_gymnax(dials, episode, five):
    gymnax = pytest.importorskip("gymnax")
    from gymnax.environments import spaces

    from jaxmec.wrappers.gymnax import FiveTupleEnv, GymnaxEnv

    env = (FiveTupleEnv if five else GymnaxEnv)(dials)
    assert isinstance(env, gymnax.environments.environment.Environment)
    assert isinstance(env.observation_space(), spaces.Box)
    assert env.observation_space(env.default_params).shape == (8,)
    assert isinstance(GymnaxEnv(dials, actions=Rounded()).action_space(), spaces.Box)
    joint = GymnaxEnv(dials, actions=Joint())
    assert isinstance(joint.action_space(), spaces.Discrete)
    assert (joint.num_actions, env.num_actions, env.name) == (9, 3, "TwoDials")
    assert env.default_params.max_steps_in_episode == 4

    keys, actions, obs, slots = episode
    seen, state = env.reset(keys[0])
    np.testing.assert_array_equal(seen, obs.reshape(-1))
    for key, action, (_, wanted_obs, after, reward, terminated, truncated, info) in zip(
        keys[1:], actions, slots, strict=True
    ):
        seen, state, got_reward, *ends, got = env.step(key, state, action)
        np.testing.assert_array_equal(seen, wanted_obs.reshape(-1))
        np.testing.assert_array_equal(state.cost, after.cost)
        assert got_reward == reward
        assert [bool(end) for end in ends] == ([bool(truncated)] if five else [bool(terminated), bool(truncated)])
        np.testing.assert_array_equal(got["final_observation"], info["final_observation"].reshape(-1))
        assert got["truncated"] == truncated
        assert not five or got["discount"] == 1.0
    assert any(bool(slot[5]) for slot in slots)
    short = env.default_params.replace(max_steps_in_episode=jnp.asarray(1))
    assert env.step(keys[1], env.reset(keys[0], short)[1], actions[0], short)[3 if five else 4]
    batch = jax.vmap(env.step, (0, None, 0, None))(keys[1:], slots[0][0], actions, env.default_params)
    assert batch[2].shape == (6,)


def test_stoa_time_outs_are_truncations_with_discount_one(dials):
    stoa = pytest.importorskip("stoa")
    from jaxmec.wrappers.stoa import StoaEnv

    env = StoaEnv(dials)
    state, timestep = env.reset(jax.random.key(0))
    _, begun = dials.reset(jax.random.split(jax.random.key(0))[1], dials.default_params)
    np.testing.assert_array_equal(timestep.observation, dials.observe(begun, env.params).reshape(-1))
    assert timestep.first()
    types, discounts = [], []
    for _ in range(4):
        key = jax.random.split(state.rng_key)[1]
        wanted = dials.step_env(key, state.system, jnp.ones(2, jnp.int32), env.params)
        before, (state, after) = jax.tree.structure(timestep.extras), env.step(state, jnp.ones(2, jnp.int32))
        assert jax.tree.structure(after.extras) == before
        np.testing.assert_array_equal(after.observation, wanted[0].reshape(-1))
        assert after.reward == wanted[2]
        types.append(int(after.step_type))
        discounts.append(float(after.discount))
        timestep = after
    assert types == [1, 1, 1, int(stoa.StepType.TRUNCATED)]
    assert discounts == [1.0] * 4
    assert env.action_space().contains(jnp.ones(2, jnp.int32))
    assert env.observation_space().contains(timestep.observation)
    # stoa's own wrapper resets, and a batch of keys is one vmap.
    wrapped = stoa.AutoResetWrapper(env)
    state, timestep = jax.vmap(wrapped.reset)(jax.random.split(jax.random.key(1), 3))
    for _ in range(5):
        state, timestep = jax.vmap(wrapped.step)(state, jnp.ones((3, 2), jnp.int32))
    assert timestep.mid().all()


def test_dm_env_time_outs_are_truncations_with_discount_one(dials):
    dm_env = pytest.importorskip("dm_env")
    from jaxmec.wrappers.dm import DmEnv

    env = DmEnv(dials, seed=3)
    timestep = env.reset()
    key, key_reset = jax.random.split(jax.random.key(3))
    _, state = dials.reset(key_reset, dials.default_params)
    steps = []
    for _ in range(4):
        key, key_slot = jax.random.split(key)
        obs, state, reward, _, _ = dials.step_env(key_slot, state, jnp.ones(2, jnp.int32), dials.default_params)
        timestep = env.step(np.ones(2, np.int64))
        np.testing.assert_allclose(timestep.observation["observation"], obs.reshape(-1), rtol=1e-6)
        assert timestep.reward == pytest.approx(float(reward), rel=1e-6)
        steps.append((timestep.step_type, timestep.discount))
    assert steps == [(dm_env.StepType.MID, 1.0)] * 3 + [(dm_env.StepType.LAST, 1.0)]
    assert env.step(np.ones(2, int)).first()
    env.action_spec().validate(np.ones(2, np.int32))
    for name, spec in env.observation_spec().items():
        spec.validate(timestep.observation[name])


def test_jumanji_specs_and_time_steps(dials):
    pytest.importorskip("jumanji")
    from jumanji.testing.env_not_smoke import check_env_does_not_smoke, check_env_specs_does_not_smoke

    from jaxmec.wrappers.jumanji import JumanjiEnv

    env = JumanjiEnv(dials)
    check_env_does_not_smoke(env)
    check_env_specs_does_not_smoke(env)
    state, timestep = env.reset(jax.random.key(0))
    for number in range(4):
        key = jax.random.split(state.key)[1]
        wanted = dials.step_env(key, state.system, jnp.ones(2, jnp.int32), env.params)
        state, timestep = env.step(state, jnp.ones(2, jnp.int32))
        np.testing.assert_array_equal(timestep.observation.view, wanted[0].reshape(-1))
        np.testing.assert_array_equal(
            timestep.observation.action_mask, dials.action_mask(wanted[1], env.params).reshape(-1)
        )
        assert timestep.reward == wanted[2]
        assert timestep.last() == (number == 3)
        assert timestep.discount == 1.0
        assert timestep.observation.step_count == number + 1


def test_jaxmarl_agents_are_the_users(dials, episode):
    pytest.importorskip("jaxmarl")
    from jaxmec.wrappers.jaxmarl import JaxMARLEnv

    env = JaxMARLEnv(dials)
    keys, actions, obs, slots = episode
    seen, state = env.reset(keys[0])
    assert list(seen) == env.agents == ["agent_0", "agent_1"]
    np.testing.assert_array_equal(jnp.stack(list(seen.values())), obs)
    for key, action, (_, wanted_obs, after, reward, _, truncated, info) in zip(
        keys[1:], actions, slots, strict=True
    ):
        named = dict(zip(env.agents, action, strict=True))
        seen, state, rewards, dones, told = env.step(key, state, named)
        np.testing.assert_array_equal(jnp.stack(list(seen.values())), wanted_obs)
        assert rewards == {"agent_0": reward, "agent_1": reward}
        assert dones == {"agent_0": truncated, "agent_1": truncated, "__all__": truncated}
        assert {name: leaf.shape for name, leaf in told.items()} == dict.fromkeys(
            ("paid", "price", "truncated"), (2,)
        )
        np.testing.assert_array_equal(told["paid"], info["paid"])
        masks = env.get_avail_actions(state)
        np.testing.assert_array_equal(jnp.stack(list(masks.values())), dials.action_mask(after, env.params))
    assert env.action_space("agent_1").n == 3
    assert env.observation_space("agent_1").shape == (4,)
    with pytest.raises(ValueError, match=r"actions: got agents \['agent_0'\]; allowed are"):
        env.step(keys[1], state, {"agent_0": 1})
    with pytest.raises(ValueError, match="own_reward: got True for TwoDials; allowed for EdgeInferenceEnv"):
        JaxMARLEnv(dials, own_reward=True)

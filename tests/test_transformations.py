"""What may be done to the environment and the layer under JAX: actions and dtypes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec


@pytest.fixture(scope="module")
def system():
    env, params = jaxmec.make("coinfer4", num_users=2)
    return env, params, jax.jit(env.reset)(jax.random.key(0), params)[1]


@pytest.mark.parametrize(
    ("action", "got"),
    [
        (np.zeros(2, np.float32), r"float32\[2\]"),
        (jnp.zeros(2, jnp.bfloat16), r"bfloat16\[2\]"),
        (np.zeros(2, bool), r"bool\[2\]"),
        (np.zeros(3, np.int32), r"int32\[3\]"),
        (np.zeros((4, 2), np.int32), r"int32\[4, 2\]"),
        (0, r"int32\[\]"),
    ],
)
def test_what_is_no_action_is_told_by_name(system, action, got):
    env, params, state = system
    for call in (
        lambda: env.step(jax.random.key(0), state, action, params),
        lambda: env.objective(state, action, params),
        lambda: env.decide(state, action, params),
    ):
        with pytest.raises(ValueError, match=rf"^action: got {got}; allowed is int32\[2\], "):
            call()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64, list])
def test_whole_numbers_of_any_width_are_actions(system, dtype):
    env, params, state = system
    action = [1, env.num_cuts - 1] if dtype is list else np.array([1, env.num_cuts - 1]).astype(dtype)
    wanted = env.slot_problem(state, jnp.array([1, env.num_cuts - 1], jnp.int32), params)
    found = env.slot_problem(state, action, params)
    np.testing.assert_array_equal(found.device_work_s, wanted.device_work_s)


def test_a_changed_number_is_not_traced_again(system):
    params, traces = system[1], []

    @jax.jit
    def band_mhz(params):
        traces.append(1)
        return params.bandwidth_hz / 1e6

    values = (5e6, 5_000_000, np.float64(5e6), np.int32(5_000_000), np.full((), 5e6), jnp.asarray(5_000_000))
    for value in values:
        assert band_mhz(params.replace(bandwidth_hz=value)) == 5.0
    band_mhz(params.replace(episode_slots=7, knee=0.5, tx_power_w=np.ones(2)))
    assert len(traces) == 1


def test_replacing_keeps_whole_numbers_whole_and_lets_other_things_be(system):
    params = system[1]
    with pytest.raises(ValueError, match=r"^EnvParams.episode_slots: got float32 5.5; allowed are whole numbers"):
        params.replace(episode_slots=5.5)
    axes = jax.tree.map(lambda _: None, params).replace(bandwidth_hz=0)  # as jax.vmap wants them
    assert (axes.bandwidth_hz, axes.knee) == (0, None)
    grown = jax.vmap(lambda hz: params.replace(bandwidth_hz=hz).bandwidth_hz)(jnp.array([1, 2]))
    np.testing.assert_array_equal(grown, np.array([1.0, 2.0], np.float32))


def test_leaves_of_other_dtypes_leave_the_state_as_it_was(system):
    env, params, state = system

    def after(params):
        return jax.eval_shape(env.step, jax.random.key(0), state, np.zeros(2, np.int32), params)[1]

    def kinds(tree):
        return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]

    def half(leaf):
        return leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    assert kinds(after(dataclasses.replace(params, bandwidth_hz=5_000_000, slot_s=np.int16(1)))) == kinds(state)
    assert kinds(after(jax.tree.map(half, params))) == kinds(state)
    with jax.enable_x64(True):
        assert kinds(after(params)) == kinds(state)

"""What may be done to the environment and the layer under JAX: actions, dtypes, and meshes of devices."""

import dataclasses
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.allocation import SolverConfig, allocate
from jaxmec.policies import POLICIES, make_policy


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
        (0, r"int(32|64)\[\]"),
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


@pytest.mark.parametrize("what", ["reset", "step", "allocate", "lower_bound", "closed_form", "best_response"])
def test_without_jit_a_call_is_one_programme_and_a_second_call_none(system, compilations, what):
    env, params, state = system
    env = dataclasses.replace(env, solver=SolverConfig(iterations=7))  # that no other test has compiled
    key, cuts = jax.random.key(0), jnp.ones(2, jnp.int32)
    if what == "allocate":
        call = partial(allocate, jax.jit(env.slot_problem)(state, cuts, params), env.solver)
    elif what in POLICIES:
        call = partial(make_policy(what, env), key, state, params)
    else:
        arguments = {"reset": (key,), "step": (key, state, cuts), "lower_bound": (state,)}
        call = partial(getattr(env, what), *arguments[what], params)
    for programmes in (1, 0):
        with compilations() as compiled:
            jax.block_until_ready(call())
        assert len(compiled) <= programmes, programmes


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
    with pytest.raises(
        ValueError, match=r"^EnvParams.episode_slots: got float(32|64) 5.5; allowed are whole numbers"
    ):
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


SHARDED = """
import jax, jax.numpy as jnp, numpy as np, jaxmec
from jax.sharding import AxisType, PartitionSpec as P
from jaxmec.batching import batch_last, only_where

mesh = jax.make_mesh((4,), ("systems",), axis_types=(AxisType.Explicit,))
spread, everywhere = P("systems"), P()


def sharded(function, *specs):
    batched = jax.vmap(function, [None if spec == everywhere else 0 for spec in specs])
    mapped = jax.jit(jax.shard_map(batched, mesh=mesh, in_specs=specs, out_specs=spread))
    return lambda *args: mapped(*(placed(arg, spec) for arg, spec in zip(args, specs, strict=True)))


def placed(leaves, spec):  # with explicit axes JAX moves nothing by itself
    return jax.device_put(leaves, jax.sharding.NamedSharding(mesh, spec))


def both_rules(x, scale):
    y = batch_last(lambda x, scale: (jnp.tanh(x * scale), jnp.zeros_like(scale)), 64)(x, scale)[0]
    return only_where(y[0] > 0, lambda y: (jnp.full(3, 7.0, y.dtype), 2 * y), (y, jnp.ones(3, y.dtype)), y)


x = np.linspace(-1, 1, 1800, dtype=np.float32).reshape(600, 3)
first, second = sharded(both_rules, spread, everywhere)(x, np.float32(2))
needed = x[:, :1] > 0
np.testing.assert_allclose(first, np.where(needed, 7, np.tanh(2 * x)), rtol=1e-5, atol=1e-6)
np.testing.assert_allclose(second, np.where(needed, 2 * np.tanh(2 * x), 1), rtol=1e-5, atol=1e-6)

env, params = jaxmec.make("coinfer4", num_users=2)
keys = jax.random.split(jax.random.key(0), 8)
cuts = np.zeros((8, 2), np.int32)
_, shapes = jax.eval_shape(jax.vmap(env.reset, (0, None)), keys, params)
states = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
stepped = jax.eval_shape(
    lambda cuts: sharded(env.step, spread, spread, spread, everywhere)(keys, states, cuts, params), cuts
)
alone = jax.eval_shape(jax.vmap(env.step, (0, 0, 0, None)), keys, states, cuts, params)
for one, other in zip(jax.tree.leaves(stepped), jax.tree.leaves(alone), strict=True):
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
jax.eval_shape(lambda params: sharded(env.lower_bound, spread, everywhere)(states, params), params)
print("equal on", len(first.sharding.device_set), "devices")
"""


def test_shard_map_checks_types_and_has_the_values_of_one_device():
    environ = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, env=environ)
    assert run.stdout == "equal on 4 devices\n", run.stderr[-3000:]

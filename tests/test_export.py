"""Programs that were exported compute elsewhere what the package computes here."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec import export
from jaxmec.agents import PPO
from jaxmec.allocation import allocate

ELSEWHERE = """
import sys
import numpy as np
import jax
from jaxmec import export
folder = sys.argv[1]
arguments = np.load(f"{folder}/inputs.npz")
allocate, reset, step = (export.load(f"{folder}/{name}.jaxexport") for name in ("allocate", "reset", "step"))
treedefs = [program.in_tree for program in (allocate, reset, step)]
def args(name, program):
    leaves = [arguments[f"{name}{i}"] for i in range(len(program.in_avals))]
    keys = [jax.random.wrap_key_data(leaf) if "key" in str(aval.dtype) else leaf
            for leaf, aval in zip(leaves, program.in_avals)]
    positional, named = jax.tree.unflatten(program.in_tree, keys)
    assert not named
    return positional
def plain(leaf):
    return jax.random.key_data(leaf) if "key" in str(leaf.dtype) else leaf
for name, program in (("allocate", allocate), ("reset", reset), ("step", step)):
    result = program.call(*args(name, program))
    np.savez(f"{folder}/{name}.npz", *[np.asarray(plain(leaf)) for leaf in jax.tree.leaves(result)])
print(type(program.call(*args("step", step))[1]).__name__, jax.tree.structure(result) == step.out_tree)
"""

GATEWAY = """
import sys
import numpy as np
import jax
program = jax.export.deserialize(bytearray(open(sys.argv[1] + "/policy.jaxexport", "rb").read()))
decision = program.call(dict(np.load(sys.argv[1] + "/measured.npz")))
np.savez(sys.argv[1] + "/decision.npz", **decision)
print(any(name.split(".")[0] in ("jaxmec", "flax") for name in sys.modules))
"""


@pytest.fixture(scope="module")
def system():
    return jaxmec.make("coinfer4", num_users=2)


@pytest.fixture(scope="module")
def slots(system):
    """Three systems in the middle of an episode."""
    env, params = system
    keys = jax.random.split(jax.random.key(0), 3)
    _, states = jax.jit(jax.vmap(env.reset, (0, None)))(keys, params)
    states = states.replace(
        device_queue=jnp.array([[0.0, 3.0], [2.0, 1.0], [9.0, 0.5]]), server_queue=jnp.arange(3.0)
    )
    return keys, states, jnp.array([[0, 1], [3, 2], [99, 0]], jnp.int32)


def elsewhere(script, folder):
    """What a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def plain(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def test_allocate_reset_and_step_give_the_same_numbers_in_another_process(system, slots, tmp_path):
    env, params = system
    keys, states, actions = slots
    problems = jax.vmap(env.slot_problem, (0, 0, None))(states, actions, params)
    arguments = {"allocate": (problems,), "reset": (keys, params), "step": (keys, states, actions, params)}
    for name, program in export.export_env(env, params).items():
        assert program.platforms == ("cpu", "cuda")
        export.save(tmp_path / f"{name}.jaxexport", program)
    np.savez(
        tmp_path / "inputs.npz",
        **{
            f"{name}{i}": np.asarray(plain(leaf))
            for name, args in arguments.items()
            for i, leaf in enumerate(jax.tree.leaves(args))
        },
    )
    assert elsewhere(ELSEWHERE, tmp_path) == "EnvState True"

    functions = {
        "allocate": jax.vmap(allocate),
        "reset": jax.vmap(env.reset, (0, None)),
        "step": jax.vmap(env.step, (0, 0, 0, None)),
    }
    for name, args in arguments.items():
        here = jax.tree.leaves(jax.jit(functions[name])(*args))
        there = list(np.load(tmp_path / f"{name}.npz").values())
        assert len(here) == len(there)
        for one, other in zip(here, there, strict=True):
            np.testing.assert_allclose(other, plain(one), rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.fixture(scope="module")
def learned(system):
    """A policy with weights, though nobody has taught it."""
    env, params = system
    algorithm = PPO(num_envs=2, num_minibatches=1, total_steps=64)
    model = algorithm.init_model(env, jax.random.key(5))
    model = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(6), leaf.shape), model)
    learner = jax.eval_shape(lambda: algorithm.init(env, jax.random.key(0), params)).replace(model=model)
    return algorithm.policy(env, learner)


def test_a_gateway_runs_a_learned_policy_from_measurements_without_the_package(system, slots, learned, tmp_path):
    env, params = system
    keys, states, _ = slots
    program = export.export_policy(learned, env)
    assert program.platforms == ("cpu", "cuda")
    assert all(str(shape.shape[0]) == "b" for shape in (*program.in_avals, *program.out_avals))
    export.save(tmp_path / "policy.jaxexport", program)
    measured = jax.vmap(lambda state: jax.tree.map(lambda leaf: leaf[0], export.measurements(env, state, params)))(
        states
    )
    np.savez(tmp_path / "measured.npz", **measured)
    assert elsewhere(GATEWAY, tmp_path) == "False"
    decision = np.load(tmp_path / "decision.npz")
    cuts = jax.vmap(learned, (0, 0, None))(keys, states, params)
    np.testing.assert_array_equal(decision["cut"], cuts)
    here = jax.jit(jax.vmap(env.decide, (0, 0, None)))(states, cuts, params).allocation
    np.testing.assert_allclose(decision["objective"], here.objective, rtol=1e-5)
    for name in ("device_share", "bandwidth_share", "server_share"):
        np.testing.assert_allclose(decision[name], getattr(here, name), rtol=5e-3, atol=1e-4)


def test_the_way_back_is_measured_where_there_is_one(system, slots):
    _, states, _ = slots
    objectives = []
    for wire in ({}, {"round_trip_s": 0.5}):
        env, params = jaxmec.make("coinfer4", num_users=2, wire=wire)
        measured = export.measurements(env, jax.tree.map(lambda leaf: leaf[0], states), params)
        assert ("return_s" in measured) == bool(wire)
        objectives.append(export.export_policy("edge_only", env).call(measured)["objective"][0])
    added = float(params.tradeoff * jnp.sum(params.delay_weight)) * 0.5
    assert objectives[1] - objectives[0] == pytest.approx(added, rel=1e-4)


def test_bursts_and_a_recorded_capacity_are_measured_too(tmp_path, key):
    (tmp_path / "recording.txt").write_text("0 2\n1 8\n2 4\n")
    group = {"networks": {"alexnet": 1}, "devices": {"jetson_nano": 1}, "energy_budget_j": {"jetson_nano": 1}}
    scenario = {
        "users": [group | {"count": 2, "tx_power_w": 0.1}],
        "server": {"device": "epyc_7742", "energy_budget_j": 5},
        "radio": {"process": "trace", "bandwidth_hz": 5e6, "trace_file": "recording.txt"},
        "waiting_scale": 7,
    }
    (tmp_path / "mine.yaml").write_text(repr(scenario))
    env, params = jaxmec.make(tmp_path / "mine.yaml")
    _, state = env.reset(key, params)
    measured = export.measurements(env, state, params)
    decision = export.export_policy("edge_only", env).call(measured)
    allocation = env.decide(state, decision["cut"][0], params).allocation
    np.testing.assert_allclose(decision["objective"][0], allocation.objective, rtol=1e-5)


def test_what_cannot_be_exported_is_refused(system, tmp_path):
    env, _ = system
    with pytest.raises(ValueError, match=r"policy: got 'static'; allowed are policies that need nothing but"):
        export.export_policy("static", env)
    requests, _ = jaxmec.make("coinfer4", num_users=2, fidelity="requests")
    with pytest.raises(ValueError, match="env.fidelity: got RequestFidelity; allowed is Stationary"):
        export.export_policy("greedy", requests)
    (tmp_path / "other").write_bytes(b"something else")
    with pytest.raises(ValueError, match="other: holds no exported program"):
        export.load(tmp_path / "other")

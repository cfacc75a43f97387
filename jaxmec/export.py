"""Ahead of time: systems and policies as StableHLO files that other processes, and machines without this package, run.

`export_policy` turns a learned policy into one file that a gateway runs from what it measures: it needs JAX,
flatbuffers and nothing else. `export_env` does the same for `allocate`, `reset` and `step`, whose states and
parameters are the package's own pytrees, so that the process that loads them imports `jaxmec.export` (which registers
them). The batch dimension is symbolic, and one file serves CPUs and NVIDIA GPUs.

    export.save("gateway.jaxexport", export.export_policy("runs/one", env))
    decision = export.load("gateway.jaxexport").call(measured)   # or jax.export.deserialize(bytes).call
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from jaxmec import requests
from jaxmec.allocation import allocate
from jaxmec.config import default_float
from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.environment import Policy
from jaxmec.extras import optional
from jaxmec.fidelity import Stationary
from jaxmec.policies import make_policy
from jaxmec.reporting.files import replace_file

__all__ = [
    "PLATFORMS",
    "export_env",
    "export_policy",
    "load",
    "measurements",
    "register_pytrees",
    "save",
    "symbolic",
]

PLATFORMS = ("cpu", "cuda")
_NEED_THEIR_OWN_STATE = ("static", "once")  # policies that look up what a gateway does not measure

Measured = dict[str, Array]


class _Told(struct.PyTreeNode):
    """Arrivals and a channel whose states are rates and gains that were measured; they need not move."""

    def rate_hz(self, state: Array) -> Array:
        return state

    def gain(self, state: Array) -> Array:
        return state


class _ToldCapacity(struct.PyTreeNode):
    """A channel whose state is the capacity that was measured, and stays it."""

    def init(self, key: Array, distance_m: Array) -> Array:
        return jnp.ones(len(distance_m))

    def step(self, key: Array, state: Array) -> Array:
        return state

    def capacity_bps(self, state: Array) -> Array:
        return state


def export_policy(
    policy: str | Path | Policy, env: EdgeInferenceEnv, platforms: Sequence[str] = PLATFORMS
) -> jax.export.Exported:
    """A policy, and the exact shares of what it chooses, as one program of plain arrays.

    Args:
      policy: the folder of a run, a name of `jaxmec.policies.policy_names()`, or a policy of one's own that reads a
        state through the environment's methods alone (`observe`, `cut_problems`, `action_mask`, `objective`).
      env: of N users and K cuts, which the program is made for.
      platforms: that it is lowered for.

    Returns:
      The program. `call` takes one dict of arrays with a leading batch dimension of any size b,

        snr [b, N] received power over noise if the user had the whole band; arrival_rate_hz [b, N]
        device_queue [b, N] virtual queue Z; server_queue [b] virtual queue Y (see `jaxmec.lyapunov.step_queue`)
        device_work_s, uplink_bits, server_work_s float32[b, N, K]; valid_cut bool[b, N, K]: what each cut demands
        device_power_w, tx_power_w, device_budget_j, delay_weight [b, N]
        bandwidth_hz, server_power_w, server_budget_j, tradeoff, slot_s, knee [b]
        where the environment has them: return_s [b, N, K] delay of the way back, waiting_scale [b, N], and
        capacity_bps [b, N] of the whole band, which is then what counts of the uplink

      and returns cut int32[b, N], device_share, bandwidth_share and server_share float32[b, N], and objective [b].
      A policy that draws does so with one fixed key.

    Raises:
      ValueError: for a policy that needs more than is measured, or an environment of another fidelity.
    """
    if policy in _NEED_THEIR_OWN_STATE:
        raise ValueError(
            f"policy: got {policy!r}; allowed are policies that need nothing but a slot's measurements"
        )
    if not isinstance(env.fidelity, Stationary):
        raise ValueError(
            f"env.fidelity: got {type(env.fidelity).__name__}; allowed is Stationary, which carries nothing over"
        )
    choose = policy if callable(policy) else make_policy(policy, env)

    def decide(measured: Measured) -> dict[str, Array]:
        state, params = _as_measured(env, measured)
        cuts = choose(jax.random.key(0), state, params)
        decision = env.decide(state, cuts, params)
        shares = {
            name: getattr(decision.allocation, name)
            for name in ("device_share", "bandwidth_share", "server_share")
        }
        return {"cut": decision.cuts, "objective": decision.allocation.objective, **shares}

    return _export(jax.vmap(decide), platforms, symbolic(_measured_shapes(env)))


def measurements(env: EdgeInferenceEnv, state: EnvState, params: EnvParams) -> Measured:
    """What a gateway would have measured in this state: the argument of an exported policy, with a batch of one."""
    problem = env.cut_problems(state, params)
    measured = {
        "snr": problem.snr,
        "arrival_rate_hz": problem.arrival_rate_hz,
        "device_queue": state.device_queue,
        "server_queue": state.server_queue,
        "device_work_s": problem.device_work_s,
        "uplink_bits": problem.uplink_bits,
        "server_work_s": problem.server_work_s,
        "valid_cut": env.action_mask(state, params),
        "device_power_w": problem.device_power_w,
        "tx_power_w": problem.tx_power_w,
        "device_budget_j": env.device_budget_j(state, params),
        "delay_weight": params.delay_weight,
        "bandwidth_hz": params.bandwidth_hz,
        "server_power_w": params.server_power_w,
        "server_budget_j": params.server_budget_j,
        "tradeoff": params.tradeoff,
        "slot_s": params.slot_s,
        "knee": params.knee,
    }
    told = {name: getattr(problem, name) for name in ("return_s", "waiting_scale", "capacity_bps")}
    measured |= {name: value for name, value in told.items() if value is not None}
    return {name: value[None] for name, value in measured.items()}


def export_env(
    env: EdgeInferenceEnv, params: EnvParams, platforms: Sequence[str] = PLATFORMS
) -> dict[str, jax.export.Exported]:
    """`allocate`, `reset` and `step` of batches of any size.

    Args:
      env: whose shapes the programs are made for.
      params: of those shapes; its numbers are an argument of the programs.
      platforms: that they are lowered for.

    Returns:
      allocate(problems), reset(keys, params), step(keys, states, actions, params), with a leading batch dimension on
      all but params; keys are those of `jax.random.key`.
    """
    key = jax.random.key(0)
    _, state = jax.eval_shape(env.reset, key, params)
    action = jax.ShapeDtypeStruct((env.num_users,), jnp.int32)
    problem = jax.eval_shape(env.slot_problem, state, action, params)
    problems, keys, states, actions = symbolic((problem, key, state, action))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    return {
        "allocate": _export(jax.vmap(partial(allocate, config=env.solver)), platforms, problems),
        "reset": _export(jax.vmap(env.reset, (0, None)), platforms, keys, shapes),
        "step": _export(jax.vmap(env.step, (0, 0, 0, None)), platforms, keys, states, actions, shapes),
    }


def symbolic(tree: Any, name: str = "b") -> Any:
    """Shapes and dtypes of a pytree's arrays with one symbolic leading dimension, the same in all of them."""
    (batch,) = jax.export.symbolic_shape(name)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((batch, *jnp.shape(leaf)), leaf.dtype), tree)


def save(path: str | Path, exported: jax.export.Exported) -> None:
    """Write a program.

    Raises:
      OSError: if the file cannot be written; an old one stays.
      ConfigError: without flatbuffers, in which JAX writes programs.
    """
    optional("flatbuffers", "runtime")
    register_pytrees()
    replace_file(Path(path), bytes(exported.serialize()))


def load(path: str | Path) -> jax.export.Exported:
    """Read a program that `save` wrote.

    Raises:
      OSError: if the file cannot be read; ValueError if it holds something else.
      ConfigError: without flatbuffers.
    """
    optional("flatbuffers", "runtime")
    register_pytrees()
    try:
        return jax.export.deserialize(bytearray(Path(path).read_bytes()))
    except OSError:
        raise
    except Exception as error:  # flatbuffers raises many kinds on arbitrary bytes
        raise ValueError(f"{path}: holds no exported program, or one with pytrees unknown here: {error}") from None


def register_pytrees(*own: type) -> None:
    """Tell `jax.export` how to write the package's pytrees, and one's own.

    Args:
      own: subclasses of `flax.struct.PyTreeNode`, such as an arrival process of one's own. The process that loads a
        program must register them, too.
    """
    package = (node for node in _nodes(struct.PyTreeNode) if node.__module__.startswith("jaxmec."))
    for node in {*package, *own} - _REGISTERED:
        jax.export.register_pytree_node_serialization(
            node,
            serialized_name=f"{node.__module__}.{node.__qualname__}",
            serialize_auxdata=_write_static,
            deserialize_auxdata=lambda data: ast.literal_eval(data.decode()),
        )
        _REGISTERED.add(node)


_REGISTERED: set[type] = set()


def _nodes(base: type) -> Iterator[type]:
    node: type
    for node in base.__subclasses__():
        yield node
        yield from _nodes(node)


def _write_static(fields: tuple) -> bytes:
    """A pytree's static fields, where they are plain values."""
    text = repr(fields)
    try:
        same = ast.literal_eval(text) == fields
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise ValueError(f"static fields of a pytree: got {text}; allowed are numbers, texts and tuples of them")
    return text.encode()


def _export(function: Callable[..., Any], platforms: Sequence[str], *args: Any) -> jax.export.Exported:
    return jax.export.export(jax.jit(function), platforms=tuple(platforms))(*args)


def _measured_shapes(env: EdgeInferenceEnv) -> dict[str, jax.ShapeDtypeStruct]:
    """Of one system's measurements."""
    params = env.default_params
    state = jax.eval_shape(env.reset, jax.random.key(0), params)[1]
    shapes = jax.eval_shape(lambda state: measurements(env, state, params), state)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), shapes)


def _as_measured(env: EdgeInferenceEnv, measured: Measured) -> tuple[EnvState, EnvParams]:
    """A state and parameters that say exactly what was measured: user n runs network n on device class n."""
    users = jnp.arange(env.num_users)
    per_class = (env.num_users, env.num_users)

    def of_class(name: str) -> Array:
        return jnp.broadcast_to(measured[name][:, None], per_class)

    uniform = jnp.full(per_class, 1.0 / env.num_users)
    processes: Any = _Told()
    capacity_bps = measured.get("capacity_bps")
    channel: Any = processes if capacity_bps is None else _ToldCapacity()
    work_s = measured["device_work_s"]
    told = {name: measured[name] for name in _TOLD}
    params = EnvParams(
        device_work_s=jnp.broadcast_to(work_s[:, None], (env.num_users, *work_s.shape)),
        uplink_bits=measured["uplink_bits"],
        server_work_s=measured["server_work_s"],
        valid_cut=measured["valid_cut"],
        return_s=measured.get("return_s"),
        waiting_scale=measured.get("waiting_scale"),
        device_budget_j=of_class("device_budget_j"),
        network_probability=uniform,
        device_probability=uniform,
        initial_device_queue=of_class("device_queue"),
        initial_server_queue=measured["server_queue"],
        distance_m=jnp.ones((env.num_users, 2)),
        deadline_s=jnp.full(env.num_users, jnp.inf),
        workload=processes,
        channel=channel,
        requests=requests.Poisson(),
        noise_w_per_hz=default_float(1.0),
        episode_slots=jnp.asarray(np.iinfo(np.int32).max),
        **told,
    )
    gain = measured["snr"] * measured["bandwidth_hz"] / measured["tx_power_w"]  # at a noise density of one
    state = EnvState(
        slot=jnp.zeros((), jnp.int32),
        network=users,
        device=users,
        channel=gain if capacity_bps is None else capacity_bps,
        workload=measured["arrival_rate_hz"],
        fidelity=(),
        cuts=jnp.full(env.num_users, -1, jnp.int32),
        device_queue=measured["device_queue"],
        server_queue=measured["server_queue"],
    )
    return state, params


_TOLD = (  # parameters that are measured as they are
    "device_power_w", "delay_weight", "tx_power_w", "bandwidth_hz", "server_power_w", "server_budget_j", "tradeoff",
    "slot_s", "knee",
)  # fmt: skip

register_pytrees()

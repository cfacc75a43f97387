"""What the benchmark's sections share: rows, timing, and problems."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

import jaxmec
from jaxmec.allocation import SlotProblem, objective
from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured."""

    users: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float  # that one timing may repeat for
    count: int  # problems per set of the accuracy study


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table; what does not apply is not a number."""

    section: str
    what: str
    users: int
    batch: int
    dtype: str
    microseconds: float = float("nan")  # per problem, the fastest repetition
    gap_p999: float = float("nan")  # relative, against a converged float64 solution
    gap_max: float = float("nan")
    compile_s: float = float("nan")
    note: str = ""


def timed(function: Callable, arguments: tuple, settings: Settings) -> tuple[Any, float, float]:
    """Result, seconds of the fastest repetition, and seconds of compilation."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_s = time.perf_counter() - start
    result = jax.block_until_ready(compiled(*arguments))
    fastest, end = float("inf"), time.perf_counter() + settings.seconds
    for repetition in range(100):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        now = time.perf_counter()
        fastest = min(fastest, now - start)
        if repetition >= 2 and now > end:
            break
    return result, fastest, compile_s


def scenario_states(env: EdgeInferenceEnv, params: EnvParams, seed: int, batch: int) -> tuple[EnvState, jax.Array]:
    """States [batch] of first slots with random queues, and random cuts [batch, N] that exist."""
    keys = jax.random.split(jax.random.key(seed), 4)
    _, states = jax.vmap(env.reset, (0, None))(jax.random.split(keys[0], batch), params)
    states = states.replace(
        device_queue=5.0 * jax.random.exponential(keys[1], (batch, env.num_users)),
        server_queue=5.0 * jax.random.exponential(keys[2], (batch,)),
    )
    mask = jax.vmap(env.action_mask, (0, None))(states, params)
    cuts = jax.random.categorical(keys[3], jnp.where(mask, 0.0, -jnp.inf)).astype(jnp.int32)
    return states, cuts


def scenario_problems(name: str, seed: int, batch: int, num_users: int | None = None) -> SlotProblem:
    """The slot problems [batch] of `scenario_states`, float32."""
    env, params = jaxmec.make(name) if num_users is None else jaxmec.make(name, num_users=num_users)

    @jax.jit
    def draw() -> SlotProblem:
        states, cuts = scenario_states(env, params, seed, batch)
        return jax.vmap(env.slot_problem, (0, 0, None))(states, cuts, params)

    return as_dtype(draw(), np.float32)


def random_problems(seed: int, batch: int, num_users: int, wide: bool) -> SlotProblem:
    """Random slot problems [batch], float32: like scenarios' or, if wide, far beyond them."""
    rng = np.random.default_rng(seed)

    def log_uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), shape or (batch, num_users)))

    def or_zero(values: np.ndarray) -> np.ndarray:
        return values * (rng.random(values.shape) > 0.2)

    if wide:
        # From everybody present to single participants and nobody.
        absent = rng.choice([0.0, 0.3, 0.6, 0.95], (3, batch, 1))
        present = rng.random((3, batch, num_users)) >= absent
        seconds = log_uniform(1e-5, 10.0, 3, batch, num_users)
        snr = log_uniform(1e-3, 1e5)
        slowest = np.max(seconds * present, axis=0)
        leaves = {
            "device_work_s": seconds[0] * present[0],
            "uplink_bits": seconds[1] * 20e6 * np.log2(1.0 + snr) * present[1],
            "server_work_s": seconds[2] * present[2],
            "arrival_rate_hz": log_uniform(1e-4, 20.0) / np.where(slowest > 0, slowest, 1.0),  # load over time
            "device_power_w": log_uniform(0.1, 10.0),
            "tx_power_w": log_uniform(0.01, 1.0),
            "snr": snr,
            "delay_price": log_uniform(1e-2, 1e4),
            "energy_price": or_zero(log_uniform(1e-2, 1e4)),
            "server_energy_price": or_zero(log_uniform(1e-3, 1e3, batch)),
        }
    else:
        present = rng.random((3, batch, num_users)) > 0.3
        leaves = {
            "device_work_s": log_uniform(0.01, 1.0) * present[0],
            "uplink_bits": log_uniform(1e4, 2e6) * present[1],
            "server_work_s": log_uniform(0.001, 0.05) * present[2],
            "arrival_rate_hz": log_uniform(1.0, 3.0),
            "device_power_w": log_uniform(3.0, 7.0),
            "tx_power_w": log_uniform(0.1, 0.3),
            "snr": log_uniform(3.0, 1e3),
            "delay_price": log_uniform(5.0, 20.0),
            "energy_price": or_zero(log_uniform(0.01, 100.0)),
            "server_energy_price": log_uniform(0.007, 3.0, batch),
        }
    shared = {"bandwidth_hz": 20e6, "server_power_w": 200.0, "slot_s": 1.0, "knee": 0.9}
    leaves |= {name: np.full(batch, value) for name, value in shared.items()}
    return as_dtype(SlotProblem(**leaves), np.float32)


def as_dtype(problem: SlotProblem, dtype: DTypeLike) -> SlotProblem:
    """The same problem in another precision, in host memory."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), problem)


def relative_gaps(problem: SlotProblem, shares: tuple, optimum: np.ndarray) -> np.ndarray:
    """How far shares [batch, N] are above the optimum [batch], evaluated in float64; needs `jax.enable_x64`."""
    wide = as_dtype(problem, np.float64)
    value = jax.jit(jax.vmap(objective))(wide, *(np.asarray(share, np.float64) for share in shares))
    return np.asarray(value) / np.where(optimum > 0, optimum, 1.0) - np.where(optimum > 0, 1.0, 0.0)


def without_final_observation(step: Callable[..., tuple], *arguments: Any) -> tuple:
    """What `env.step` returns where nobody reads the final observation, as in training without a discount."""
    *outcome, info = step(*arguments)
    return *outcome, {name: value for name, value in info.items() if name != "final_observation"}

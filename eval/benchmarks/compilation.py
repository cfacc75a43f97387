"""Compilation: how much there is to compile, the processor's seconds that it takes, and what goes without `jax.jit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import jax

import jaxmec
from benchmarks.common import Row, Settings, scenario_states
from jaxmec.allocation import allocate
from jaxmec.policies import make_policy

_BATCH = 256
_CALLS = 4
_POLICIES = ("closed_form", "best_response", "price")


def compile_section(settings: Settings) -> Iterator[Row]:
    """From Python to machine code, all threads counted; as large a batch as a test or an evaluation has."""
    env, params = jaxmec.make("coinfer10")
    states, cuts = jax.jit(lambda: scenario_states(env, params, 0, _BATCH))()
    keys = jax.random.split(jax.random.key(1), _BATCH)
    problems = jax.jit(jax.vmap(env.slot_problem, (0, 0, None)))(states, cuts, params)
    programmes: list[tuple[str, Callable, tuple]] = [
        ("allocate", jax.vmap(allocate), (problems,)),
        ("env.observe", jax.vmap(env.observe, (0, None)), (states, params)),
        ("env.step", jax.vmap(env.step, (0, 0, 0, None)), (keys, states, cuts, params)),
        ("env.lower_bound", jax.vmap(env.lower_bound, (0, None)), (states, params)),
        *((name, jax.vmap(make_policy(name, env), (0, 0, None)), (keys, states, params)) for name in _POLICIES),
    ]
    for what, function, arguments in programmes:
        start = time.process_time()
        lowered = jax.jit(function).lower(*arguments)
        operations = sum(" = " in line for line in lowered.as_text().splitlines())
        traced = time.process_time()
        lowered.compile()
        seconds = time.process_time() - start
        note = f"{operations:,} StableHLO operations, {traced - start:.1f} s to trace"
        yield Row("compile", what, env.num_users, _BATCH, "float32", compile_s=seconds, note=note)


def eager_section(settings: Settings) -> Iterator[Row]:
    """One system, called without `jax.jit` as in a notebook: the first call's seconds, and a later one's.

    A compilation cache that is kept between processes would hide the first.
    """
    env, params = jaxmec.make("coinfer10")
    key = jax.random.key(0)
    state, cuts = jax.jit(lambda: jax.tree.map(lambda leaf: leaf[0], scenario_states(env, params, 0, 1)))()
    problem = jax.jit(env.slot_problem)(state, cuts, params)
    calls: list[tuple[str, Callable, tuple]] = [
        ("env.reset", env.reset, (key, params)),
        ("env.step", env.step, (key, state, cuts, params)),
        ("allocate", allocate, (problem,)),
        ("env.lower_bound", env.lower_bound, (state, params)),
        *((name, make_policy(name, env), (key, state, params)) for name in _POLICIES),
    ]
    for what, function, arguments in calls:
        seconds = []
        for _ in range(_CALLS):
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            seconds.append(time.perf_counter() - start)
        first, *later = seconds
        later_us = 1e6 * min(later)
        yield Row("eager", what, env.num_users, 1, "float32", later_us, compile_s=first, note="without jax.jit")

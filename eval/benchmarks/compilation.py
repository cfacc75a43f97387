"""Compilation: how much there is to compile, and the processor's seconds that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import jax

import jaxmec
from benchmarks.common import Row, Settings, scenario_states
from jaxmec.allocation import allocate
from jaxmec.policies import make_policy

_BATCH = 256
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

"""The environment's step and every policy, on coinfer10."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

import jaxmec
from benchmarks.common import Row, Settings, scenario_states, timed, without_final_observation
from jaxmec.allocation import allocate
from jaxmec.policies import BASELINES, make_policy

_POLICY_BATCH = 256


def env_section(settings: Settings) -> Iterator[Row]:
    """`step` beside the allocation of the same slot problems."""
    env, params = jaxmec.make("coinfer10")
    step = jax.vmap(env.step, (0, 0, 0, None))
    for batch in settings.batches:
        keys = jax.random.split(jax.random.key(1), batch)
        states, cuts = jax.jit(lambda b=batch: scenario_states(env, params, 0, b))()
        problem = jax.jit(jax.vmap(env.slot_problem, (0, 0, None)))(states, cuts, params)
        rows = []
        for what, function, arguments in (
            ("allocate alone", jax.vmap(allocate), (problem,)),
            ("env.observe alone", jax.vmap(env.observe, (0, None)), (states, params)),
            ("env.step", partial(without_final_observation, step), (keys, states, cuts, params)),
            ("env.step, final_observation read", step, (keys, states, cuts, params)),
        ):
            _, seconds, compile_s = timed(function, arguments, settings)
            microseconds = 1e6 * seconds / batch
            rows.append(Row("env", what, env.num_users, batch, "float32", microseconds, compile_s=compile_s))
        for row in rows:
            times = row.microseconds / rows[0].microseconds
            yield dataclasses.replace(row, note=f"{times:.2f} times the layer")


def policies_section(settings: Settings) -> Iterator[Row]:
    """Each policy's time per state; `gap_*` is the certified gap of the cuts, over the lower bound."""
    env, params = jaxmec.make("coinfer10")
    keys = jax.random.split(jax.random.key(1), _POLICY_BATCH)
    states, _ = jax.jit(lambda: scenario_states(env, params, 0, _POLICY_BATCH))()
    bounds = jax.jit(jax.vmap(lambda s: env.lower_bound(s, params)))(states)
    for name in (*BASELINES, "price"):
        policy = make_policy(name, env)
        cuts, seconds, compile_s = timed(jax.vmap(policy, (0, 0, None)), (keys, states, params), settings)
        reached = jax.jit(jax.vmap(lambda s, c: env.objective(s, c, params)))(states, cuts)
        gaps = np.asarray(reached) / np.asarray(bounds) - 1.0
        yield Row(
            section="policies",
            what=name,
            users=env.num_users,
            batch=_POLICY_BATCH,
            dtype="float32",
            microseconds=1e6 * seconds / _POLICY_BATCH,
            gap_p999=float(np.percentile(gaps, 99.9)),
            gap_max=float(gaps.max()),
            compile_s=compile_s,
            note=f"mean certified gap {gaps.mean():.2%}",
        )

"""The environment's step and every policy, on coinfer10."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxmec
from benchmarks.common import Row, Settings, timed, without_final_observation
from jaxmec.allocation import allocate, lower_bound
from jaxmec.policies import BASELINES, make_policy

_POLICY_BATCH = 256


def env_section(settings: Settings) -> Iterator[Row]:
    """`step` beside the allocation of the same slot problems."""
    env, params = jaxmec.make("coinfer10")
    for batch in settings.batches:
        keys = jax.random.split(jax.random.key(0), batch)
        _, states = jax.jit(jax.vmap(env.reset, (0, None)))(keys, params)
        cuts = jnp.zeros((batch, env.num_users), jnp.int32)
        problem = jax.jit(jax.vmap(env.slot_problem, (0, 0, None)))(states, cuts, params)
        step = jax.vmap(env.step, (0, 0, 0, None))
        for what, function, arguments in (
            ("env.step", partial(without_final_observation, step), (keys, states, cuts, params)),
            ("env.step, final_observation read", step, (keys, states, cuts, params)),
            ("allocate alone", jax.vmap(allocate), (problem,)),
            ("env.observe alone", jax.vmap(env.observe, (0, None)), (states, params)),
        ):
            _, seconds, compile_s = timed(function, arguments, settings)
            yield Row("env", what, env.num_users, batch, "float32", 1e6 * seconds / batch, compile_s=compile_s)


def policies_section(settings: Settings) -> Iterator[Row]:
    """Each policy's time per state; `gap_*` is the certified gap of the cuts, over the lower bound."""
    env, params = jaxmec.make("coinfer10")
    keys = jax.random.split(jax.random.key(0), _POLICY_BATCH)
    _, states = jax.jit(jax.vmap(env.reset, (0, None)))(keys, params)
    queue_keys = jax.random.split(jax.random.key(1))
    states = states.replace(
        device_queue=5.0 * jax.random.exponential(queue_keys[0], (_POLICY_BATCH, env.num_users)),
        server_queue=5.0 * jax.random.exponential(queue_keys[1], (_POLICY_BATCH,)),
    )
    bounds = jax.jit(
        jax.vmap(lambda s: lower_bound(env.cut_problems(s, params), env.action_mask(s, params)).value)
    )(states)
    for name in (*BASELINES, "price"):
        policy = make_policy(name, env)
        cuts, seconds, compile_s = timed(jax.vmap(policy, (0, 0, None)), (keys, states, params), settings)
        reached = jax.jit(jax.vmap(lambda s, c: allocate(env.slot_problem(s, c, params)).objective))(states, cuts)
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

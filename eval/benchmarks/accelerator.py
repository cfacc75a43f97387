"""Throughput on an accelerator: the layer, the environment's slot and training, up to a million systems at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import jax

import jaxmec
from benchmarks.common import Row, Settings, scenario_states, timed, without_final_observation
from jaxmec.agents import PPO
from jaxmec.allocation import allocate

BATCHES = (4096, 65536, 1048576)
TRAINED = ((4096, 32), (65536, 32), (262144, 32))  # environments, minibatches
UPDATES = 5


def accelerator_section(settings: Settings) -> Iterator[Row]:
    """`allocate` and `env.step` on coinfer10 at every batch, and updates of the default recipe."""
    env, params = jaxmec.make("coinfer10")
    step = jax.vmap(env.step, (0, 0, 0, None))
    for batch in BATCHES:
        keys = jax.random.split(jax.random.key(1), batch)
        states, cuts = jax.jit(lambda b=batch: scenario_states(env, params, 0, b))()
        problem = jax.jit(jax.vmap(env.slot_problem, (0, 0, None)))(states, cuts, params)
        for what, function, arguments in (
            ("allocate", jax.vmap(allocate), (problem,)),
            ("env.step", partial(without_final_observation, step), (keys, states, cuts, params)),
        ):
            _, seconds, compile_s = timed(function, arguments, settings)
            yield _row(what, env.num_users, batch, seconds, compile_s)
    for num_envs, num_minibatches in TRAINED:
        yield _training(num_envs, num_minibatches)


def _training(num_envs: int, num_minibatches: int) -> Row:
    env, params = jaxmec.make("coinfer10")
    algorithm = PPO(num_envs=num_envs, num_minibatches=num_minibatches)
    learner = jax.jit(lambda key: algorithm.init(env, key, params))(jax.random.key(0))
    started = time.perf_counter()
    update = jax.jit(lambda learner: algorithm.update(env, learner, params)[0], donate_argnums=0)
    compiled = update.lower(learner).compile()
    compile_s = time.perf_counter() - started
    learner = jax.block_until_ready(compiled(learner))
    fastest = float("inf")
    for _ in range(UPDATES):
        started = time.perf_counter()
        learner = jax.block_until_ready(compiled(learner))
        fastest = min(fastest, time.perf_counter() - started)
    return _row("update", env.num_users, num_envs, fastest, compile_s)


def _row(what: str, users: int, batch: int, seconds: float, compile_s: float) -> Row:
    return Row(
        section="accelerator",
        what=what,
        users=users,
        batch=batch,
        dtype="float32",
        microseconds=1e6 * seconds / batch,
        compile_s=compile_s,
        note=f"{batch / seconds / 1e6:,.2f} million a second",
    )

"""Training runs of many settings and seeds in one compiled call, chunk by chunk."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmec.agents import Algorithm, make_train
from jaxmec.environment import Environment, Params, Policy, State
from jaxmec.rollout import Slot, rollout
from jaxmec.sweeps.config import Evaluation
from jaxmec.sweeps.plan import Group, Setting, Trial

# Chunks that nobody has sized are no larger than this on a CPU: there they run no faster, and save later.
CPU_CHUNK = 16


@dataclasses.dataclass(frozen=True)
class Program:
    """A group compiled for chunks of one size."""

    call: Callable[..., dict[str, Array]]
    group: Group
    chunk: int  # trials per call
    memory_bytes: int  # of one call: arguments, results and temporaries
    compile_s: float

    def run(self, trials: Sequence[Trial]) -> dict[str, np.ndarray]:
        """Train at most `chunk` trials of the group: metric name -> [len(trials)]."""
        padded = [*trials, *[trials[-1]] * (self.chunk - len(trials))]
        metrics = jax.block_until_ready(self.call(*_arguments(self.group, padded)))
        return {name: np.asarray(values)[: len(trials)] for name, values in metrics.items()}


def train_trial(
    env: Environment, params: Params, algorithm: Algorithm, evaluation: Evaluation | None, seed: Array
) -> dict[str, Array]:
    """Train with one setting and seed.

    Returns:
      Scalars: every training metric as its mean over the last tenth of the updates, and with an evaluation the
      held-out metrics of the greedy learned policy, named eval_...
    """
    result = make_train(env, algorithm)(jax.random.key(seed), params)
    metrics = {name: jnp.mean(values[-max(values.shape[0] // 10, 1) :]) for name, values in result.metrics.items()}
    if evaluation is not None:
        policy = algorithm.policy(env, result.learner)
        held_out = evaluate_greedy(env, params, policy, evaluation)
        metrics |= {f"eval_{name}": value for name, value in held_out.items()}
    return metrics


def evaluate_greedy(env: Environment, params: Params, policy: Policy, evaluation: Evaluation) -> dict[str, Array]:
    """Long-run means of a policy over held-out episodes, as scalars.

    The environment's metrics, and gap: by how much the objective may exceed the best that any options reach,
    certified by the environment's lower bound at every `state_every`-th state (of the means, so that settings of
    different scenarios can be compared). The episodes are those of `jaxmec.evaluation.evaluate_policies` with the
    same seed and numbers.
    """
    every = evaluation.state_every

    def measure(slot: Slot) -> tuple[dict[str, Array], State]:
        return env.metrics(slot.state, slot.reward, slot.info, params), slot.state

    def episode(key: Array) -> tuple[dict[str, Array], Array]:
        key_reset, key_run = jax.random.split(key)
        _, start = env.reset(key_reset, params)
        _, (metrics, states) = rollout(env, policy, key_run, start, params, evaluation.num_slots, measure)
        # An episode's first state tells little: its queues are empty.
        some = jax.tree.map(lambda leaf: leaf[every::every], states)
        return metrics, jax.lax.map(lambda state: env.lower_bound(state, params), some)

    key_episodes, _ = jax.random.split(jax.random.key(evaluation.seed))
    metrics, bound = jax.vmap(episode)(jax.random.split(key_episodes, evaluation.num_envs))
    reached = metrics["objective"][:, every::every]
    return jax.tree.map(jnp.mean, metrics) | {"gap": jnp.mean(reached) / jnp.mean(bound) - 1.0}


def metric_names(setting: Setting, evaluation: Evaluation | None) -> list[str]:
    """What `train_trial` will return; nothing is compiled."""

    def trial(seed: Array) -> dict[str, Array]:
        return train_trial(setting.env, setting.params, setting.algorithm, evaluation, seed)

    return list(jax.eval_shape(trial, jax.ShapeDtypeStruct((), jnp.uint32)))


def compile_group(
    group: Group,
    seeds: int,
    evaluation: Evaluation | None,
    chunk: int | None = None,
    memory_bytes: float | None = None,
) -> Program:
    """Compile a group once, for the largest chunks that are allowed.

    Args:
      group: of `plan.group`.
      seeds: trials of each setting.
      evaluation: held-out episodes, if any.
      chunk: trials in one call. If absent, as many as fit `memory_bytes`: all of them if they do (on a CPU at
        most `CPU_CHUNK`), otherwise a second compilation for fewer, by the first one's own account.
      memory_bytes: limit for one call; half of what is free if absent.
    """
    trials = group.trials(seeds)
    limit = free_memory_bytes() / 2 if memory_bytes is None else memory_bytes
    largest = CPU_CHUNK if jax.default_backend() == "cpu" else len(trials)
    size = even_chunk(len(trials), chunk or largest)
    while True:
        program = _compile(group, [trials[i % len(trials)] for i in range(size)], evaluation)
        if chunk is not None or size == 1 or program.memory_bytes <= limit:
            return program
        size = even_chunk(len(trials), max(min(size - 1, int(size * limit / program.memory_bytes)), 1))


def even_chunk(trials: int, largest: int) -> int:
    """Size of chunks that need no more calls than chunks of the largest size, and little padding."""
    return math.ceil(trials / math.ceil(trials / largest))


def free_memory_bytes() -> int:
    """Memory left on the device; on a CPU, of the machine."""
    statistics = jax.devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _compile(group: Group, trials: list[Trial], evaluation: Evaluation | None) -> Program:
    first = group.settings[0]
    structure = jax.tree.structure((first.params, first.algorithm))

    def one(leaves: list[Any], seed: Array) -> dict[str, Array]:
        params, algorithm = jax.tree.unflatten(structure, leaves)
        return train_trial(first.env, params, algorithm, evaluation, seed)

    started = time.perf_counter()
    axes = [0 if changes else None for changes in group.varied]
    compiled = jax.jit(jax.vmap(one, (axes, 0))).lower(*_arguments(group, trials)).compile()
    memory = compiled.memory_analysis()
    return Program(
        call=compiled,
        group=group,
        chunk=len(trials),
        memory_bytes=sum(getattr(memory, f"{kind}_size_in_bytes") for kind in ("argument", "output", "temp")),
        compile_s=time.perf_counter() - started,
    )


def _arguments(group: Group, trials: Sequence[Trial]) -> tuple[list[Any], Array]:
    """Leaves, stacked [len(trials), ...] where they vary within the group, and seeds [len(trials)]."""
    columns = zip(*(setting.leaves() for setting, _ in trials), strict=True)
    leaves = [
        jnp.stack([jnp.asarray(leaf) for leaf in column]) if changes else column[0]
        for column, changes in zip(columns, group.varied, strict=True)
    ]
    return leaves, jnp.asarray([seed for _, seed in trials], jnp.uint32)

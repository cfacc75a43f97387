"""Policies on the same episodes and at the same states.

The headline is the user's problem, least mean delay within the long-term budgets (`jaxmec.long_run`): policies that
spend differently are compared by the problem's Lagrangian, which is the delay at equal energy, and all of them with a
certified bound. The slot objective at the same states measures the search within a slot. Every policy meets the same
populations, channels and arrivals (common random numbers), so differences between policies are far more certain than
each policy's own confidence interval says. A slot of all policies is one compiled programme, see `Slots`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmec import long_run
from jaxmec.blocks import blocks, joined
from jaxmec.config import LARGEST_SEED, check_limits, number
from jaxmec.environment import Environment, LongRunEnvironment, Params, Policy, State
from jaxmec.reporting.files import write_csv
from jaxmec.rollout import Slot, rollout

if TYPE_CHECKING:
    from rich.table import Table

BINDS = 0.95  # of a budget: whoever uses more is limited by it
Tell = Callable[[str], None]  # what is being done, for whoever waits


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How policies are evaluated; the same values and policies give the same result."""

    num_envs: int = number(32, at_least=1, at_most=10**6)  # episodes, each with its own population
    num_slots: int | None = number(None, at_least=1, at_most=10**9)
    """Per episode; the scenario's own length if absent."""
    time_decisions: bool = False  # how long each policy takes for a slot
    seed: int = number(2**20, at_least=0, at_most=LARGEST_SEED)
    """Far from training's seeds: the episodes are held out."""
    state_every: int = number(10, at_least=1, at_most=10**9)
    """Slots between the states at which objectives are compared."""
    ascent_slots: int = number(long_run.ASCENT_SLOTS, at_least=2, at_most=10**6)
    """Of every phase in which the budgets' multipliers are looked for."""
    reference: str | None = None  # whose states those are; best_response if it takes part, else the first policy

    def keys(self) -> Array:
        """Random keys [3]: of the populations and their ascent, of the episodes, of decisions at the same states."""
        return jax.random.split(jax.random.key(self.seed), 3)


@dataclasses.dataclass(frozen=True)
class LongRun:
    """One policy on its own trajectories. E episodes, T slots, N users."""

    metrics: dict[str, np.ndarray]  # name -> [E], one mean per episode
    curves: dict[str, np.ndarray]  # name -> [T], mean over episodes
    use: dict[str, np.ndarray]  # name -> [E, n] mean use of every budget, over the budget
    actions: np.ndarray  # int32[E, T, N]
    states: State  # leaves [E, T, ...], at the start of every slot


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything an evaluation found, by policy."""

    long_run: dict[str, LongRun]
    long_run_bound: (
        np.ndarray | None
    )  # [E] certified, of the long-run cost; None for an environment without budgets
    objectives: dict[
        str, np.ndarray
    ]  # [S] at the same states; not of policies that have an answer on their own only
    bound: np.ndarray  # [S] certified lower bound at those states
    states: State  # [S, ...]
    reference: str
    decision_s: dict[str, float]  # per state, all states at once; empty if not asked for
    scenario: str = ""  # name and version, "district10-v1"

    def save(self, folder: Path) -> None:
        """Write `long_run.csv` and `same_states.csv`."""
        from jaxmec.evaluation import tables

        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (
            ("long_run.csv", tables.long_run_rows(self.long_run)),
            ("same_states.csv", tables.same_state_rows(self)),
        ):
            write_csv(folder / name, [{**row, "scenario": self.scenario} for row in rows])

    def tables(self) -> list[Table]:
        """The two tables for a terminal."""
        from jaxmec.evaluation import tables

        return [tables.long_run_table(self), tables.same_state_table(self)]


def evaluate_policies(
    env: Environment,
    params: Params,
    policies: Mapping[str, Policy],
    config: EvaluationConfig = EvaluationConfig(),
    tell: Tell = lambda _: None,
    slots: Slots | None = None,
    start: tuple[State, long_run.Multipliers] | None = None,
) -> Comparison:
    """Run every policy on the same held-out episodes and compare their objectives at the reference's states.

    Args:
      env: the environment.
      params: of the system; `episode_slots` of it is the episodes' length where the configuration has none.
      policies: by name.
      config: how.
      tell: is told what is being done.
      slots: of the same environment and policies, where several systems are evaluated one after the other.
      start: states [E, ...] and multipliers as `jaxmec.long_run.ascend` gives them, where they are known; the long-run
        problem does not depend on V, so that one ascent serves all V.

    Raises:
      ValueError: if there is no policy, or the reference is not among them.
      ConfigError: if a number of the configuration is outside its limits.
    """
    check_limits(config)
    if not policies:
        raise ValueError("policies: got none; allowed is at least one")
    reference = config.reference
    if reference is None:
        reference = "best_response" if "best_response" in policies else next(iter(policies))
    if reference not in policies:
        raise ValueError(f"reference: got {reference!r}; allowed are {', '.join(policies)}")
    num_slots = int(params.episode_slots) if config.num_slots is None else config.num_slots
    key_start, key_episodes, key_states = config.keys()
    states, multipliers = start or (None, None)
    if start is None and isinstance(env, LongRunEnvironment):
        tell("looking for the multipliers of the budgets")
        states, multipliers = long_run.ascend(env, key_start, params, config.num_envs, config.ascent_slots)
    slots = slots or Slots(env, policies)
    results = long_runs(env, policies, key_episodes, params, config.num_envs, num_slots, states, tell, slots)
    bound_long_run = None
    if multipliers is not None and isinstance(env, LongRunEnvironment):
        tell("bounding what any policy could reach in the long run")
        bound_long_run = long_run.lower_bound(env, results[reference].states, multipliers, params)
        results = {name: at_equal_energy(run, multipliers, bound_long_run) for name, run in results.items()}
    states = jax.tree.map(
        lambda leaf: leaf[:, config.state_every - 1 :: config.state_every].reshape(-1, *leaf.shape[2:]),
        results[reference].states,
    )
    objectives = objectives_at(env, policies, key_states, params, states, tell, slots, config.num_envs)
    tell("bounding what any policy could reach in a slot")
    bound = long_run.bounds_at(env, states, params)
    decision_s = {}
    if config.time_decisions:
        for name, policy in policies.items():
            tell(f"timing {name}")
            decision_s[name] = decision_seconds(env, policy, key_states, params, states)
    scenario = getattr(env, "name", type(env).__name__)
    return Comparison(results, bound_long_run, objectives, bound, states, reference, decision_s, scenario)


def compare(
    env: Environment,
    params_batch: Sequence[Params],
    policies: Mapping[str, Policy],
    config: EvaluationConfig = EvaluationConfig(),
    tell: Tell = lambda _: None,
) -> list[Comparison]:
    """`evaluate_policies` in several systems, one after the other: one compilation and the same random numbers for all.

    Args:
      env: the environment of them all.
      params_batch: of each system; their leaves have the same shapes.
      policies: by name.
      config: how; timing decisions compiles each policy once more in every system.
      tell: is told what is being done.

    Raises:
      ValueError: if shapes or kinds differ, naming the leaf, and as `evaluate_policies`.
    """
    for index, params in enumerate(params_batch):
        if difference := differing_leaf(params_batch[0], params):
            raise ValueError(f"params_batch[{index}]: {difference}, as in params_batch[0]")
    slots = Slots(env, policies)

    def evaluate(turn: int, params: Params) -> Comparison:
        def told(what: str) -> None:
            tell(f"system {turn} of {len(params_batch)}: {what}")

        return evaluate_policies(env, params, policies, config, told, slots)

    return [evaluate(turn, params) for turn, params in enumerate(params_batch, start=1)]


def differing_leaf(first: Params, other: Params) -> str | None:
    """What of other params a compilation for the first ones would not take, "rate: got ...; allowed is ..."."""
    kinds, others = (
        {
            jax.tree_util.keystr(path, simple=True, separator="."): str(leaf if leaf is None else jax.typeof(leaf))
            for path, leaf in jax.tree.leaves_with_path(params, is_leaf=lambda leaf: leaf is None)
        }
        for params in (first, other)
    )
    for name in kinds | others:
        got, allowed = others.get(name, "nothing"), kinds.get(name, "nothing")
        if got != allowed:
            return f"{name}: got {got}; allowed is {allowed}"
    # By their texts: in JAX 0.10 the structures of unlike dataclasses with fields of the same names are equal.
    if str(jax.tree.structure(first)) != str(jax.tree.structure(other)):
        return "a process: got another kind; allowed is the same"
    return None


class Slots:
    """A slot of many systems under any of several policies, compiled once: a number picks the policy.

    Compilation takes longer than most evaluations, and the environment, its larger part, is the same for all of them.
    """

    def __init__(self, env: Environment, policies: Mapping[str, Policy]) -> None:
        """Of these policies; nothing is compiled yet."""

        def measure(slot: Slot, params: Params) -> tuple:
            measured = env.metrics(slot.state, slot.reward, slot.info, params)
            if isinstance(env, LongRunEnvironment):
                measured |= {"cost": env.long_run_cost(slot.info, params)}
            return measured, env.budget_use(slot.state, slot.info, params), slot.action

        def play(number: Array, states: State, keys: Array, params: Params) -> tuple[State, tuple]:
            def policy(key: Array, state: State, params: Params) -> Array:
                return jax.lax.switch(number, list(policies.values()), key, state, params)

            def one(state: State, key: Array) -> tuple[State, Any]:
                state, measured = rollout(env, policy, key, state, params, 1, partial(measure, params=params))
                return state, jax.tree.map(lambda leaf: leaf[0], measured)

            return jax.vmap(one)(states, keys)

        self._numbers = {name: jnp.asarray(number) for number, name in enumerate(policies)}
        self._play = jax.jit(play)

    def __call__(
        self, name: str, states: State, keys: Array, params: Params
    ) -> tuple[State, tuple[dict, dict, Array]]:
        """From states [B, ...] with keys [B]: the next states, and metrics, use of budgets and actions, [B, ...]."""
        return self._play(self._numbers[name], states, keys, params)


def long_runs(
    env: Environment,
    policies: Mapping[str, Policy],
    key: Array,
    params: Params,
    num_episodes: int,
    num_slots: int,
    start: State | None = None,
    tell: Tell = lambda _: None,
    slots: Slots | None = None,
) -> dict[str, LongRun]:
    """Run policies for whole episodes, each with its own population; the same key gives the same episodes.

    They begin at the states `start` [E, ...], or with a reset.
    """
    slots = slots or Slots(env, policies)
    key_reset, key_run = jax.random.split(key)
    if start is None:
        start = long_run.populations(env, jax.random.split(key_reset, num_episodes), params)
    keys = jax.random.split(key_run, (num_slots, num_episodes))
    results = {}
    for count, name in enumerate(policies):
        tell(f"evaluating {name}, {count + 1} of {len(policies)}")
        state, visited, found = start, [], []
        for slot in range(num_slots):
            visited.append(state)
            state, measured = slots(name, state, keys[slot], params)
            found.append(measured)
        results[name] = _long_run(_stacked(visited), *_stacked(found))
    return results


def _long_run(states: State, measured: dict, use: dict, actions: np.ndarray) -> LongRun:
    """What was found in every slot, [E, T, ...], by episode and by slot."""
    metrics = {name: values.mean(axis=1) for name, values in measured.items()}
    for name, values in use.items():
        metrics[f"{name}_excess"] = np.maximum(values.mean(axis=1) - 1.0, 0.0).mean(axis=-1)
        settled = values[:, values.shape[1] // 2 :].mean(axis=1)
        metrics[f"{name}_binding"] = (settled >= BINDS).mean(axis=-1)
    return LongRun(
        metrics=metrics,
        curves={name: values.mean(axis=0) for name, values in measured.items()},
        use={name: values.mean(axis=1) for name, values in use.items()},
        actions=actions,
        states=states,
    )


def _stacked(slots: list) -> Any:
    """What slots left, each [E, ...], as NumPy arrays [E, T, ...]."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves], axis=1), *slots)


def objectives_at(
    env: Environment,
    policies: Mapping[str, Policy],
    key: Array,
    params: Params,
    states: State,
    tell: Tell = lambda _: None,
    slots: Slots | None = None,
    at_once: int | None = None,
) -> dict[str, np.ndarray]:
    """Slot objective [S] of every policy's options at given states [S, ...], `at_once` of them in a call, or all.

    Policies whose answers hold on their own trajectories only are left out.
    """
    slots = slots or Slots(env, policies)
    kept = [name for name, one in policies.items() if not getattr(one, "own_trajectory_only", False)]
    count = _number_of(states)
    size = at_once or count
    keys = jax.random.split(key, count)
    objectives = {}
    for turn, name in enumerate(kept):
        tell(f"comparing {name} at the same states, {turn + 1} of {len(kept)}")
        parts = []
        for some, some_keys in blocks((states, keys), size):
            _, (measured, _, _) = slots(name, some, some_keys, params)
            parts.append(measured["objective"])
        objectives[name] = joined(parts, count)
    return objectives


def decision_seconds(env: Environment, policy: Policy, key: Array, params: Params, states: State) -> float:
    """Seconds per state for the options of all states [S, ...] at once: the fastest of three, compilation apart."""
    keys = jax.random.split(key, _number_of(states))
    decide = jax.jit(jax.vmap(policy, (0, 0, None))).lower(keys, states, params).compile()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        jax.block_until_ready(decide(keys, states, params))
        seconds.append(time.perf_counter() - started)
    return min(seconds) / len(keys)


def at_equal_energy(run: LongRun, multipliers: long_run.Multipliers, bound: np.ndarray) -> LongRun:
    """The run with `equal_energy`, the Lagrangian [E], and `long_run_gap`, its excess over the bound's mean.

    The gap is not a number where that mean is not above zero, as multipliers that are far off may make it.
    """
    value = long_run.lagrangian(run.metrics["cost"], run.use, multipliers)
    mean = bound.mean()
    gap = (value - bound) / (mean if mean > 0.0 else np.nan)
    return dataclasses.replace(run, metrics=run.metrics | {"equal_energy": value, "long_run_gap": gap})


def _number_of(states: State) -> int:
    return jax.tree.leaves(states)[0].shape[0]

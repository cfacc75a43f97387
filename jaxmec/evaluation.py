"""What policies are judged by: long-run metrics on their own trajectories, and objectives at the same states.

Every policy meets the same populations, channels and arrivals (common random numbers), so differences between
policies are far more certain than each policy's own confidence interval says.
"""

from __future__ import annotations

import csv
import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmec.allocation import allocate, lower_bound
from jaxmec.config import number
from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.policies import Policy

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

METRICS = {
    "delay_s": "mean end-to-end delay of a request, s",
    "device_energy": "device and radio energy over its budget",
    "server_energy": "server energy over its budget",
    "violation": "mean over users of the excess of the episode's mean energy over the budget",
    "binding": "share of users whose mean energy reaches 95 % of the budget in the episode's second half",
    "stable": "share of users and slots in which every stage keeps up",
    "reward": "mean reward per slot, s per user",
    "objective": "mean slot objective",
    "edge": "share of users that send the raw input",
    "middle": "share of users that cut inside their network",
    "local": "share of users that run all on the device",
}


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How policies are evaluated; the same values and policies give the same report."""

    num_envs: int = number(32, at_least=1)  # episodes, each with its own population
    num_slots: int | None = number(None, at_least=1)  # per episode; the scenario's own length if absent
    time_decisions: bool = False  # how long each policy takes for a slot
    seed: int = 2**20  # far from training's seeds: the episodes are held out
    state_every: int = number(10, at_least=1)  # slots between the states at which objectives are compared
    reference: str = "best_response"  # whose states those are, and whom the others are compared with


@dataclasses.dataclass(frozen=True)
class LongRun:
    """One policy on its own trajectories. E episodes, T slots, M networks, D device classes, K cuts."""

    metrics: dict[str, np.ndarray]  # name in METRICS -> [E], one mean per episode
    curves: dict[str, np.ndarray]  # delay_s, device_queue, server_queue -> [T], mean over episodes and users
    cut_counts: np.ndarray  # [M, D, K] how often each cut ran
    states: EnvState  # leaves [E, T, ...], at the start of every slot


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything an evaluation found, by policy."""

    long_run: dict[str, LongRun]
    objectives: dict[str, np.ndarray]  # [S] at the same states
    bound: np.ndarray  # [S] certified lower bound at those states
    states: EnvState  # [S, ...]
    reference: str
    decision_s: dict[str, float]  # per state, all states at once; empty if not asked for

    def save(self, folder: Path) -> None:
        """Write `long_run.csv` and `same_states.csv`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "long_run.csv", long_run_rows(self.long_run))
        write_csv(folder / "same_states.csv", same_state_rows(self))

    def tables(self) -> list[Table]:
        """The two tables for a terminal."""
        return [
            long_run_table(long_run_rows(self.long_run)),
            same_state_table(same_state_rows(self), self.reference),
        ]


def evaluate_policies(
    env: EdgeInferenceEnv, params: EnvParams, policies: Mapping[str, Policy], config: EvaluationConfig
) -> Report:
    """Run every policy on the same held-out episodes and compare their objectives at the reference's states.

    Raises:
      ValueError: if the reference is not among the policies.
    """
    if config.reference not in policies:
        raise ValueError(f"reference: got {config.reference!r}; allowed are {', '.join(policies)}")
    num_slots = int(params.episode_slots) if config.num_slots is None else config.num_slots
    key_episodes, key_states = jax.random.split(jax.random.key(config.seed))
    results = {
        name: long_run(env, policy, key_episodes, params, config.num_envs, num_slots)
        for name, policy in policies.items()
    }
    states = jax.tree.map(
        lambda leaf: leaf[:, config.state_every - 1 :: config.state_every].reshape(-1, *leaf.shape[2:]),
        results[config.reference].states,
    )
    return Report(
        long_run=results,
        objectives={
            name: objectives_at(env, policy, key_states, params, states) for name, policy in policies.items()
        },
        bound=bounds_at(env, params, states),
        states=states,
        reference=config.reference,
        decision_s={
            name: decision_seconds(env, policy, key_states, params, states)
            for name, policy in policies.items()
            if config.time_decisions
        },
    )


def long_run(
    env: EdgeInferenceEnv, policy: Policy, key: Array, params: EnvParams, num_episodes: int, num_slots: int
) -> LongRun:
    """Run a policy for whole episodes, each with its own population; the same key gives the same episodes."""
    networks, classes, _ = params.device_work_s.shape

    def episode(key: Array) -> tuple[dict[str, Array], dict[str, Array], Array, EnvState]:
        key_reset, key_run = jax.random.split(key)
        _, start = env.reset_env(key_reset, params)
        budget_j = env.device_budget_j(start, params)
        last_cut = jnp.sum(env.action_mask(start, params), axis=-1) - 1

        def slot(state: EnvState, key: Array) -> tuple[EnvState, tuple[dict[str, Array], Array, EnvState]]:
            key_policy, key_step = jax.random.split(key)
            action = policy(key_policy, state, params)
            _, next_state, reward, _, info = env.step_env(key_step, state, action, params)
            cut = info["cut"]
            record = {
                "delay_s": info["delay_s"],
                "device_energy": info["device_energy_j"] / budget_j,
                "server_energy": info["server_energy_j"] / params.server_budget_j,
                "stable": info["stable"],
                "reward": reward,
                "objective": info["objective"],
                "edge": (cut == 0) & (last_cut > 0),
                "middle": (cut > 0) & (cut < last_cut),
                "local": cut == last_cut,
                "device_queue": next_state.device_queue,
                "server_queue": next_state.server_queue,
            }
            return next_state, (record, cut, state)

        _, (record, cuts, states) = jax.lax.scan(slot, start, jax.random.split(key_run, num_slots))
        excess = jnp.maximum(jnp.mean(record["device_energy"], axis=0) - 1.0, 0.0)
        settled = jnp.mean(record["device_energy"][num_slots // 2 :], axis=0)
        metrics = {name: jnp.mean(record[name]) for name in METRICS if name in record}
        metrics |= {"violation": jnp.mean(excess), "binding": jnp.mean(settled >= 0.95)}
        curves = {
            name: jnp.mean(record[name], axis=tuple(range(1, record[name].ndim)))
            for name in ("delay_s", "device_queue", "server_queue")
        }
        where = (start.network, start.device, cuts)
        counts = jnp.zeros((networks, classes, env.num_cuts), jnp.int32).at[where].add(1)
        return metrics, curves, counts, states

    metrics, curves, counts, states = jax.jit(jax.vmap(episode))(jax.random.split(key, num_episodes))
    return LongRun(
        metrics={name: np.asarray(metrics[name]) for name in METRICS},
        curves={name: np.asarray(curve).mean(axis=0) for name, curve in curves.items()},
        cut_counts=np.asarray(counts).sum(axis=0),
        states=states,
    )


def objectives_at(
    env: EdgeInferenceEnv, policy: Policy, key: Array, params: EnvParams, states: EnvState
) -> np.ndarray:
    """Slot objective [S] of a policy's cuts, with the exact allocation, at given states [S, ...]."""

    def objective(key: Array, state: EnvState) -> Array:
        cut = policy(key, state, params)
        return allocate(env.slot_problem(state, cut, params), env.solver).objective

    num_states = states.slot.shape[0]
    return np.asarray(jax.jit(jax.vmap(objective))(jax.random.split(key, num_states), states))


def decision_seconds(
    env: EdgeInferenceEnv, policy: Policy, key: Array, params: EnvParams, states: EnvState
) -> float:
    """Seconds per state for the cuts of all states [S, ...] at once: the fastest of three, compilation apart."""
    keys = jax.random.split(key, states.slot.shape[0])
    decide = jax.jit(jax.vmap(policy, (0, 0, None))).lower(keys, states, params).compile()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        jax.block_until_ready(decide(keys, states, params))
        seconds.append(time.perf_counter() - started)
    return min(seconds) / len(keys)


def bounds_at(env: EdgeInferenceEnv, params: EnvParams, states: EnvState) -> np.ndarray:
    """Certified lower bound [S] of the slot objective over all cuts and shares, at given states [S, ...]."""

    def bound(state: EnvState) -> Array:
        return lower_bound(env.cut_problems(state, params), env.action_mask(state, params)).value

    return np.asarray(jax.jit(jax.vmap(bound))(states))


def mean_and_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean of independent values [E] and the half-width of its 95 % confidence interval (normal)."""
    spread = values.std(ddof=1) if len(values) > 1 else np.nan
    return float(values.mean()), float(1.96 * spread / np.sqrt(len(values)))


def long_run_rows(results: Mapping[str, LongRun]) -> list[dict[str, float | str]]:
    """One row per policy: every metric's mean and the half-width of its 95 % interval."""
    rows = []
    for policy, result in results.items():
        row: dict[str, float | str] = {"policy": policy}
        for name, values in result.metrics.items():
            row[name], row[f"{name}_ci95"] = mean_and_interval(values)
        rows.append(row)
    return rows


def same_state_rows(report: Report) -> list[dict[str, float | str]]:
    """One row per policy: objectives at the same states, against the reference policy and the bound."""
    best, bound = report.objectives[report.reference], report.bound
    return [
        {
            "policy": policy,
            "objective_mean": float(values.mean()),
            "objective_p50": float(np.percentile(values, 50)),
            "objective_p99": float(np.percentile(values, 99)),
            "mean_over_reference": float(values.mean() / best.mean()),
            "ratio_to_reference_mean": float((values / best).mean()),
            "ratio_to_reference_p99": float(np.percentile(values / best, 99)),
            "certified_gap_mean": float((values / bound - 1.0).mean()),
            "certified_gap_p99": float(np.percentile(values / bound - 1.0, 99)),
            "decision_us": 1e6 * report.decision_s.get(policy, float("nan")),
        }
        for policy, values in report.objectives.items()
    ]


def write_csv(path: Path, rows: list[dict[str, float | str]]) -> None:
    """Write rows that share their keys."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def terminal(*, stderr: bool = True) -> Console:
    """A console, wide enough for the tables where no terminal limits it."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 150, highlight=False)


def long_run_table(rows: list[dict[str, float | str]]) -> Table:
    """The long-run metrics for a terminal."""
    headers = {
        "delay_s": "delay [s]",
        "device_energy": "device energy / budget",
        "server_energy": "server energy / budget",
        "violation": "violation",
        "stable": "stable",
        "reward": "reward [s]",
    }
    table = _table(
        "On each policy's own trajectory (± 95 % confidence interval)",
        [*headers.values(), "edge / middle / local"],
    )
    for row in rows:
        cells = [f"{row[name]:.3f} ± {row[f'{name}_ci95']:.3f}" for name in headers]
        cuts = " / ".join(f"{row[name]:.0%}" for name in ("edge", "middle", "local"))
        table.add_row(str(row["policy"]), *cells, cuts)
    return table


def same_state_table(rows: list[dict[str, float | str]], reference: str) -> Table:
    """The objectives at the same states for a terminal."""
    headers = {
        "objective_mean": ("mean", "{:.2f}"),
        "objective_p99": ("p99", "{:.1f}"),
        "mean_over_reference": (f"mean / {reference}", "{:.4f}"),
        "ratio_to_reference_mean": ("mean ratio", "{:.4f}"),
        "ratio_to_reference_p99": ("p99 ratio", "{:.3f}"),
        "certified_gap_mean": ("certified gap", "{:.2%}"),
        "certified_gap_p99": ("p99 gap", "{:.2%}"),
    }
    if all(row["decision_us"] == row["decision_us"] for row in rows):
        headers["decision_us"] = ("µs / slot", "{:,.0f}")
    table = _table("Slot objective at the same states", [header for header, _ in headers.values()])
    for row in rows:
        table.add_row(str(row["policy"]), *(form.format(row[name]) for name, (_, form) in headers.items()))
    return table


def _table(title: str, headers: list[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("policy", no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right")
    return table

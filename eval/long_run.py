"""Does a learner of the long-run problem beat the myopic optimum of drift-plus-penalty?

python eval/long_run.py [--scenario district10] [--seeds 2] [--total-steps 800000] [--episodes 64]

The long-run problem is that of `jaxmec.long_run`. From states whose queues stand for its multipliers,
and under the same random numbers, run best_response with queues for several V and with constant multipliers; the
default learner, with queues; and two direct learners, with a discount. One has queues, which keep the budgets
whatever the cuts, and the delay alone as reward; it starts from the default learner's weights. The other is trained
where queues are nearly multipliers (the last V of the dual ascent, populations kept for the whole training) and runs
with constant ones; it is trained without a discount, too.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.table import Table

import jaxmec
from jaxmec.agents import PPO, Learner
from jaxmec.compilation import keep_compiled
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.environment import Policy
from jaxmec.evaluation import LongRun, at_equal_energy, long_runs, mean_and_interval
from jaxmec.long_run import ASCENT, ascend, lower_bound, priced_states
from jaxmec.lyapunov import FixedMultipliers
from jaxmec.policies import make_policy
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.figures.long_run import delay_over_bound
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.tables import table
from jaxmec.reward import MeanDelay
from jaxmec.scenario import DEFAULT

Row = dict[str, float | str]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Compare learners of the long-run problem with drift-plus-penalty."""

    scenario: str = DEFAULT
    """Name or YAML file."""
    tradeoffs: tuple[float, ...] = (0.25, 4.0, 16.0, 64.0)
    """Further V of drift-plus-penalty, over the scenario's."""
    discount: float = 0.95
    """Of the direct learners."""
    seeds: int = 2
    """Runs of each learner."""
    total_steps: int = 800_000
    """Slots of each run."""
    episodes: int = 64
    """Held-out episodes, each with its own population."""
    slots: int = 300
    """Of each episode."""
    seed: int = 2**20
    """Of the held-out episodes."""
    out: Path = Path("runs/long_run")
    """Folder of long_run.csv and long_run.png."""


def train(env: EdgeInferenceEnv, algorithm: PPO, params: EnvParams, starts: list[Learner | None]) -> list[Learner]:
    """Train seeds 0, 1, ..., with the models of `starts` if any."""
    init = jax.jit(lambda key: algorithm.init(env, key, params))
    update = jax.jit(lambda learner: algorithm.update(env, learner, params)[0])
    learners = []
    for seed, start in enumerate(starts):
        learner = init(jax.random.key(seed))
        if start is not None:
            learner = learner.replace(model=start.model)
        for _ in range(algorithm.num_updates):
            learner = update(learner)
        learners.append(learner)
    return learners


def judge(runs: Mapping[str, list[LongRun]], multipliers: dict[str, jax.Array], bound: np.ndarray) -> list[Row]:
    """The rows of runs whose energy has no price yet."""
    priced = {name: [at_equal_energy(run, multipliers, bound) for run in seeds] for name, seeds in runs.items()}
    return summarise(
        priced, bound, sum(float(np.mean(np.sum(prices, axis=-1))) for prices in multipliers.values())
    )


def summarise(runs: Mapping[str, list[LongRun]], bound: np.ndarray, weight_s: float) -> list[Row]:
    """One row per policy: means over seeds and episodes, and half-widths of 95 % intervals over episodes.

    `over_bound` and `over_first` compare the delay at equal energy with the bound [E] and with the first policy, and
    have the intervals of paired differences. `priced_energy` is energy over budget, every budget weighted by its
    multiplier; `weight_s` is the multipliers' mean sum over an episode's budgets.
    """

    def mean(seeds: list[LongRun], name: str) -> np.ndarray:
        return np.mean([run.metrics[name] for run in seeds], axis=0)

    first = mean(next(iter(runs.values())), "equal_energy")
    rows = []
    for policy, seeds in runs.items():
        delay, equal = mean(seeds, "cost"), mean(seeds, "equal_energy")
        row: Row = {"policy": policy, "seeds": len(seeds)}
        for name, values in {
            "delay_s": delay,
            "device_energy": mean(seeds, "device_energy"),
            "server_energy": mean(seeds, "server_energy"),
            "device_energy_excess": mean(seeds, "device_energy_excess"),
            "priced_energy": 1.0 + (equal - delay) / weight_s,
            "equal_energy": equal,
            "delay_over_bound": (delay - bound) / bound.mean(),
            "over_bound": (equal - bound) / bound.mean(),
            "over_first": (equal - first) / first.mean(),
        }.items():
            row[name], row[f"{name}_ci95"] = mean_and_interval(values)
        rows.append(row)
    return rows


def show(rows: list[Row]) -> Table:
    """The rows for a terminal."""

    def percent(row: Row, name: str) -> str:
        return f"{100 * float(row[name]):+.1f} ± {100 * float(row[f'{name}_ci95']):.1f}"

    return table(
        "Long run: energies over budgets, ± 95 %, at equal energy over the bound and over the first row",
        ["policy", "delay [s]", "devices", "server", "excess", "bound [%]", "first [%]"],
        [
            [
                row["policy"],
                f"{row['delay_s']:.4f}",
                f"{row['device_energy']:.3f}",
                f"{row['server_energy']:.3f}",
                f"{row['device_energy_excess']:.2%}",
                percent(row, "over_bound"),
                percent(row, "over_first"),
            ]
            for row in rows
        ],
    )


def main(flags: Flags) -> int:
    """Train, evaluate, print, write and draw; returns the exit status."""
    console = terminal()
    keep_compiled()
    try:
        env, params = jaxmec.make(flags.scenario)
        default = PPO(total_steps=flags.total_steps)
        default.check(env)
        flags.out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        return fail(console, error)
    constant = dataclasses.replace(env, constraints=FixedMultipliers())
    fine = params.replace(tradeoff=ASCENT[-1] * params.tradeoff)
    key_dual, key = jax.random.split(jax.random.key(flags.seed))
    say(console, "looking for the multipliers of the budgets")
    states, multipliers = ascend(env, key_dual, params, flags.episodes)
    runs: dict[str, list[LongRun]] = {}

    def evaluate(name: str, env: EdgeInferenceEnv, params: EnvParams, policies: list[Policy]) -> None:
        start = priced_states(env, states, multipliers, params)
        named = {str(seed): policy for seed, policy in enumerate(policies)}
        found = long_runs(env, named, key, params, flags.episodes, flags.slots, start)
        runs[name] = list(found.values())
        say(console, f"{name}: {np.mean([run.metrics['delay_s'] for run in runs[name]]):.4f} s")

    def learn(
        name: str,
        trained: EdgeInferenceEnv,
        evaluated: EdgeInferenceEnv,
        params: EnvParams,
        algorithm: PPO,
        starts: list[Learner | None],
    ) -> list[Learner]:
        say(console, f"training {name}, {len(starts)} runs")
        learners = train(trained, algorithm, params, starts)
        evaluate(name, evaluated, params, [algorithm.policy(evaluated, one) for one in learners])
        return learners

    best = make_policy("best_response", env)
    for factor in dict.fromkeys((1.0, *flags.tradeoffs)):
        changed = params.replace(tradeoff=factor * params.tradeoff)
        evaluate(f"best_response, V = {changed.tradeoff:g}", env, changed, [best])
    evaluate("best_response, multipliers", constant, fine, [make_policy("best_response", constant)])
    fresh: list[Learner | None] = [None] * flags.seeds
    myopic = learn("learner, queues, myopic", env, env, params, default, fresh)
    direct = default.replace(num_envs=1024, num_steps=8, num_minibatches=64)
    far = direct.replace(discount=flags.discount)
    tuned = far.replace(reward="environment", learning_rate=1e-3, entropy_weight=1e-3)
    delay = dataclasses.replace(env, reward=MeanDelay())
    learn(f"learner, queues, γ = {flags.discount:g}", delay, env, params, tuned, [*myopic])
    kept = dataclasses.replace(env, redraw_population=False)
    for algorithm in (far, direct):
        learn(f"learner, multipliers, γ = {algorithm.discount:g}", kept, constant, fine, algorithm, fresh)

    bound = lower_bound(env, runs["best_response, multipliers"][0].states, multipliers, params)
    rows = judge(runs, multipliers, bound)
    write_csv(flags.out / "long_run.csv", rows)
    delay_over_bound(flags.out / "long_run.png", rows)
    terminal(stderr=False).print(show(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))

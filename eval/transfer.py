"""One policy for every problem: trained on a mix of scenarios and numbers of users, judged on each.

python eval/transfer.py [--tasks district10 mobile coinfer10:4 …] [--total-steps N] [--out DIR]

Updates take turns over the tasks; network, running statistics and optimiser are one. A task is a scenario's name or
file, with ":N" for another number of users. The folder that is written is a run's, so that every command takes it as
`--run`, this one too: `python eval/transfer.py --run DIR` judges it again.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.progress import track
from rich.table import Table

import jaxmec
from jaxmec.agents import PPO, load_policy
from jaxmec.agents.algorithm import Algorithm, Learner
from jaxmec.agents.run import RunConfig, check_new, locked, save_policy, write_config
from jaxmec.compilation import keep_compiled
from jaxmec.config import LARGEST_SEED, ConfigError, check_limits, number
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.evaluation import Comparison, EvaluationConfig, evaluate_policies, paired_difference
from jaxmec.policies import best_of, make_policy
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.tables import table
from jaxmec.scenario import DEFAULT

BASELINES = ("closed_form", "best_response")
GUARDED = "learned or closed_form"  # whichever is better in a slot
Row = dict[str, float | str]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train one policy on many problems."""

    tasks: tuple[str, ...] = (
        DEFAULT, "mobile", "overload", "video", "bursty", "llm_split", "coinfer10", "coinfer4", "coinfer50",
    )  # fmt: skip
    """What it is trained on and judged by: scenarios, with ":N" for another number of users."""
    unseen: tuple[str, ...] = ("district10:4", "district10:20")
    """What it is judged by only."""
    run: Path | None = None
    """Folder of a policy that was trained before: it is judged, and nothing is trained."""
    total_steps: int = number(4_000_000, at_least=1, at_most=10**12)
    """Slots over all tasks."""
    seed: int = number(0, at_least=0, at_most=LARGEST_SEED)
    """Of training."""
    num_envs: int = number(16, at_least=1, at_most=10**6)
    """Held-out episodes of every task."""
    num_slots: int = number(100, at_least=1, at_most=10**9)
    """Slots of each."""
    out: Path = Path("runs/mix")
    """The run's folder, and transfer.csv in it."""


def make_task(task: str) -> tuple[EdgeInferenceEnv, EnvParams]:
    """The environment of "SCENARIO" or "SCENARIO:USERS".

    Raises:
      ConfigError: naming the task.
    """
    scenario, colon, users = task.rpartition(":")
    if not colon or not users.isdigit():
        return jaxmec.make(task)
    try:
        return jaxmec.make(scenario, num_users=int(users))
    except ValueError as error:
        raise ConfigError(f"tasks: {task}: {error}") from None


def train(
    algorithm: Algorithm, tasks: Sequence[tuple[EdgeInferenceEnv, EnvParams]], key: jax.Array, turns: Iterable[int]
) -> Learner:
    """Updates in turn, the model and all that learns it handed on: the learner of the last turn."""
    keys = jax.random.split(key, len(tasks))
    learners = [
        jax.jit(algorithm.init, static_argnums=0)(env, own, params)
        for (env, params), own in zip(tasks, keys, strict=True)
    ]
    update = jax.jit(lambda env, learner, params: algorithm.update(env, learner, params)[0], static_argnums=0)
    last = learners[0]
    for turn in turns:
        env, params = tasks[turn]
        mine = learners[turn].replace(model=last.model, optimiser=last.optimiser, updates=last.updates)
        last = learners[turn] = update(env, mine, params)
    return last


def judge(task: str, seen: bool, comparison: Comparison) -> Row:
    """What the learned policy and the baselines reach on one task."""
    gaps = {
        name: float(np.mean(values / comparison.bound - 1.0)) for name, values in comparison.objectives.items()
    }
    equal = {name: run.metrics["equal_energy"] for name, run in comparison.long_run.items()}
    mean, half = paired_difference(equal["learned"], equal["closed_form"])
    scale = float(equal["closed_form"].mean())
    return {
        "task": task,
        "seen": "yes" if seen else "no",
        **{f"gap_{name}": gap for name, gap in gaps.items()},
        "delay_over_closed_form": mean / scale,
        "delay_over_closed_form_ci95": half / scale,
    }


def show(rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
    body = [
        [
            str(row["task"]),
            str(row["seen"]),
            *(f"{100 * float(row[f'gap_{name}']):.2f}" for name in ("learned", GUARDED, *BASELINES)),
            f"{100 * float(row['delay_over_closed_form']):+.2f} ± "
            f"{100 * float(row['delay_over_closed_form_ci95']):.2f}",
        ]
        for row in rows
    ]
    headers = ["task", "seen", "learned", "or closed", "closed", "search", "delay"]
    title = (
        "One policy: slot gap to the bound of it, of the better of it and the closed form, of the closed form and of "
        "the search; delay at equal energy over the closed form's; all in %"
    )
    return table(title, headers, body)


def main(flags: Flags) -> int:
    """Run the command; returns the exit status."""
    messages = terminal()
    keep_compiled()
    try:
        check_limits(flags)
        made = {task: make_task(task) for task in (*flags.tasks, *flags.unseen)}
        if not flags.tasks:
            raise ConfigError("tasks: got none; allowed is at least one scenario")
        config = RunConfig(
            scenario=flags.tasks[0].partition(":")[0],
            seed=flags.seed,
            algorithm=PPO(total_steps=flags.total_steps),
        )
        for env, _ in made.values():
            config.algorithm.check(env)
        if flags.run is None:
            check_new(flags.out)
            with locked(flags.out):
                write_config(flags.out, config)
                started = time.perf_counter()
                turns = itertools.islice(itertools.cycle(range(len(flags.tasks))), config.algorithm.num_updates)
                shown = track(turns, "training", config.algorithm.num_updates, console=messages)
                tasks = [made[task] for task in flags.tasks]
                save_policy(flags.out, train(config.algorithm, tasks, jax.random.key(flags.seed), shown))
                say(messages, f"trained in {time.perf_counter() - started:.0f} s, compilation included")
        folder = flags.run or flags.out
        trained = {task: load_policy(folder, env) for task, (env, _) in made.items()}
        rows: list[Row] = []
        for task, (env, params) in made.items():
            say(messages, f"evaluating {task}, {len(rows) + 1} of {len(made)}")
            policies = {name: make_policy(name, env) for name in BASELINES} | {"learned": trained[task]}
            policies[GUARDED] = best_of(env, (policies["learned"], policies["closed_form"]))
            judged = EvaluationConfig(num_envs=flags.num_envs, num_slots=flags.num_slots)
            rows.append(judge(task, task in flags.tasks, evaluate_policies(env, params, policies, judged)))
            write_csv(folder / "transfer.csv", rows)
    except (ValueError, OSError) as error:
        return fail(messages, error)
    results = terminal(stderr=False)
    results.print(show(rows))
    worse = [row["task"] for row in rows if float(row["gap_learned"]) > float(row["gap_closed_form"])]
    say(results, f"worse than the closed form: {', '.join(map(str, worse)) or 'nowhere'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))

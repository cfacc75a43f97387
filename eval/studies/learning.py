"""Learners over seeds: their curves against slots and seconds, and what they have learned in the end."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxmec.agents import RunConfig
from jaxmec.agents.run import build_run, locked, plain_run, write_config
from jaxmec.agents.trainer import TrainerConfig, train
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.evaluation import bootstrap_interval, interquartile_mean, objectives_at
from jaxmec.evaluation.tables import Row
from jaxmec.reporting.files import read_csv, replace_file
from jaxmec.reporting.loggers import MetricsFile
from studies.cache import digest
from studies.study import SETTLED, Found, Size, Study

SECONDS = "seconds.csv"  # of a run, when each update was finished, without compilation


@dataclasses.dataclass(frozen=True)
class Learner:
    """One learner; seeds 0, 1, ..."""

    name: str
    run: dict[str, Any]  # of `jaxmec.agents.run.build_run`, but for scenario and seed
    seeds: int


@dataclasses.dataclass(frozen=True)
class Config:
    """Which learners, and at how many states they are judged."""

    learners: tuple[Learner, ...]
    size: Size
    points: int  # of a curve


class Stopwatch:
    """Seconds since training began, update by update; a resumed run goes on where the one before stopped."""

    def __init__(self, folder: Path, total: int, tell: Callable[[str], None], name: str) -> None:
        before = read_csv(folder / SECONDS) if (folder / SECONDS).exists() else []
        self._past = float(before[-1]["seconds"]) if before else 0.0
        self._file = MetricsFile(folder / SECONDS, len(before))
        self._started = time.perf_counter()
        self._tell, self._name, self._total, self._first = tell, name, total, True

    def write(self, row: Mapping[str, float]) -> None:
        """After an update; the first one's time, in which programmes are loaded, is not counted."""
        if self._first:
            self._started, self._first = time.perf_counter(), False
        seconds = self._past + time.perf_counter() - self._started
        self._file.write({"update": row["update"], "steps": row["steps"], "seconds": seconds})
        self._tell(f"training {self._name}, {row['update']:.0f} of {self._total} updates")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def trained(
    env: EdgeInferenceEnv,
    params: EnvParams,
    config: RunConfig,
    root: Path,
    foundation: Mapping[str, Any],
    name: str,
    tell: Callable[[str], None],
) -> Path | None:
    """The folder of a finished run of this configuration and this source, trained or resumed where it has to be.

    None if it was told to stop.
    """
    identity = digest(json.dumps([plain_run(config), foundation], sort_keys=True).encode())
    folder = root / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{identity[:12]}"
    finished = folder / "finished"
    if finished.exists():
        return folder
    resume = (folder / "config.yaml").exists()
    with locked(folder):
        if not resume:
            write_config(folder, config)
        watch = Stopwatch(folder, config.algorithm.num_updates, tell, name)
        if not train(env, params, config, folder, TrainerConfig(resume), Console(quiet=True), [watch]):
            return None
        replace_file(finished, "")
    return folder


def run_config(learner: Learner, scenario: str, seed: int) -> RunConfig:
    """The run of one seed.

    Raises:
      ConfigError: naming what it does not allow.
    """
    return build_run({**learner.run, "scenario": scenario, "seed": seed}, learner.name)


def label(learner: Learner, seed: int) -> str:
    """A run's name among the policies."""
    return learner.name if seed == 0 else f"{learner.name}, seed {seed}"


def run(study: Study, config: Config) -> Found:
    """Rows of kind "curve", of kind "run", one per seed, and of kind "pooled", one per learner."""
    if study.learned is None:
        return Found([], dataclasses.asdict(config.size), left_out="no learner takes part")
    learners = [(one.name, seed, label(one, seed)) for one in config.learners for seed in range(one.seeds)]
    names = [name for _, _, name in learners]

    def compute() -> list:
        judged = study.evaluated(study.params, [study.reference], config.size)
        policies = {name: study.policies[name] for name in names}
        key = jax.random.key(study.seed)
        reached = objectives_at(
            study.env, policies, key, study.params, judged.states, study.tell, study.slots, config.size.episodes
        )
        return final_rows(
            [(learner, seed) for learner, seed, _ in learners],
            [reached[name] / judged.bound - 1 for name in names],
        )

    asked = {"size": dataclasses.asdict(config.size)}
    rows = study.remembered("learning", asked, [*names, study.reference], compute)
    runs = {(row["learner"], row["seed"]): row for row in rows if row["kind"] == "run"}
    for learner, seed, name in learners:
        folder = Path(study.sources[name])
        last = read_csv(folder / SECONDS)[-1]
        runs[learner, seed] |= {"steps": float(last["steps"]), "seconds": float(last["seconds"])}
        rows += curve_rows(learner, seed, folder, config.points)
    facts = {"seeds": {one.name: one.seeds for one in config.learners}, "warm_up": SETTLED}
    return Found(rows, dataclasses.asdict(config.size) | facts)


def curve_rows(learner: str, seed: int, folder: Path, points: int) -> list[Row]:
    """The learning curve of a run, at most so many points, evenly spaced in the logarithm of the updates."""
    seconds = {row["update"]: float(row["seconds"]) for row in read_csv(folder / SECONDS)}
    metrics = read_csv(folder / "metrics.csv")
    chosen = np.unique(np.geomspace(1, len(metrics), points).round().astype(int)) - 1
    return [
        {
            "kind": "curve",
            "learner": learner,
            "seed": seed,
            "steps": float(metrics[at]["steps"]),
            "seconds": seconds.get(metrics[at]["update"], float("nan")),
            "objective": float(np.exp(float(metrics[at]["log_objective"]))),
        }
        for at in chosen
    ]


def final_rows(runs: list[tuple[str, int]], gaps: list[np.ndarray]) -> list[Row]:
    """Certified gaps [S] of every run, and the interquartile mean of each learner's runs with its interval."""
    rows: list[Row] = [
        {
            "kind": "run",
            "learner": learner,
            "seed": seed,
            "gap_mean": float(gap.mean()),
            "gap_p99": float(np.percentile(gap, 99)),
        }
        for (learner, seed), gap in zip(runs, gaps, strict=True)
    ]
    for learner in dict.fromkeys(learner for learner, _ in runs):
        pooled: Row = {"kind": "pooled", "learner": learner}
        for metric in ("gap_mean", "gap_p99"):
            values = np.array([float(row[metric]) for row in rows if row["learner"] == learner])
            pooled[metric] = float(interquartile_mean(values))
            pooled[f"{metric}_low"], pooled[f"{metric}_high"] = bootstrap_interval([values])
        rows.append(pooled)
    return rows

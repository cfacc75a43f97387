"""Settings from best to worst: interquartile means over seeds and tasks, with confidence intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jaxmec.evaluation import bootstrap_interval, interquartile_mean
from jaxmec.sweeps.config import SweepConfig
from jaxmec.sweeps.folder import Row


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A setting's scores by one metric."""

    values: dict[str, str]  # swept field -> its cell in the table; fields that are tasks are left out
    strata: tuple[np.ndarray, ...]  # per task: the scores [R] of its runs; of diverged ones the worst, infinite

    @property
    def scores(self) -> np.ndarray:
        """Of all runs."""
        return np.concatenate(self.strata)

    @property
    def estimate(self) -> float:
        """Interquartile mean."""
        return float(interquartile_mean(self.scores))

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % confidence interval; NaN for a single run."""
        return bootstrap_interval(self.strata)


def candidates(
    rows: Sequence[Row], paths: Sequence[str], metric: str, across: Sequence[str] = (), worst: float = math.inf
) -> list[Candidate]:
    """The rows gathered by setting, in order of first appearance; failed trials are left out.

    Args:
      rows: of `trials.csv`.
      paths: swept fields.
      metric: column of the scores.
      across: fields whose values are tasks.
      worst: the score of a run without a finite one.
    """
    settings = [path for path in paths if path not in across]
    # By seed: a point that a search has drawn twice is still one run per seed.
    found: dict[tuple[str, ...], dict[tuple[str, ...], dict[str, float]]] = {}
    for row in rows:
        if row["status"] != "failed":
            score = float(row[metric])
            tasks = found.setdefault(tuple(row[path] for path in settings), {})
            runs = tasks.setdefault(tuple(row[path] for path in across), {})
            runs[row["seed"]] = score if math.isfinite(score) else worst
    return [
        Candidate(
            dict(zip(settings, values, strict=True)),
            tuple(np.array(list(runs.values())) for runs in tasks.values()),
        )
        for values, tasks in found.items()
    ]


def rank(rows: Sequence[Row], config: SweepConfig) -> list[Candidate]:
    """The candidates from best to worst.

    One that lacks a task or a seed, because trials failed, stands behind all that have them.
    """
    sign = 1.0 if config.mode == "min" else -1.0
    found = candidates(rows, list(config.space), config.metric, config.across, worst=sign * math.inf)
    most = max((len(one.scores) for one in found), default=0)
    return sorted(found, key=lambda one: (len(one.scores) < most, sign * one.estimate))


def ranking_rows(ranked: Sequence[Candidate], metric: str) -> list[Row]:
    """Rows of `ranking.csv`."""
    rows = []
    for place, one in enumerate(ranked, start=1):
        low, high = one.interval
        rows.append(
            {
                "rank": str(place),
                **one.values,
                "runs": str(len(one.scores)),
                f"{metric}_iqm": repr(one.estimate),
                f"{metric}_low95": repr(low),
                f"{metric}_high95": repr(high),
            }
        )
    return rows


def label(values: dict[str, str]) -> str:
    """A setting in a few words: the last part of each path, and numbers with three digits."""
    return ", ".join(f"{short(path)} {short_value(value)}" for path, value in values.items())


def short(path: str) -> str:
    """A field's name without where it lies."""
    return path.rpartition(".")[2].replace("_", " ")


def short_value(value: str) -> str:
    """A number with three digits; any other cell as it is."""
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value

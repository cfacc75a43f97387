"""Slot by slot, from empty queues: delay, queues, and the running mean of energy against the budget."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxmec.evaluation import long_runs
from studies.study import Found, Size, Study, known

CURVES = ("delay_s", "device_queue", "server_queue", "device_energy", "server_energy")
RUNNING = ("device_energy", "server_energy")  # whose means so far are what a budget limits


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is simulated."""

    size: Size
    policies: tuple[str, ...]
    points: int  # at most so many slots of a curve are kept


def run(study: Study, config: Config) -> Found:
    """One row per policy and slot that is kept."""
    names = known(config.policies, study)

    def compute() -> list:
        empty = study.params.replace(
            initial_device_queue=jnp.zeros_like(study.params.initial_device_queue),
            initial_server_queue=jnp.zeros_like(study.params.initial_server_queue),
        )
        runs = long_runs(
            study.env,
            {name: study.policies[name] for name in names},
            jax.random.key(study.seed),
            empty,
            config.size.episodes,
            config.size.slots,
            tell=study.tell,
            slots=study.slots,
        )
        return [row for name, one in runs.items() for row in curve_rows(name, one.curves, config.points)]

    rows = study.remembered("trajectories", dataclasses.asdict(config), names, compute)
    warm_up = "none is left out, for the way to the stationary state is what is shown: queues start empty"
    return Found(rows, {**dataclasses.asdict(config.size), "warm_up": warm_up})


def curve_rows(policy: str, curves: dict[str, np.ndarray], points: int) -> list[dict[str, float | str]]:
    """Curves [T] of one policy, in at most `points` slots: means over the slots since the last, energies so far."""
    count = len(curves["delay_s"])
    ends = np.unique(np.linspace(0, count, min(points, count) + 1).astype(int))
    rows: list[dict[str, float | str]] = []
    for begin, end in itertools.pairwise(ends.tolist()):
        row: dict[str, float | str] = {"policy": policy, "slot": int(end)}
        for name in CURVES:
            row[name] = float(curves[name][0 if name in RUNNING else begin : end].mean())
        rows.append(row)
    return rows

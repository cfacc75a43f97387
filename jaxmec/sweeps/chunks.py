"""Chunks of trials, the rows that they yield, and running them one after another on this machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxmec.sweeps.config import SweepConfig
from jaxmec.sweeps.folder import Folder
from jaxmec.sweeps.plan import Group, Trial
from jaxmec.sweeps.progress import Progress
from jaxmec.sweeps.vectorised import Program, compile_group


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Trials that run in one call."""

    group: int
    trials: tuple[Trial, ...]


def chunks(group: Group, seeds: int, size: int) -> list[Chunk]:
    """A group's trials in their order, `size` at a time."""
    trials = group.trials(seeds)
    return [Chunk(group.index, tuple(trials[i : i + size])) for i in range(0, len(trials), size)]


def trial_id(trial: Trial, seeds: int) -> int:
    """Number of a trial: all seeds of a setting are neighbours."""
    setting, seed = trial
    return setting.index * seeds + seed


def unfinished(parts: Sequence[Chunk], seeds: int, finished: set[int]) -> list[Chunk]:
    """The chunks of which any trial must run. A chunk runs whole, as it would have without an interruption."""
    return [part for part in parts if any(trial_id(trial, seeds) not in finished for trial in part.trials)]


def run_chunk(program: Program, part: Chunk, seeds: int) -> list[dict[str, Any]]:
    """Run a chunk: a row per trial. If the device fails, for instance for want of memory, the rows say so."""
    started = time.perf_counter()
    try:
        metrics = program.run(part.trials)
    except jax.errors.JaxRuntimeError as error:
        return failed_rows(part, seeds, error)
    return rows_of(part, seeds, metrics, (time.perf_counter() - started) / len(part.trials))


def rows_of(part: Chunk, seeds: int, metrics: Mapping[str, np.ndarray], seconds: float) -> list[dict[str, Any]]:
    """Rows of trials that ran to the end; `seconds` is a trial's part of its chunk's time."""
    return [
        _row(
            part,
            trial,
            seeds,
            status="ok" if all(np.isfinite(values[i]) for values in metrics.values()) else "diverged",
            **{name: float(values[i]) for name, values in metrics.items()},
            seconds=round(seconds, 4),
            error="",
        )
        for i, trial in enumerate(part.trials)
    ]


def failed_rows(part: Chunk, seeds: int, error: BaseException | str) -> list[dict[str, Any]]:
    """Rows of trials that did not run to the end; a resumed sweep tries them again."""
    message = " ".join(str(error).split())[:200]
    return [_row(part, trial, seeds, status="failed", error=message) for trial in part.trials]


def _row(part: Chunk, trial: Trial, seeds: int, **rest: Any) -> dict[str, Any]:
    setting, seed = trial
    ids = {"trial": trial_id(trial, seeds), "setting": setting.index, "group": part.group}
    return ids | setting.point | {"seed": seed} | rest


def facts(program: Program, seeds: int) -> dict[str, Any]:
    """How a group runs, for the folder and the terminal."""
    return {
        "trials": len(program.group.settings) * seeds,
        "chunk": program.chunk,
        "memory_bytes": program.memory_bytes,
        "compile_s": round(program.compile_s, 2),
    }


def run_here(
    config: SweepConfig,
    groups: Sequence[Group],
    folder: Folder,
    progress: Progress,
) -> None:
    """Run all unfinished chunks on this machine's first device; each is saved as it ends."""
    for group in groups:
        size, finished = folder.chunk(group.index), folder.finished()
        if size and not unfinished(chunks(group, config.seeds, size), config.seeds, finished):
            continue
        progress.compiling(group.index, len(groups))
        program = compile_group(
            group,
            config.seeds,
            config.evaluation,
            size or config.chunk,
            config.memory_gb and config.memory_gb * 1e9,
        )
        folder.note_group(group.index, facts(program, config.seeds))
        progress.compiled(group.index, facts(program, config.seeds))
        for part in unfinished(chunks(group, config.seeds, program.chunk), config.seeds, finished):
            started = time.perf_counter()
            rows = run_chunk(program, part, config.seeds)
            folder.add(rows)
            progress.chunk(rows, time.perf_counter() - started)

"""Train with many settings and seeds, and tell which are best.

    jaxmec sweep --config configs/sweeps/rate.yaml
    jaxmec sweep --config configs/sweeps/rate.yaml --backend ray
    jaxmec sweep --out runs/sweeps/rate --resume

Settings that differ in numbers only are trained together in one compiled call, see `jaxmec.sweeps`.
Everything lies in one folder. Interrupt it as you like: it stops at once, what has ended is saved, and --resume runs
the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from jaxmec.agents.run import locked
from jaxmec.compilation import keep_compiled
from jaxmec.config import ConfigError
from jaxmec.extras import optional
from jaxmec.reporting.console import STOPPED, fail, say, stopping_at_once, terminal
from jaxmec.sweeps import chunks, folder, plan, report, vectorised
from jaxmec.sweeps.config import Resources, SweepConfig, load, parse, points
from jaxmec.sweeps.progress import Progress


@dataclasses.dataclass(frozen=True)
class Flags:
    """Sweep over settings and seeds."""

    config: Path | None = None
    """The sweep's file (see configs/sweeps); on resuming, the folder's own if absent."""
    out: Path | None = None
    """The sweep's folder; runs/sweeps/NAME-OF-THE-FILE if absent."""
    resume: bool = False
    """Run what the sweep in the folder still lacks."""
    backend: Literal["here", "ray"] = "here"
    """This machine's first device, or Ray Tune."""
    ray: Resources = dataclasses.field(default_factory=Resources)
    """Where --backend ray runs."""


def main(argv: list[str], program: str = "jaxmec sweep") -> int:
    """Run the command; returns the exit status."""
    console = terminal()
    keep_compiled()
    flags = tyro.cli(Flags, args=argv, prog=program)
    try:
        return _run(flags, console, program)
    except KeyboardInterrupt:
        say(console, "stopped")
        return STOPPED
    except (ValueError, OSError) as error:
        return fail(console, error)


def _run(flags: Flags, console: Console, program: str) -> int:
    where, sweep = _prepare(flags)
    builder = plan.Builder(sweep)
    adaptive = sweep.search == "optuna"
    wanted = points(sweep)[: 1 if adaptive else None]  # of an adaptive search one, to check everything by
    groups = plan.group(builder.setting(index, point) for index, point in enumerate(wanted))
    _check_metrics(sweep, groups)
    on_ray = optional("jaxmec.sweeps.on_ray", "ray") if flags.backend == "ray" else None
    if adaptive:
        optional("optuna", "ray")
    folder.check(where, flags.resume)
    again = f"{program} --out {where} --resume" + " --backend ray" * (flags.backend == "ray")
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(where))
        if on_ray is None:  # Tune stops by itself
            stack.enter_context(stopping_at_once(console, f"stopped; continue with: {again}"))
        store = folder.Folder(where, sweep, plan.fingerprint(groups), flags.resume)
        total = sweep.seeds * (sweep.samples if adaptive else len(wanted))
        say(
            console,
            f"{total // sweep.seeds} settings × {sweep.seeds} seeds"
            + ("" if adaptive else f" in {len(groups)} group{'s' * (len(groups) > 1)} of equal shapes"),
        )
        finished = len(store.finished())
        if finished:
            say(console, f"resuming after {finished} of {total} trials")
        if on_ray is not None:
            on_ray.start(flags.ray)
        with Progress(console, total, finished) as progress:
            if on_ray is None:
                chunks.run_here(sweep, groups, store, progress)
            elif adaptive:
                on_ray.run_adaptive(sweep, builder, store, progress, flags.ray)
            else:
                on_ray.run_chunks(sweep, groups, store, progress, flags.ray)
        say(console, progress.summary())
        _report(sweep, builder, store, console)
    if len(store.finished()) < total:
        say(console, f"not finished; continue with: {again}")
        return STOPPED
    return 0


def _report(sweep: SweepConfig, builder: plan.Builder, store: folder.Folder, console: Console) -> None:
    """Write and print the ranking, and the best setting where only hyperparameters were swept."""
    ranking = report.write_report(store, sweep)
    if ranking:
        console.print(report.ranking_table(ranking, sweep))
    if ranking and not sweep.across and all(path.startswith(f"{sweep.algorithm_name}.") for path in sweep.space):
        best = next(row for row in store.rows if all(row[p] == ranking[0][p] for p in sweep.space))
        point = parse({path: best[path] for path in sweep.space}, sweep.space)
        report.write_best(store, sweep, builder.setting(0, point))
    say(console, f"sweep folder: {store.path}")


def _prepare(flags: Flags) -> tuple[Path, SweepConfig]:
    """The sweep's folder and configuration."""
    if flags.config is None and not (flags.resume and flags.out):
        raise ConfigError("config: missing; allowed is a sweep's file, or --out FOLDER --resume")
    where = flags.out or Path("runs/sweeps") / flags.config.stem  # type: ignore[union-attr]
    sweep = load(flags.config) if flags.config else folder.stored(where)
    if sweep.search == "optuna" and flags.backend != "ray":
        raise ConfigError("search: got 'optuna', which needs --backend ray; allowed without it is 'random'")
    return where, sweep


def _check_metrics(sweep: SweepConfig, groups: list[plan.Group]) -> None:
    """Refuse names that no trial will have, before anything runs."""
    known = vectorised.metric_names(groups[0].settings[0], sweep.evaluation)
    wanted = {"metric": [sweep.metric], "curves.y": list(sweep.curves.y) if sweep.curves else []}
    for field, names in wanted.items():
        for name in names:
            if name not in known:
                hint = "" if sweep.evaluation else "; eval_... needs the field evaluation"
                raise ConfigError(f"{field}: got {name!r}; allowed are {', '.join(known)}{hint}")

"""A run from its first update to its last, or until a signal: progress, metrics, checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from jaxmec.agents import sharding
from jaxmec.agents.algorithm import Learner
from jaxmec.agents.run import (
    RunConfig,
    changed_versions,
    check_space,
    restore_checkpoint,
    save_checkpoint,
    save_policy,
)
from jaxmec.config import check_limits, number
from jaxmec.environment import Environment, Params
from jaxmec.reporting.console import STOPPING, say
from jaxmec.reporting.loggers import Logger, MetricsFile, TensorBoard

# What the live line shows, of the metrics that there are.
SHOWN = {
    "reward": "reward {:+.3f}",
    "delay_s": "delay {:.3f} s",
    "device_energy": "energy/budget {:.2f}",
    "server_energy": "{:.2f}",
}
SECONDS_BETWEEN_LINES = 10.0  # where no terminal shows a live line

Update = Callable[[Learner], tuple[Learner, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """How a run is kept and shown; none of it changes the results."""

    resume: bool = False
    checkpoint_every: int = number(50, at_least=1, at_most=10**9)  # updates
    tensorboard: bool = False


def train(
    env: Environment,
    params: Params,
    config: RunConfig,
    folder: Path,
    how: TrainerConfig,
    console: Console,
    further: Sequence[Logger] = (),
) -> bool:
    """Train in a folder that holds the run's configuration; returns whether the end was reached.

    The metrics go into the folder, and to any `further` loggers.

    Every process of a run of several must call it.

    Raises:
      ValueError: for a configuration that cannot run here.
      OSError: if the folder cannot be written.
    """
    mesh = check(env, config, how)
    learner, update = _start(env, params, config, mesh, folder, how, console)
    started = time.perf_counter()
    finished = _updates(update, learner, config, folder, how, console, further)
    say(console, f"trained in {time.perf_counter() - started:.1f} s")
    return finished


def check(env: Environment, config: RunConfig, how: TrainerConfig) -> jax.sharding.Mesh:
    """Everything about a run that can be told before it writes anything; returns the devices that it will use.

    Raises:
      ValueError: naming the field, its value and what is allowed.
    """
    mesh = sharding.all_devices()
    check_limits(how)
    config.algorithm.check(env)
    sharding.check(config.algorithm, mesh)
    return mesh


def _start(
    env: Environment,
    params: Params,
    config: RunConfig,
    mesh: jax.sharding.Mesh,
    folder: Path,
    how: TrainerConfig,
    console: Console,
) -> tuple[Learner, Update]:
    """Compile, and begin or resume."""
    say(console, f"compiling for {mesh.size} x {jax.devices()[0].device_kind} ...")
    started = time.perf_counter()
    init, update = sharding.compile_run(env, config.algorithm, params, mesh)
    learner = init(jax.random.key(config.seed))
    say(console, f"compiled in {time.perf_counter() - started:.1f} s")
    if how.resume:
        learner = restore_checkpoint(folder, learner) or learner
        say(console, f"resuming after update {int(learner.updates)} of {config.algorithm.num_updates}")
        for change in changed_versions(folder):
            say(console, f"note: {change}; results may differ in the last digits", style="yellow")
        if int(learner.updates):
            save_policy(folder, learner)  # a kill may have come between a checkpoint and its policy
    check_space(folder, config, learner)
    return learner, update


def _updates(
    update: Update,
    learner: Learner,
    config: RunConfig,
    folder: Path,
    how: TrainerConfig,
    console: Console,
    further: Sequence[Logger],
) -> bool:
    """All updates that are left; returns whether the end was reached."""
    done, total = int(learner.updates), config.algorithm.num_updates
    steps_per_update = config.algorithm.num_envs * config.algorithm.num_steps
    with _signals() as received, contextlib.ExitStack() as stack:
        logs = [*_loggers(folder, done, how, console), *further] if jax.process_index() == 0 else []
        for log in logs:
            stack.callback(log.close)
        line = stack.enter_context(_Line(console, total * steps_per_update, done * steps_per_update))
        stop = False
        while done < total and not stop:
            before = time.perf_counter()
            learner, metrics = update(learner)
            row = {name: float(value) for name, value in metrics.items()}
            done += 1
            for log in logs:
                log.write({"update": done, "steps": done * steps_per_update, **row})
            line.update(done * steps_per_update, steps_per_update / (time.perf_counter() - before), row)
            stop = _anywhere(bool(received))
            if done % how.checkpoint_every == 0 or done == total or stop:
                save_checkpoint(folder, learner)
    return done >= total


def _loggers(folder: Path, rows: int, how: TrainerConfig, console: Console) -> Sequence[Logger]:
    metrics = MetricsFile(folder / "metrics.csv", rows)
    if metrics.missing:
        lost = f"{metrics.missing} of {rows} rows of metrics.csv are lost; the run itself goes on whole"
        say(console, f"note: {lost}", style="yellow")
    logs: list[Logger] = [metrics]
    if how.tensorboard:
        logs.append(TensorBoard(folder / "tensorboard", rows))
    return logs


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals to stop that have come in so far; they interrupt nothing."""
    received: list[int] = []
    previous = {sig: signal.signal(sig, lambda sig, _: received.append(sig)) for sig in STOPPING}
    watched = signal.set_wakeup_fd(-1)  # by `stopping_at_once`, which waits for no checkpoint
    try:
        yield received
    finally:
        signal.set_wakeup_fd(watched)
        for sig, handler in previous.items():
            signal.signal(sig, handler)


class _Line:
    """A live line, or one every few seconds where no terminal shows it."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self._console, self._total = console, total
        self._live = console.is_terminal and not console.quiet
        self._last = time.perf_counter()
        self._bar = Progress(
            TextColumn("{task.completed:,.0f} steps"),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[speed]:,.0f}/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[line]}", markup=False),
            console=console,
            disable=not self._live,
        )
        self._task = self._bar.add_task("", total=total, completed=done, speed=0, line="")

    def __enter__(self) -> _Line:
        self._bar.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._bar.__exit__(*details)  # type: ignore[arg-type]

    def update(self, steps: int, speed: float, row: dict[str, float]) -> None:
        """After an update."""
        line = "  ".join(form.format(row[name]) for name, form in SHOWN.items() if name in row)
        self._bar.update(self._task, completed=steps, speed=speed, line=line)
        now = time.perf_counter()
        if not self._live and now - self._last > SECONDS_BETWEEN_LINES:
            self._last = now
            left_s = (self._total - steps) / speed
            say(self._console, f"{steps:,} steps  {speed:,.0f} steps/s  {line}  {left_s:.0f} s left")


def _anywhere(stop: bool) -> bool:
    """Whether any process has been asked to stop: all must do so after the same update."""
    if jax.process_count() == 1:
        return stop
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(stop)).any())

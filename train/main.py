"""Train a policy that cuts networks.

    python train/main.py --num-envs 4096
    python train/main.py --scenario coinfer50 --config configs/train/quick.yaml --out runs/fifty
    python train/main.py --out runs/fifty --resume

The environments are spread over all devices of the machine. On several machines, each runs the same command with
its own --process-id (and --coordinator HOST:PORT of the first, --num-processes), in a folder that all of them see.

Everything of a run lies in one folder, see `jaxmec.agents.run`. Interrupt it as you like: it saves and stops, and
--resume continues as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import jaxmec
from jaxmec.agents import RunConfig, load_config, load_policy, ppo, sharding
from jaxmec.agents.run import check_space, restore_checkpoint, save_checkpoint, write_config
from jaxmec.config import ConfigError, build, read_yaml
from jaxmec.evaluation import EvaluationConfig, evaluate_policies, terminal
from jaxmec.policies import BASELINES, make_policy

LINE = "reward {reward:+.3f} s  delay {delay_s:.3f} s  energy/budget {device_energy:.2f} {server_energy:.2f}"
STOPPING = (signal.SIGINT, signal.SIGTERM)
SECONDS_BETWEEN_LINES = 10.0  # where no terminal shows a live line


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train a policy; flags win over the configuration file."""

    run: tyro.conf.OmitArgPrefixes[RunConfig] = dataclasses.field(default_factory=RunConfig)
    config: Path | None = None
    """YAML file with the fields of a run (see configs/train)."""
    out: Path | None = None
    """The run's folder; runs/SCENARIO-seedSEED if absent."""
    resume: bool = False
    """Continue the run in the folder, with its own configuration."""
    checkpoint_every: Annotated[int, tyro.conf.arg(metavar="UPDATES")] = 50
    """Updates between checkpoints."""
    evaluate: bool = True
    """Compare the learned policy with the baselines at the end."""
    tensorboard: bool = False
    """Log the metrics for TensorBoard, too (needs the extra "tensorboard")."""
    coordinator: str | None = None
    """HOST:PORT of process 0, for a run of several processes."""
    num_processes: int = 1
    """How many processes there are."""
    process_id: int = 0
    """Which of them this is."""


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    console = terminal()
    try:
        flags = _parse(argv)
        if flags.coordinator is not None:
            jax.distributed.initialize(flags.coordinator, flags.num_processes, flags.process_id)
        console.quiet = jax.process_index() > 0
        mesh = sharding.all_devices()
        folder, config = _prepare(flags)
        env, params = jaxmec.make(config.scenario)
        ppo.check(config.ppo)
        sharding.check(config.ppo, mesh)
        learner, update = _start(env, params, config, mesh, folder, flags, console)
        finished = _train(update, learner, config, folder, flags, console)
    except (ConfigError, ValueError, OSError) as error:
        console.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        return 2
    if flags.coordinator is not None:
        jax.distributed.shutdown()
    if not finished:
        console.print(f"stopped; continue with: python train/main.py --out {folder} --resume", soft_wrap=True)
        return 130
    if flags.process_id > 0:
        return 0
    _plot(folder)
    if flags.evaluate:
        policies = {name: make_policy(name, env) for name in BASELINES} | {"learned": load_policy(folder, env)}
        report = evaluate_policies(env, params, policies, EvaluationConfig())
        report.save(folder / "evaluation")
        for table in report.tables():
            console.print(table)
    console.print(f"run folder: {folder}", soft_wrap=True)
    return 0


def _parse(argv: list[str]) -> Flags:
    """Flags over the configuration file over the defaults."""
    file = tyro.cli(Flags, args=argv).config
    if file is None:
        return tyro.cli(Flags, args=argv)
    return tyro.cli(Flags, args=argv, default=Flags(run=build(RunConfig, read_yaml(file), file)))


def _prepare(flags: Flags) -> tuple[Path, RunConfig]:
    """The run's folder, writable, and its configuration."""
    folder = flags.out or Path("runs") / f"{Path(flags.run.scenario).stem}-seed{flags.run.seed}"
    if flags.resume:
        return folder, load_config(folder)
    if (folder / "checkpoints").exists() and any((folder / "checkpoints").iterdir()):
        raise ConfigError(f"out: {folder} holds a run; continue it with --resume, or name another folder")
    if flags.process_id == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, flags.run)
    return folder, flags.run


def _start(
    env: jaxmec.EdgeInferenceEnv,
    params: jaxmec.EnvParams,
    config: RunConfig,
    mesh: jax.sharding.Mesh,
    folder: Path,
    flags: Flags,
    console: Console,
) -> tuple[ppo.Learner, Callable]:
    """Compile, and begin or resume."""
    started = time.perf_counter()
    init, update = sharding.compile_run(env, config.ppo, params, mesh)
    learner = init(jax.random.key(config.seed))
    console.print(
        f"compiled in {time.perf_counter() - started:.1f} s for {mesh.size} x {jax.devices()[0].device_kind}"
    )
    if flags.resume:
        learner = restore_checkpoint(folder, learner) or learner
        console.print(f"resuming after update {int(learner.updates)} of {config.ppo.num_updates}")
    check_space(folder, config, learner)
    return learner, update


def _train(
    update: Callable, learner: ppo.Learner, config: RunConfig, folder: Path, flags: Flags, console: Console
) -> bool:
    """Train to the end, or until a signal; returns whether the end was reached."""
    signals: list[int] = []
    previous = {sig: signal.signal(sig, lambda sig, _: signals.append(sig)) for sig in STOPPING}
    started = last_line = time.perf_counter()
    done, total = int(learner.updates), config.ppo.num_updates
    steps_per_update = config.ppo.num_envs * config.ppo.num_steps
    logs: list[_MetricsFile | _TensorBoard] = [_MetricsFile(folder / "metrics.csv", done)] if _first() else []
    if flags.tensorboard and _first():
        logs.append(_TensorBoard(folder / "tensorboard", done))
    columns = (
        TextColumn("{task.completed:,.0f} steps"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[speed]:,.0f} steps/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[line]}"),
    )
    live = console.is_terminal and not console.quiet
    with contextlib.ExitStack() as stack:
        for log in logs:
            stack.callback(log.close)
        progress = stack.enter_context(Progress(*columns, console=console, disable=not live))
        task = progress.add_task(
            "", total=total * steps_per_update, completed=done * steps_per_update, speed=0, line=""
        )
        stop = False
        while done < total and not stop:
            before = time.perf_counter()
            learner, metrics = update(learner)
            row = {name: float(value[0]) for name, value in metrics.items()}
            done += 1
            steps = done * steps_per_update
            now = time.perf_counter()
            for log in logs:
                log.write({"update": done, "steps": steps, **row})
            speed, line = steps_per_update / (now - before), LINE.format(**row)
            progress.update(task, completed=steps, speed=speed, line=line)
            if not live and now - last_line > SECONDS_BETWEEN_LINES:
                last_line = now
                left_s = (total - done) * steps_per_update / speed
                console.print(f"{steps:,} steps  {speed:,.0f} steps/s  {line}  {left_s:.0f} s left")
            stop = _anywhere(bool(signals))
            if done % flags.checkpoint_every == 0 or done == total or stop:
                save_checkpoint(folder, learner)
    for sig, handler in previous.items():
        signal.signal(sig, handler)
    console.print(f"trained in {time.perf_counter() - started:.1f} s")
    return done >= total


def _first() -> bool:
    """Is this the process that writes?"""
    return jax.process_index() == 0


def _anywhere(stop: bool) -> bool:
    """Whether any process has been asked to stop: all must do so after the same update."""
    if jax.process_count() == 1:
        return stop
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(stop)).any())


class _MetricsFile:
    """A CSV file of one row per update; on resuming, rows after the checkpoint are dropped."""

    def __init__(self, path: Path, rows: int) -> None:
        kept = path.read_text().splitlines()[: rows + 1] if rows and path.exists() else []
        self._file = path.open("w", newline="")
        self._file.writelines(f"{line}\n" for line in kept)
        self._header_written = bool(kept)

    def write(self, row: dict[str, float]) -> None:
        """Append a row and hand it to the operating system."""
        writer = csv.DictWriter(self._file, fieldnames=list(row), lineterminator="\n")
        if not self._header_written:
            writer.writeheader()
            self._header_written = True
        writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _TensorBoard:
    """The same rows as TensorBoard events; on resuming, events after the checkpoint are hidden."""

    def __init__(self, folder: Path, rows: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ConfigError('tensorboard: not installed; pip install -e ".[tensorboard]"') from None
        self._writer = SummaryWriter(str(folder), purge_step=rows + 1)

    def write(self, row: dict[str, float]) -> None:
        """Append a row."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, row["update"])

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


def _plot(folder: Path) -> None:
    """Draw the learning curve."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [float(row["steps"]) for row in rows]
    panels = {
        "objective": "slot objective",
        "delay_s": "end-to-end delay [s]",
        "device_energy": "device energy / budget",
        "entropy": "entropy of a cut [nats]",
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 2.6), layout="constrained")
    for axis, (name, label) in zip(axes, panels.items(), strict=True):
        axis.plot(steps, [float(row[name]) for row in rows], lw=1.2)
        axis.set(xlabel="steps", title=label, xscale="log", yscale="linear" if name == "entropy" else "log")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "learning_curve.png", dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

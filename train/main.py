"""Train a policy that cuts networks.

    python train/main.py --num-envs 4096
    python train/main.py --scenario coinfer50 --config configs/train/quick.yaml --out runs/fifty
    python train/main.py --out runs/fifty --resume

Everything of a run lies in one folder, see `jaxmec.agents.run`. Interrupt it as you like: it saves and stops, and
--resume continues as if it had never stopped.
"""

from __future__ import annotations

import csv
import dataclasses
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import jaxmec
from jaxmec.agents import RunConfig, load_config, load_policy, ppo
from jaxmec.agents.run import restore_checkpoint, save_checkpoint, write_config
from jaxmec.config import ConfigError, build, read_yaml
from jaxmec.evaluation import EvaluationConfig, evaluate_policies, terminal
from jaxmec.policies import BASELINES, make_policy

LINE = "reward {reward:+.3f} s  delay {delay_s:.3f} s  energy/budget {device_energy:.2f} {server_energy:.2f}"
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
    checkpoint_every: Annotated[int, tyro.conf.arg(metavar="UPDATES")] = 20
    """Updates between checkpoints."""
    evaluate: bool = True
    """Compare the learned policy with the baselines at the end."""


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    console = terminal()
    try:
        flags = _parse(argv)
        folder, config = _prepare(flags)
        env, params = jaxmec.make(config.scenario)
        ppo.check(config.ppo)
    except (ConfigError, ValueError, OSError) as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        return 2
    finished = _train(env, params, config, folder, flags, console)
    if not finished:
        console.print(f"stopped; continue with: python train/main.py --out {folder} --resume")
        return 130
    if flags.evaluate:
        policies = {name: make_policy(name, env) for name in BASELINES} | {"learned": load_policy(folder, env)}
        report = evaluate_policies(env, params, policies, EvaluationConfig())
        report.save(folder / "evaluation")
        for table in report.tables():
            console.print(table)
    console.print(f"run folder: {folder}")
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
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, flags.run)
    return folder, flags.run


def _train(
    env: jaxmec.EdgeInferenceEnv,
    params: jaxmec.EnvParams,
    config: RunConfig,
    folder: Path,
    flags: Flags,
    console: Any,
) -> bool:
    """Train to the end, or until a signal; returns whether the end was reached."""
    started = time.perf_counter()
    learner = jax.jit(lambda key: ppo.init(env, config.ppo, key, params))(jax.random.key(config.seed))
    update = jax.jit(lambda learner: ppo.run_updates(env, config.ppo, learner, params, 1)).lower(learner).compile()
    console.print(f"compiled in {time.perf_counter() - started:.1f} s")
    if flags.resume:
        learner = restore_checkpoint(folder, learner) or learner
        console.print(f"resuming after update {int(learner.updates)} of {config.ppo.num_updates}")

    stop = False

    def on_signal(*_: object) -> None:
        nonlocal stop
        stop = True

    previous = {sig: signal.signal(sig, on_signal) for sig in (signal.SIGINT, signal.SIGTERM)}
    steps_per_update = config.ppo.num_envs * config.ppo.num_steps
    progress = Progress(
        TextColumn("{task.completed:,.0f} steps"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[speed]:,.0f} steps/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[line]}"),
        console=console,
        disable=not console.is_terminal,
    )
    last_line = time.perf_counter()
    done = int(learner.updates)
    with progress, _MetricsFile(folder / "metrics.csv", rows=done) as metrics_file:
        task = progress.add_task(
            "",
            total=config.ppo.num_updates * steps_per_update,
            completed=done * steps_per_update,
            speed=0,
            line="",
        )
        while done < config.ppo.num_updates and not stop:
            before = time.perf_counter()
            learner, metrics = update(learner)
            row = {name: float(value[0]) for name, value in metrics.items()}
            done = int(learner.updates)
            speed = steps_per_update / (time.perf_counter() - before)
            metrics_file.write({"update": done, "steps": done * steps_per_update, **row})
            progress.update(task, completed=done * steps_per_update, speed=speed, line=LINE.format(**row))
            if not console.is_terminal and time.perf_counter() - last_line > SECONDS_BETWEEN_LINES:
                last_line = time.perf_counter()
                left_s = (config.ppo.num_updates - done) * steps_per_update / speed
                console.print(
                    f"{done * steps_per_update:,} steps  {speed:,.0f} steps/s  "
                    f"{LINE.format(**row)}  {left_s:.0f} s left"
                )
            if done % flags.checkpoint_every == 0 or done == config.ppo.num_updates or stop:
                save_checkpoint(folder, learner)
    if stop:
        save_checkpoint(folder, learner)
    for sig, handler in previous.items():
        signal.signal(sig, handler)
    console.print(f"trained in {time.perf_counter() - started:.1f} s, compilation included")
    _plot(folder)
    return done >= config.ppo.num_updates


class _MetricsFile:
    """A CSV file of one row per update; on resuming, rows after the checkpoint are dropped."""

    def __init__(self, path: Path, rows: int) -> None:
        self._path, self._rows = path, rows

    def __enter__(self) -> _MetricsFile:
        kept = self._path.read_text().splitlines()[: self._rows + 1] if self._rows and self._path.exists() else []
        self._file = self._path.open("w", newline="")
        self._file.writelines(f"{line}\n" for line in kept)
        self._header_written = bool(kept)
        return self

    def write(self, row: dict[str, float]) -> None:
        """Append a row and hand it to the operating system."""
        writer = csv.DictWriter(self._file, fieldnames=list(row), lineterminator="\n")
        if not self._header_written:
            writer.writeheader()
            self._header_written = True
        writer.writerow(row)
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _plot(folder: Path) -> None:
    """Draw the learning curve."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [float(row["steps"]) / 1e6 for row in rows]
    panels = {
        "objective": "slot objective",
        "delay_s": "end-to-end delay [s]",
        "device_energy": "device energy / budget",
        "entropy": "entropy of a cut [nats]",
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 2.6), layout="constrained")
    for axis, (name, label) in zip(axes, panels.items(), strict=True):
        axis.plot(steps, [float(row[name]) for row in rows], lw=1.2)
        axis.set(
            xlabel="million steps", title=label, yscale="log" if name in ("objective", "delay_s") else "linear"
        )
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "learning_curve.png", dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

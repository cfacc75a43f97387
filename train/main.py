"""Train a policy that cuts networks.

    python train/main.py --num-envs 4096
    python train/main.py --algorithm white_box --scenario coinfer50 --out runs/fifty
    python train/main.py --config configs/train/quick.yaml
    python train/main.py --out runs/fifty --resume

The environments are spread over all devices of the machine. On several machines, each runs the same command with
its own --process-id (and --coordinator HOST:PORT of the first, --num-processes), in a folder that all of them see.

Everything of a run lies in one folder, see `jaxmec.agents.run`. Interrupt it as you like: it saves and stops, and
--resume continues as if it had never stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console

import jaxmec
from jaxmec.agents import ALGORITHMS, RunConfig, load_config, load_policy
from jaxmec.agents.run import algorithm_name, build_run, write_config
from jaxmec.agents.trainer import TrainerConfig, train
from jaxmec.compilation import keep_compiled
from jaxmec.config import ConfigError, read_yaml
from jaxmec.evaluation import evaluate_policies
from jaxmec.policies import BASELINES, make_policy
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.figures.learning import learning_curve


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train a policy; flags win over the configuration file."""

    algorithm: tyro.conf.OmitArgPrefixes[Any]
    scenario: str = RunConfig.scenario
    """Name or YAML file of the system."""
    seed: int = RunConfig.seed
    """Of network, episodes and exploration."""
    out: Path | None = None
    """The run's folder; runs/SCENARIO-seedSEED if absent."""
    resume: bool = False
    """Continue the run in the folder, with its own configuration."""
    checkpoint_every: Annotated[int, tyro.conf.arg(metavar="UPDATES")] = TrainerConfig.checkpoint_every
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
    keep_compiled()
    try:
        flags = parse(argv)
        if flags.coordinator is not None:
            jax.distributed.initialize(flags.coordinator, flags.num_processes, flags.process_id)
        console.quiet = jax.process_index() > 0
        folder, config = _prepare(flags)
        env, params = jaxmec.make(config.scenario)
        how = TrainerConfig(flags.resume, flags.checkpoint_every, flags.tensorboard)
        finished = train(env, params, config, folder, how, console)
    except (ValueError, OSError) as error:
        return fail(console, error)
    if flags.coordinator is not None:
        jax.distributed.shutdown()
    if not finished:
        say(console, f"stopped; continue with: python train/main.py --out {folder} --resume")
        return 130
    if flags.process_id > 0:
        return 0
    learning_curve(folder / "metrics.csv", folder / "learning_curve.png")
    if flags.evaluate:
        _evaluate(env, params, folder, console)
    say(console, f"run folder: {folder}")
    return 0


def parse(argv: list[str]) -> Flags:
    """Flags over the configuration file over the defaults; every algorithm has flags of its own."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--algorithm")
    first.add_argument("--config", type=Path)
    chosen, rest = first.parse_known_args(argv)
    data: dict[str, Any] = {} if chosen.config is None else read_yaml(chosen.config)
    if chosen.algorithm is not None:
        data = {name: value for name, value in data.items() if name not in ALGORITHMS or name == chosen.algorithm}
        data["algorithm"] = chosen.algorithm
    run = build_run(data, chosen.config or "--algorithm")
    kind, name = type(run.algorithm), algorithm_name(run.algorithm)
    hyperparameters: Any = tyro.conf.OmitArgPrefixes[kind]  # type: ignore[valid-type, misc]
    typed = dataclasses.make_dataclass(
        "Flags",
        [("algorithm", hyperparameters, dataclasses.field(default=run.algorithm))],
        bases=(Flags,),
        frozen=True,
    )
    help_ = (
        "Train a policy; flags win over the configuration file.\n\n"
        f"--algorithm {{{','.join(ALGORITHMS)}}} chooses the learner (now {name}) and so its flags below; "
        "--config FILE reads a run's file first (see configs/train)."
    )
    return tyro.cli(typed, args=rest, description=help_, default=typed(run.algorithm, run.scenario, run.seed))


def _prepare(flags: Flags) -> tuple[Path, RunConfig]:
    """The run's folder, writable, and its configuration."""
    folder = flags.out or Path("runs") / f"{Path(flags.scenario).stem}-seed{flags.seed}"
    if flags.resume:
        return folder, load_config(folder)
    if (folder / "checkpoints").exists() and any((folder / "checkpoints").iterdir()):
        raise ConfigError(f"out: {folder} holds a run; continue it with --resume, or name another folder")
    config = RunConfig(flags.scenario, flags.seed, flags.algorithm)
    if flags.process_id == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, config)
    return folder, config


def _evaluate(env: jaxmec.EdgeInferenceEnv, params: jaxmec.EnvParams, folder: Path, console: Console) -> None:
    policies = {name: make_policy(name, env) for name in BASELINES} | {"learned": load_policy(folder, env)}
    comparison = evaluate_policies(env, params, policies, tell=lambda what: say(console, what))
    comparison.save(folder / "evaluation")
    for table in comparison.tables():
        console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

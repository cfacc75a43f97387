"""Train a policy that cuts networks.

    jaxmec train --num-envs 4096
    jaxmec train --algorithm white_box --scenario coinfer50 --out runs/fifty
    jaxmec train --config configs/train/quick.yaml
    jaxmec train --out runs/fifty --resume

The environments are spread over all devices of the machine. On several machines, each runs the same command with
its own --process-id (and --coordinator HOST:PORT of the first, --num-processes), in a folder that all of them see.

Everything of a run lies in one folder, see `jaxmec.agents.run`. Interrupt it as you like: it saves and stops, and
--resume continues as if it had never stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from rich.console import Console

import jaxmec
from jaxmec.agents import ALGORITHMS, RunConfig, load_config, load_policy
from jaxmec.agents.run import (
    algorithm_name,
    build_run,
    check_new,
    check_same,
    locked,
    plain_run,
    scenario_of,
    write_config,
)
from jaxmec.agents.trainer import TrainerConfig, check, train
from jaxmec.compilation import keep_compiled
from jaxmec.config import read_yaml
from jaxmec.environment import Policy
from jaxmec.evaluation import Comparison, evaluate_policies
from jaxmec.policies import BASELINES, LEARNED, make_policies
from jaxmec.reporting.console import STOPPED, fail, say, stopping_at_once, terminal
from jaxmec.reporting.figures.learning import learning_curve

LEVELS = ("static", "closed_form", "best_response")  # what stands beside the learning curve


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train a policy; flags win over the configuration file."""

    algorithm: tyro.conf.OmitArgPrefixes[Any]
    scenario: str = RunConfig.scenario
    """Name or YAML file of the system."""
    seed: int = 0
    """Of network, episodes and exploration."""
    fidelity: Literal["stationary", "requests"] = RunConfig.fidelity
    """Mean delays by formula, or every request simulated."""
    out: Path | None = None
    """The run's folder; runs/SCENARIO-seedSEED if absent."""
    resume: bool = False
    """Continue the run in the folder, with its own configuration."""
    checkpoint_every: Annotated[int, tyro.conf.arg(metavar="UPDATES")] = TrainerConfig.checkpoint_every
    """Updates between checkpoints."""
    evaluate: bool = True
    """Compare the learned policy with the baselines at the end."""
    policy: tuple[str, ...] = ()
    """Policies of one's own in that comparison, FILE.py:FUNCTION."""
    tensorboard: bool = False
    """Log the metrics for TensorBoard, too (needs the extra "tensorboard")."""
    coordinator: str | None = None
    """HOST:PORT of process 0, for a run of several processes."""
    num_processes: int = 1
    """How many processes there are."""
    process_id: int = 0
    """Which of them this is."""


def main(argv: list[str], program: str = "jaxmec train") -> int:
    """Run the command; returns the exit status."""
    console = terminal()
    keep_compiled()
    again = ""
    try:
        flags = parse(argv, program)
        folder = flags.out or Path("runs") / f"{Path(flags.scenario).stem}-seed{flags.seed}"
        again = f"stopped; continue with: {program} --out {folder} --resume"
        if flags.coordinator is not None:
            jax.distributed.initialize(flags.coordinator, flags.num_processes, flags.process_id)
        console.quiet = jax.process_index() > 0
        own = _check(flags, folder, argv) if jax.process_index() == 0 else {}
        with contextlib.ExitStack() as stack:
            if jax.process_index() == 0:
                stack.enter_context(locked(folder))
            stack.enter_context(stopping_at_once(console, again))
            finished = _run(flags, folder, own, console)
    except KeyboardInterrupt:
        say(console, again or "stopped")
        return STOPPED
    except (ValueError, OSError) as error:
        return fail(console, error)
    if not finished:
        say(console, again)
        return STOPPED
    return 0


def parse(argv: list[str], program: str) -> Flags:
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
    default = typed(run.algorithm, run.scenario, run.seed, run.fidelity)
    return tyro.cli(typed, args=rest, prog=program, description=help_, default=default)


def _config(flags: Flags) -> RunConfig:
    """The run that flags ask for, checked as a file's would be."""
    return build_run(plain_run(RunConfig(flags.scenario, flags.seed, flags.algorithm, flags.fidelity)), "flags")


def _check(flags: Flags, folder: Path, argv: list[str]) -> dict[str, Policy]:
    """Refuse what cannot run, before anything is written; returns the policies of one's own."""
    if flags.resume:
        check_same(folder, _asked_for(flags, argv))
        env, _ = jaxmec.make(scenario_of(folder), fidelity=load_config(folder).fidelity)
        return make_policies(flags.policy, env)
    config = _config(flags)
    check_new(folder)
    env, _ = jaxmec.make(config.scenario, fidelity=config.fidelity)
    check(env, config, _how(flags))
    return make_policies(flags.policy, env)


def _how(flags: Flags) -> TrainerConfig:
    return TrainerConfig(flags.resume, flags.checkpoint_every, flags.tensorboard)


def _run(flags: Flags, folder: Path, own: dict[str, Policy], console: Console) -> bool:
    """Train and evaluate, with policies of one's own beside; returns whether the end was reached."""
    if flags.resume:
        config = load_config(folder)
        env, params = jaxmec.make(scenario_of(folder), fidelity=config.fidelity)
    else:
        config = _config(flags)
        env, params = jaxmec.make(config.scenario, fidelity=config.fidelity)
        if flags.process_id == 0:
            write_config(folder, config)
    finished = train(env, params, config, folder, _how(flags), console)
    if flags.coordinator is not None:
        jax.distributed.shutdown()
    if finished and flags.process_id == 0:
        say(console, "drawing the learning curve")
        learning_curve(folder / "metrics.csv", folder / "learning_curve.png")
        if flags.evaluate:
            comparison = _evaluate(env, params, folder, own, console)
            levels = {
                policy: {
                    name: float(values.mean()) for name, values in comparison.long_run[policy].metrics.items()
                }
                for policy in LEVELS
            }
            learning_curve(folder / "metrics.csv", folder / "learning_curve.png", levels)
        say(console, f"run folder: {folder}")
    return finished


def _asked_for(flags: Flags, argv: list[str]) -> dict[str, Any]:
    """What the command line asks of a resumed run by name; everything else is the folder's."""
    asked = plain_run(RunConfig(flags.scenario, flags.seed, flags.algorithm, flags.fidelity))
    named = {text.split("=")[0].removeprefix("--").replace("-", "_") for text in argv if text.startswith("--")}
    if "config" in named:
        return asked
    name = asked["algorithm"]
    hyperparameters = {field: value for field, value in asked[name].items() if field in named}
    kept = {field: asked[field] for field in ("scenario", "fidelity", "seed", "algorithm") if field in named}
    return kept | ({name: hyperparameters} if hyperparameters else {})


def _evaluate(
    env: jaxmec.EdgeInferenceEnv, params: jaxmec.EnvParams, folder: Path, own: dict[str, Policy], console: Console
) -> Comparison:
    """Compare the learned policy with the baselines and policies of one's own."""
    tell = partial(say, console)
    policies = make_policies(BASELINES, env, tell) | own | {LEARNED: load_policy(folder, env)}
    comparison = evaluate_policies(env, params, policies, tell=tell)
    comparison.save(folder / "evaluation")
    for table in comparison.tables():
        console.print(table)
    return comparison

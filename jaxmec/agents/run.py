"""A training run's folder: its configuration, its checkpoints, and the policy that it holds.

config.yaml       everything that decides the run, but for the scenario's content
scenario/         that content: the scenario's file as it was, with the profiles and traces that it names
versions.yaml     what it ran with
metrics.csv       one row per update
checkpoints/      the newest few, each with a digest
policy.msgpack    network weights and running statistics of the newest checkpoint
.lock             held by the command that writes here
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
import re
import shutil
import socket
import warnings
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import filelock
import flax.serialization
import jax
import jax.numpy as jnp
import yaml

from jaxmec import scenario
from jaxmec.agents import sharding
from jaxmec.agents.algorithm import Algorithm, Learner
from jaxmec.agents.evolution import Evolution
from jaxmec.agents.imitation import Imitation
from jaxmec.agents.ppo import PPO
from jaxmec.agents.white_box import WhiteBox
from jaxmec.config import LARGEST_SEED, ConfigError, build, number, read_yaml
from jaxmec.environment import Environment, Policy
from jaxmec.reporting.files import replace_file

ALGORITHMS: dict[str, type] = {
    "ppo": PPO,
    "white_box": WhiteBox,
    "imitation": Imitation,
    "evolution": Evolution,
}

KEPT_CHECKPOINTS = 3
BYTES_PER_UPDATE = 1500  # of metrics, on paper and in TensorBoard; generous
_DIGEST_BYTES = hashlib.sha256().digest_size
_CHECKPOINT = re.compile(r"\d{8}\.msgpack")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a training run."""

    scenario: str = scenario.DEFAULT
    """Name or YAML file of the system."""
    seed: int = number(0, at_least=0, at_most=LARGEST_SEED)
    """Of network, episodes and exploration."""
    algorithm: Algorithm = dataclasses.field(default_factory=PPO)
    """The learner with its hyperparameters."""
    fidelity: Literal["stationary", "requests"] = "stationary"
    """Mean delays by formula, or every request simulated."""

    def __post_init__(self) -> None:
        scenario.find(self.scenario)


def algorithm_name(algorithm: Algorithm) -> str:
    """The name under which files and commands know an algorithm."""
    return next(name for name, kind in ALGORITHMS.items() if type(algorithm) is kind)


def build_algorithm(data: Mapping[str, Any], source: str | Path) -> Algorithm:
    """The algorithm of a run's or a sweep's file.

    `algorithm` names it (ppo where it is absent), and the section of that name holds its hyperparameters.

    Raises:
      ConfigError: naming source, field, value and what is allowed.
    """
    sections = [name for name in data if name in ALGORITHMS]
    name = data.get("algorithm", sections[0] if len(sections) == 1 else "ppo")
    if not isinstance(name, str) or name not in ALGORITHMS:
        raise ConfigError(f"{source}: algorithm: got {name!r}; allowed are {', '.join(ALGORITHMS)}")
    for section in sections:
        if section != name:
            raise ConfigError(f"{source}: {section}: got a section of another algorithm; algorithm is {name!r}")
    return build(ALGORITHMS[name], data.get(name, {}), source, name)


def build_run(data: Mapping[str, Any], source: str | Path) -> RunConfig:
    """A run's configuration from plain data.

    Raises:
      ConfigError: naming source, field, value and what is allowed.
    """
    rest = {name: value for name, value in data.items() if name != "algorithm" and name not in ALGORITHMS}
    return build(RunConfig, rest, source, given={"algorithm": build_algorithm(data, source)})


def dump_algorithm(algorithm: Algorithm) -> dict[str, Any]:
    """What `build_algorithm` reads, as plain data."""
    name = algorithm_name(algorithm)
    return {"algorithm": name, name: dataclasses.asdict(algorithm)}  # type: ignore[call-overload]


def plain_run(config: RunConfig) -> dict[str, Any]:
    """What `build_run` reads, as plain data."""
    run = {"scenario": config.scenario, "fidelity": config.fidelity, "seed": config.seed}
    return run | dump_algorithm(config.algorithm)


def check_new(folder: Path) -> None:
    """Refuse a folder that a new run must not write into.

    Raises:
      ConfigError: if it holds a run, or anything else.
    """
    if (folder / "config.yaml").exists():
        raise ConfigError(f"out: {folder} holds a run; continue it with --resume, or name another folder")
    if folder.is_dir() and any(path.name != ".lock" for path in folder.iterdir()):
        raise ConfigError(f"out: {folder} is not empty and holds no run; name another folder")


def check_same(folder: Path, changes: Mapping[str, Any]) -> None:
    """Refuse to continue a run as another.

    Args:
      folder: of the run.
      changes: what was asked for, as `plain_run` has it; absent fields are not asked for.

    Raises:
      ConfigError: naming the fields that differ, and both values.
    """
    old, new = _flat(plain_run(load_config(folder))), _flat(changes)
    differing = [f"{name} is {old.get(name)!r}, not {new[name]!r}" for name in new if old.get(name) != new[name]]
    if differing:
        raise ConfigError(f"resume: {folder} holds another run ({'; '.join(differing)})")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other command out of a folder; a command that dies lets go of it.

    Raises:
      ConfigError: naming the command that holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    if path.is_symlink():
        raise ConfigError(f"out: {path} is a symbolic link; a command writes into its own folder only")
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        owner = path.read_text().strip() or "another command"
        raise ConfigError(f"out: {folder} is in use by {owner}") from None
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        lock.release()


def write_config(folder: Path, config: RunConfig) -> None:
    """Write `config.yaml`, `scenario/` and `versions.yaml`.

    Raises:
      OSError: if the folder cannot be written.
    """
    for name, content in scenario.files(config.scenario).items():
        path = folder / "scenario" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    replace_file(folder / "versions.yaml", yaml.safe_dump(versions(), sort_keys=False))
    replace_file(folder / "config.yaml", yaml.safe_dump(plain_run(config), sort_keys=False))


def versions() -> dict[str, str]:
    """What a run would run with here."""
    found = {name: metadata.version(name) for name in ("jaxmec", "jax", "jaxlib", "flax", "optax", "numpy")}
    machine = {"python": platform.python_version(), "device": str(jax.devices()[0])}
    return found | machine | {"precision": str(jnp.zeros(()).dtype)}


def changed_versions(folder: Path) -> list[str]:
    """What is not as it was when the run began, in words."""
    path, now = folder / "versions.yaml", versions()
    if not path.exists():
        return [f"{path} is missing"]
    before = read_yaml(path)
    return [f"{name} was {before.get(name)} and is {now[name]}" for name in now if before.get(name) != now[name]]


def load_config(folder: Path) -> RunConfig:
    """Read what `write_config` wrote; the scenario is the folder's own copy.

    Raises:
      ConfigError: if the folder holds no run.
    """
    path = folder / "config.yaml"
    return build_run(read_yaml(path), path)


def scenario_of(folder: Path) -> Path:
    """The file of a run's scenario, as it was when the run began.

    Raises:
      ConfigError: if it is missing.
    """
    path = folder / "scenario" / "scenario.yaml"
    if not path.is_file():
        raise ConfigError(f"{path}: missing; the run cannot be told from another without it")
    return path


def save_checkpoint(folder: Path, learner: Learner) -> None:
    """Write the learner and its policy; the newest `KEPT_CHECKPOINTS` stay.

    A file appears under its name only when it is whole, and carries a digest of its content. Every process of a
    run must call this; the first one writes.

    Raises:
      OSError: if the folder cannot be written; the checkpoints before stay whole.
    """
    whole = sharding.gather(learner)
    if jax.process_index() > 0:
        return
    checkpoints = folder / "checkpoints"
    if checkpoints.is_symlink():
        raise OSError(f"{checkpoints}: is a symbolic link; a run writes into its own folder only")
    checkpoints.mkdir(exist_ok=True)
    _write(checkpoints / f"{int(whole.updates):08d}.msgpack", whole)
    save_policy(folder, whole)
    for old in _checkpoints(folder)[:-KEPT_CHECKPOINTS]:
        old.unlink()


def save_policy(folder: Path, learner: Learner) -> None:
    """Write the learner's policy, which is then that of the folder."""
    if jax.process_index() == 0:
        _write(folder / "policy.msgpack", jax.device_get(learner.model))


def restore_checkpoint(folder: Path, like: Learner) -> Learner | None:
    """The newest checkpoint that is whole, or None where there is none; damaged ones are passed over with a warning.

    Args:
      folder: of the run.
      like: a learner of the same configuration, for structure, dtypes and places on devices.

    Raises:
      ValueError: if there are checkpoints and none can be used; nothing has been changed.
    """
    template = sharding.gather(like)
    problems = []
    for path in reversed(_checkpoints(folder)):
        try:
            return sharding.scatter(_read(path, template), like)
        except ValueError as error:
            problems.append(str(error))
            warnings.warn(f"{error}; the checkpoint before it is used", stacklevel=2)
    if problems:
        raise ValueError(
            f"{problems[0]}; no checkpoint of {folder} can be used: restore one, or start anew in another folder"
        )
    return None


def check_space(folder: Path, config: RunConfig, learner: Learner) -> None:
    """Can the folder hold the run's checkpoints?

    Raises:
      OSError: saying what is needed and what is free.
    """
    needed = (KEPT_CHECKPOINTS + 2) * sum(leaf.nbytes for leaf in jax.tree.leaves(learner.replace(key=None)))
    needed += BYTES_PER_UPDATE * config.algorithm.num_updates
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"out: {folder} has {free / 1e6:.0f} MB free; the run's files need {needed / 1e6:.0f} MB")


def load_policy(folder: str | Path, env: Environment, candidates: int = 1) -> Policy:
    """The policy that a run has learned: policy(key, state, params) -> int32[N], each user's most probable cut.

    Args:
      folder: of the run.
      env: any environment for a "set" network; for "mlp" one of the run's shapes.
      candidates: see `jaxmec.agents.actor_critic.policy`.

    Raises:
      ConfigError: if the folder holds no run; ValueError if its policy is damaged or of other shapes, or for no
        candidates.
    """
    folder = Path(folder)
    algorithm = load_config(folder).algorithm
    like = jax.eval_shape(lambda key: algorithm.init_model(env, key), jax.random.key(0))
    try:
        model = _read(folder / "policy.msgpack", like)
    except ValueError as error:
        raise ValueError(f"{error}; only 'set' networks serve other numbers of users or cuts") from None
    # Of a finished learner only the model is left, which is all that its policy needs.
    learner: Any = Learner(model=model, optimiser=None, env_state=None, key=None, updates=None)  # type: ignore[arg-type]
    return algorithm.policy(env, learner, candidates)


def _checkpoints(folder: Path) -> list[Path]:
    """From the oldest to the newest; files of other names are not ours."""
    return sorted(path for path in (folder / "checkpoints").glob("*.msgpack") if _CHECKPOINT.fullmatch(path.name))


def _write(path: Path, tree: Any) -> None:
    content = flax.serialization.to_bytes(tree)
    replace_file(path, hashlib.sha256(content).digest() + content)


def _read(path: Path, like: Any) -> Any:
    """A tree of the structure, shapes and dtypes of `like`.

    Raises:
      ValueError: naming the file, and what is wrong with it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path}: damaged, its content does not match its digest")
    try:
        tree = flax.serialization.from_bytes(like, content)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ValueError(f"{path}: holds something else than this configuration and version need") from None
    for (place, wanted), found in zip(jax.tree.leaves_with_path(like), jax.tree.leaves(tree), strict=True):
        if wanted.shape != found.shape or wanted.dtype != found.dtype:
            raise ValueError(
                f"{path}: {jax.tree_util.keystr(place)} is {found.dtype}{list(found.shape)}, but "
                f"{wanted.dtype}{list(wanted.shape)} is needed here"
            )
    return tree


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings by dotted path."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": item for inner, item in _flat(value).items()}
        else:
            flat[name] = value
    return flat

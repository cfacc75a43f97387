"""A training run's folder: its configuration, its checkpoints, and the policy that it holds.

config.yaml       everything that decides the run
versions.yaml     what it ran with
metrics.csv       one row per update
checkpoints/      the newest few, each with a digest
policy.msgpack    network weights and running statistics of the newest checkpoint
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import shutil
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import yaml

from jaxmec.agents import sharding
from jaxmec.agents.algorithm import Algorithm, Learner
from jaxmec.agents.evolution import Evolution
from jaxmec.agents.imitation import Imitation
from jaxmec.agents.ppo import PPO
from jaxmec.agents.white_box import WhiteBox
from jaxmec.config import ConfigError, build, read_yaml
from jaxmec.environment import Environment, Policy
from jaxmec.reporting.files import replace_file
from jaxmec.scenario import DEFAULT

ALGORITHMS: dict[str, type] = {
    "ppo": PPO,
    "white_box": WhiteBox,
    "imitation": Imitation,
    "evolution": Evolution,
}

KEPT_CHECKPOINTS = 3
BYTES_PER_UPDATE = 1500  # of metrics, on paper and in TensorBoard; generous
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a training run."""

    scenario: str = DEFAULT
    """Name or YAML file of the system."""
    seed: int = 0
    """Of network, episodes and exploration."""
    algorithm: Algorithm = dataclasses.field(default_factory=PPO)
    """The learner with its hyperparameters."""


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


def dump_run(config: RunConfig) -> str:
    """The configuration as the text of a run's file."""
    data = {"scenario": config.scenario, "seed": config.seed, **dump_algorithm(config.algorithm)}
    return yaml.safe_dump(data, sort_keys=False)


def write_config(folder: Path, config: RunConfig) -> None:
    """Write `config.yaml` and `versions.yaml`."""
    replace_file(folder / "config.yaml", dump_run(config))
    versions = {name: metadata.version(name) for name in ("jaxmec", "jax", "jaxlib", "flax", "optax", "numpy")}
    machine = {"python": platform.python_version(), "device": str(jax.devices()[0])}
    replace_file(folder / "versions.yaml", yaml.safe_dump(versions | machine, sort_keys=False))


def load_config(folder: Path) -> RunConfig:
    """Read what `write_config` wrote.

    Raises:
      ConfigError: if the folder holds no run.
    """
    path = folder / "config.yaml"
    return build_run(read_yaml(path), path)


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
    checkpoints.mkdir(exist_ok=True)
    _write(checkpoints / f"{int(whole.updates):08d}.msgpack", whole)
    _write(folder / "policy.msgpack", whole.model)
    for old in sorted(checkpoints.glob("*.msgpack"))[:-KEPT_CHECKPOINTS]:
        old.unlink()


def restore_checkpoint(folder: Path, like: Learner) -> Learner | None:
    """The newest checkpoint that is whole, or None; damaged ones are passed over with a warning.

    Args:
      folder: of the run.
      like: a learner of the same configuration, for structure, dtypes and places on devices.
    """
    template = sharding.gather(like)
    for path in sorted((folder / "checkpoints").glob("*.msgpack"), reverse=True):
        try:
            return sharding.scatter(_read(path, template), like)
        except ValueError as error:
            warnings.warn(f"{error}; the checkpoint before it is used", stacklevel=2)
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
    stored = _read(folder / "policy.msgpack", like)
    for (path, wanted), found in zip(jax.tree.leaves_with_path(like), jax.tree.leaves(stored), strict=True):
        if wanted.shape != found.shape:
            raise ValueError(
                f"{folder}: the policy's {jax.tree_util.keystr(path)} has shape {found.shape}, but this "
                f"environment needs {wanted.shape}; only 'set' networks serve other numbers of users or cuts"
            )
    # Of a finished learner only the model is left, which is all that its policy needs.
    learner: Any = Learner(model=stored, optimiser=None, env_state=None, key=None, updates=None)  # type: ignore[arg-type]
    return algorithm.policy(env, learner, candidates)


def _write(path: Path, tree: Any) -> None:
    content = flax.serialization.to_bytes(tree)
    replace_file(path, hashlib.sha256(content).digest() + content)


def _read(path: Path, like: Any) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path}: damaged, its content does not match its digest")
    return flax.serialization.from_bytes(like, content)

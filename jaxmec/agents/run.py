"""A training run's folder: its configuration, its checkpoints, and the policy that it holds.

config.yaml       everything that decides the run
versions.yaml     what it ran with
metrics.csv       one row per update
checkpoints/      the newest few, each with a digest
policy.msgpack    network weights and observation moments of the newest checkpoint
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import shutil
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import yaml
from jax import Array

from jaxmec.agents import normalise, sharding
from jaxmec.agents.networks import make_network, valid_cuts
from jaxmec.agents.policy import learned
from jaxmec.agents.ppo import Learner, PPOConfig
from jaxmec.config import build, read_yaml
from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.features import observation_size

KEPT_CHECKPOINTS = 3
BYTES_PER_UPDATE = 1000  # of metrics, on paper and in TensorBoard; generous
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a training run."""

    scenario: str = "coinfer10"
    """Name or YAML file of the system."""
    seed: int = 0
    """Of network, episodes and exploration."""
    ppo: PPOConfig = dataclasses.field(default_factory=PPOConfig)
    """The learner's hyperparameters."""


def write_config(folder: Path, config: RunConfig) -> None:
    """Write `config.yaml` and `versions.yaml`."""
    (folder / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))
    versions = {name: metadata.version(name) for name in ("jaxmec", "jax", "jaxlib", "flax", "optax", "numpy")}
    machine = {"python": platform.python_version(), "device": str(jax.devices()[0])}
    (folder / "versions.yaml").write_text(yaml.safe_dump(versions | machine, sort_keys=False))


def load_config(folder: Path) -> RunConfig:
    """Read what `write_config` wrote.

    Raises:
      ConfigError: if the folder holds no run.
    """
    path = folder / "config.yaml"
    return build(RunConfig, read_yaml(path), path)


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
    _write(folder / "policy.msgpack", {"params": whole.params, "moments": whole.moments})
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
    needed += BYTES_PER_UPDATE * config.ppo.num_updates
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"out: {folder} has {free / 1e6:.0f} MB free; the run's files need {needed / 1e6:.0f} MB")


def load_policy(
    folder: str | Path, env: EdgeInferenceEnv, candidates: int = 1
) -> Callable[[Array, EnvState, EnvParams], Array]:
    """The policy that a run has learned: policy(key, state, params) -> int32[N], each user's most probable cut.

    Args:
      folder: of the run.
      env: any environment for a "set" network; for "mlp" one of the run's shapes.
      candidates: see `jaxmec.agents.policy.learned`.

    Raises:
      ConfigError: if the folder holds no run; ValueError if its policy is damaged or of other shapes, or for no
        candidates.
    """
    folder = Path(folder)
    config = load_config(folder).ppo
    network = make_network(config.network, env.num_cuts, config.width)
    observation = jnp.zeros((env.num_users, observation_size(env.num_cuts)), jnp.float32)
    weights = jax.eval_shape(network.init, jax.random.key(0), observation, valid_cuts(observation, env.num_cuts))
    like = {"params": weights, "moments": normalise.init()}
    stored = _read(folder / "policy.msgpack", like)
    for (path, wanted), found in zip(jax.tree.leaves_with_path(like), jax.tree.leaves(stored), strict=True):
        if wanted.shape != found.shape:
            raise ValueError(
                f"{folder}: the policy's {jax.tree_util.keystr(path)} has shape {found.shape}, but this "
                f"environment needs {wanted.shape}; only 'set' networks serve other numbers of users or cuts"
            )

    return learned(env, network, stored["params"], stored["moments"], candidates)


def _write(path: Path, tree: Any) -> None:
    content = flax.serialization.to_bytes(tree)
    temporary = path.with_suffix(".part")
    temporary.write_bytes(hashlib.sha256(content).digest() + content)
    temporary.replace(path)


def _read(path: Path, like: Any) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path}: damaged, its content does not match its digest")
    return flax.serialization.from_bytes(like, content)

"""Named systems and YAML files, turned into (env, params).

schema.py     what a file may say
assemble.py   from that to an environment and its parameters
*.yaml        the named scenarios
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxmec.config import ConfigError, build, merge, read_yaml
from jaxmec.devices import Device
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.scenario.assemble import FIDELITIES, assemble, device_classes
from jaxmec.scenario.schema import Scenario

__all__ = ["DEFAULT", "FIDELITIES", "Scenario", "devices_of", "files", "find", "make", "scenarios"]

DEFAULT = "district10"  # what commands run where no scenario is named

_FOLDER = Path(__file__).parent


def scenarios() -> tuple[str, ...]:
    """Names that `make` knows."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def make(
    scenario: str | Path, *, num_users: int | None = None, fidelity: str = "stationary", **overrides: Any
) -> tuple[EdgeInferenceEnv, EnvParams]:
    """Build an environment.

    Args:
      scenario: a name of `scenarios()` or the path of a YAML file.
      num_users: another number of users, for scenarios with one user group.
      fidelity: "stationary", mean delays by formula, or "requests", every request simulated; see `jaxmec.requests`.
      **overrides: fields of `Scenario`; nested ones as mappings, e.g. `radio={"bandwidth_hz": 10e6}`.

    Returns:
      The environment and its parameters (also `env.default_params`).

    Raises:
      ConfigError: a ValueError that names file, field, value and what is allowed.
    """
    if fidelity not in FIDELITIES:
        raise ConfigError(f"fidelity: got {fidelity!r}; allowed are {', '.join(map(repr, FIDELITIES))}")
    path = find(scenario)
    data = merge(read_yaml(path), overrides)
    if num_users is not None:
        groups = data.get("users")
        if not isinstance(groups, list) or len(groups) != 1 or not isinstance(groups[0], Mapping):
            raise ConfigError(f"{path}: num_users: got {num_users}; allowed only with a single user group")
        data["users"] = [merge(groups[0], {"count": num_users})]
    changed = bool(overrides) or num_users is not None
    return assemble(build(Scenario, data, path), path, fidelity, changed)


def devices_of(scenario: str | Path) -> tuple[Device, ...]:
    """Classes of device of a scenario's users and its server, which tell how far their latency models err.

    Raises:
      ConfigError: as `make`.
    """
    path = find(scenario)
    classes = device_classes(build(Scenario, read_yaml(path), path), path)
    return tuple({device.name: device for device in classes}.values())


def files(scenario: str | Path) -> dict[str, bytes]:
    """Everything on disk that a scenario is made of, by path relative to its own file, which is "scenario.yaml".

    They are the profiles, devices and traces that the file names; a copy of them is the same scenario elsewhere.

    Raises:
      ConfigError: as `find` and `read_yaml`, and for a file that does not lie in the scenario's folder.
    """
    path = find(scenario)
    contents = {"scenario.yaml": path.read_bytes()} if path.exists() else {}
    for text in _texts(read_yaml(path)):
        contents |= _named(path, text)
    return contents


def _named(path: Path, text: str) -> dict[str, bytes]:
    """The file that a text in `path` names, and those that a device's file names in turn; nothing for other texts."""
    other = path.parent / text
    if "." not in text or not os.path.isfile(other):
        return {}
    if Path(text).is_absolute() or ".." in Path(text).parts:
        raise ConfigError(f"{path}: got {text!r}; allowed are files in the scenario's own folder")
    contents = {text: other.read_bytes()}
    if text.endswith((".yaml", ".yml")):
        for inner in _texts(read_yaml(other)):
            contents |= {str(Path(text).parent / name): file for name, file in _named(other, inner).items()}
    return contents


def _texts(data: Any) -> Iterator[str]:
    """All texts in plain data, keys among them."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for name, value in data.items():
            yield from _texts(name)
            yield from _texts(value)
    elif isinstance(data, list):
        for item in data:
            yield from _texts(item)


def find(scenario: str | Path) -> Path:
    """The file of a scenario's name, or the path itself.

    Raises:
      ConfigError: if it is neither a name of `scenarios()` nor the path of a YAML file.
    """
    if str(scenario) in scenarios():
        return _FOLDER / f"{scenario}.yaml"
    if str(scenario).endswith((".yaml", ".yml")):
        return Path(scenario)
    raise ConfigError(
        f"scenario: got {str(scenario)!r}; allowed are {', '.join(scenarios())} or the path of a .yaml file"
    )

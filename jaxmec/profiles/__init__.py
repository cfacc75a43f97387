"""What a network costs at each cut: tables of well-known networks, any JAX function, and halves that run."""

from __future__ import annotations

from pathlib import Path

from jaxmec.profiles._measure import HalfTimes, measure, measured_profile
from jaxmec.profiles._profile import profile
from jaxmec.profiles._split import Split, split
from jaxmec.profiles.choice import Choice, Costs, choose
from jaxmec.profiles.table import PartitionProfile, Stages

__all__ = [
    "Choice",
    "Costs",
    "HalfTimes",
    "PartitionProfile",
    "Split",
    "Stages",
    "choose",
    "load",
    "measure",
    "measured_profile",
    "names",
    "profile",
    "split",
]

_FOLDER = Path(__file__).parent / "zoo"


def names() -> tuple[str, ...]:
    """Networks whose tables come with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def load(name: str | Path) -> PartitionProfile:
    """A network's table, by name or from a JSON file.

    Raises:
      ValueError: for an unknown name or a file that holds no profile; OSError if it cannot be read.
    """
    if str(name).endswith(".json"):
        return PartitionProfile.read(name)
    if name not in names():
        raise ValueError(f"no network {str(name)!r}; allowed are {', '.join(names())} or the path of a .json file")
    return PartitionProfile.read(_FOLDER / f"{name}.json")

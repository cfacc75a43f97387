"""Hardware that runs networks: how many seconds a network takes on it, and the power it draws.

The latency of a piece of network is flop / F + bytes / BW + n_heavy · t0: arithmetic, memory traffic and a fixed
cost per convolution or matrix product. The three constants are fitted to measured whole-model times; where a
network's own time was measured, its curve over the cuts is scaled to end there. FLOPs alone err by more than half
across networks: MobileNetV2 runs at a sixth of VGG16's FLOP/s on a Raspberry Pi 4.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from jaxmec import profiles
from jaxmec.config import build, number, read_yaml
from jaxmec.profiles import PartitionProfile

_FILE = Path(__file__).parent / "devices.yaml"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A class of device as its data file describes it."""

    description: str
    power_source: str
    measured_source: str
    power_w: float = number(above=0)  # active, at full speed
    measured_s: dict[str, float] = number(above=0)  # network -> whole-model seconds per image


@dataclasses.dataclass(frozen=True)
class LatencyModel:
    """Constants of the latency model; an infinite rate leaves its term out."""

    flop_per_s: float
    bytes_per_s: float
    heavy_op_s: float

    def latency_s(self, profile: PartitionProfile) -> np.ndarray:
        """Modelled seconds of everything up to each cut: float64[K]."""
        flop = 2.0 * profile.macs + profile.other_ops
        return (
            flop / self.flop_per_s + profile.bytes_moved / self.bytes_per_s + profile.heavy_ops * self.heavy_op_s
        )


@dataclasses.dataclass(frozen=True)
class Device:
    """A class of device."""

    name: str
    description: str
    power_w: float  # active, at full speed
    model: LatencyModel
    measured_s: Mapping[str, float]  # network -> whole-model seconds per image

    def latency_s(self, profile: PartitionProfile) -> np.ndarray:
        """Seconds at full speed of everything up to each cut: float64[K]."""
        modelled = self.model.latency_s(profile)
        total = self.measured_s.get(profile.name)
        return modelled if total is None else modelled * (total / modelled[-1])


def names() -> tuple[str, ...]:
    """Device classes that come with the package."""
    return tuple(sorted(_table()))


@cache
def load(name: str) -> Device:
    """A class of device.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in _table():
        raise ValueError(f"no device {name!r}; allowed are {', '.join(names())}")
    entry = build(Measurement, _table()[name], _FILE, name)
    model, _ = fit_device(entry.measured_s)
    return Device(name, entry.description, entry.power_w, model, entry.measured_s)


def fit_device(measured_s: Mapping[str, float]) -> tuple[LatencyModel, dict[str, float]]:
    """Fit the latency model to measured whole-model times.

    Least squares of the relative errors with constants of at least zero: of the seven ways to leave out terms,
    the best whose constants all are positive.

    Args:
      measured_s: network (a name or a profile's file) to seconds.

    Returns:
      The model, and per network its time's relative error, (modelled - measured) / measured.

    Raises:
      ValueError: for no measurement, a time that is not above zero, or an unknown network.
    """
    if not measured_s or min(measured_s.values()) <= 0:
        raise ValueError(f"measured_s: got {dict(measured_s)}; allowed are times above 0 of at least one network")
    tables = [profiles.load(name) for name in measured_s]
    times = np.array(list(measured_s.values()))
    terms = np.array([[2 * t.macs[-1] + t.other_ops[-1], t.bytes_moved[-1], t.heavy_ops[-1]] for t in tables])
    relative = terms / times[:, None]
    best, best_error = np.zeros(3), np.inf
    for used in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in (1, 2, 3)):
        # Columns differ by ten orders of magnitude: scale them for the solve.
        scale = np.linalg.norm(relative[:, used], axis=0)
        solution, *_ = np.linalg.lstsq(relative[:, used] / scale, np.ones(len(times)), rcond=None)
        error = np.sum((relative[:, used] / scale @ solution - 1) ** 2)
        if (solution > 0).all() and error < best_error:
            best, best_error = np.zeros(3), error
            best[list(used)] = solution / scale
    flop_per_s, bytes_per_s = (1 / c if c > 0 else np.inf for c in best[:2])
    model = LatencyModel(float(flop_per_s), float(bytes_per_s), float(best[2]))
    errors = {name: float(e) for name, e in zip(measured_s, terms @ best / times - 1, strict=True)}
    return model, errors


@cache
def _table() -> dict:
    return read_yaml(_FILE)

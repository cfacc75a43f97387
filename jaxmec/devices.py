"""Hardware that runs networks: how many seconds a network takes on it, and the power it draws.

The latency of a piece of network is flop / F + bytes / BW + n_heavy · t0: arithmetic, memory traffic and a fixed
cost per convolution or matrix product. The three constants are fitted to measured whole-model times; where a
network's own time was measured, its curve over the cuts is scaled to end there. FLOPs alone err by more than half
across networks: MobileNetV2 runs at a sixth of VGG16's FLOP/s on a Raspberry Pi 4.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from jaxmec import profiles
from jaxmec.config import build, number, read_yaml
from jaxmec.profiles import PartitionProfile, Stages

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


def stage_seconds(
    profile: PartitionProfile,
    device: Device,
    server: Device,
    wire_bits: int | None = 8,
    input_bits: float | None = None,
    per_channel: bool = False,
) -> Stages:
    """Demands of every cut between a device and a server: measured seconds of the profile, else modelled ones.

    Args:
      profile: the network's cut table.
      device: runs the rows up to the cut.
      server: runs the rest.
      wire_bits: as for `PartitionProfile.uplink_bits`.
      input_bits: likewise.
      per_channel: likewise.
    """
    if profile.server_s is None:
        modelled = server.latency_s(profile)
        server_work_s = modelled[-1] - modelled
    else:
        server_work_s = profile.server_s
    return Stages(
        device_work_s=device.latency_s(profile) if profile.device_s is None else profile.device_s,
        uplink_bits=profile.uplink_bits(wire_bits, input_bits, per_channel),
        server_work_s=server_work_s,
        downlink_bits=profile.returning_bits(),
    )


def fit_device(
    measured: Mapping[str, float] | Sequence[PartitionProfile],
) -> tuple[LatencyModel, dict[str, float]]:
    """Fit the latency model to measured times.

    Least squares of the relative errors with constants of at least zero: of the seven ways to leave out terms,
    the best whose constants all are positive.

    Args:
      measured: seconds of whole networks by name or profile file; or measured profiles, see
        `jaxmec.profiles.measured_profile`, of which every row with work on the device is one measurement.

    Returns:
      The model, and its relative errors, (modelled - measured) / measured, by network or by "network, cut k".

    Raises:
      ValueError: for no measurement, a time that is not above zero, an unknown network or a profile without times.
    """
    tables, rows, times, names = _measurements(measured)
    if not len(times) or not (times > 0).all():
        raise ValueError(f"measured: got times {times}; allowed are times above 0 of at least one network")
    terms = np.array(
        [
            [2 * table.macs[row] + table.other_ops[row], table.bytes_moved[row], table.heavy_ops[row]]
            for table, row in zip(tables, rows, strict=True)
        ]
    )
    relative = terms / times[:, None]
    best, best_error = np.zeros(3), np.inf
    for used in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in (1, 2, 3)):
        # Columns differ by ten orders of magnitude: scale them for the solve.
        scale = np.linalg.norm(relative[:, used], axis=0)
        if not scale.all():
            continue
        solution, *_ = np.linalg.lstsq(relative[:, used] / scale, np.ones(len(times)), rcond=None)
        error = np.sum((relative[:, used] / scale @ solution - 1) ** 2)
        if (solution > 0).all() and error < best_error:
            best, best_error = np.zeros(3), error
            best[list(used)] = solution / scale
    flop_per_s, bytes_per_s = (1 / c if c > 0 else np.inf for c in best[:2])
    model = LatencyModel(float(flop_per_s), float(bytes_per_s), float(best[2]))
    errors = {name: float(e) for name, e in zip(names, terms @ best / times - 1, strict=True)}
    return model, errors


def _measurements(
    measured: Mapping[str, float] | Sequence[PartitionProfile],
) -> tuple[list[PartitionProfile], list[int], np.ndarray, list[str]]:
    """Tables, their rows, seconds and what to call them."""
    if isinstance(measured, Mapping):
        tables = [profiles.load(name) for name in measured]
        return tables, [-1] * len(tables), np.array(list(measured.values()), float), list(measured)
    tables, rows, times, names = [], [], [], []
    for table in measured:
        if table.device_s is None:
            raise ValueError(f"profile {table.name!r}: device_s: got None; allowed is a measured profile")
        for row in range(1, len(table)):
            tables.append(table)
            rows.append(row)
            times.append(table.device_s[row])
            names.append(f"{table.name}, cut {row}")
    return tables, rows, np.array(times), names


@cache
def _table() -> dict:
    return read_yaml(_FILE)

"""Hardware that runs networks: how many seconds a network takes on it, and the power it draws.

A class of device is an entry of `devices.yaml` or a file of one's own; `Measurement` has the fields. Its latency
model (`jaxmec.latency`) is fitted to the times in it; where a network's own time was measured, its curve over the
cuts is scaled to end there.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxmec import latency, profiles
from jaxmec.config import ConfigError, build, number, read_yaml
from jaxmec.latency import LatencyModel
from jaxmec.profiles import PartitionProfile, Stages

_FILE = Path(__file__).parent / "devices.yaml"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A class of device as a file describes it."""

    power_w: float = number(at_least=1e-6, at_most=1e6)  # active, at full speed
    measured_s: dict[str, float] = number({}, at_least=1e-9, at_most=1e6)
    """Name or .json file of a network to the seconds of one whole run."""
    measured_profiles: tuple[str, ...] = ()  # .json files of `jaxmec.profiles.measured_profile`
    halves: Literal["heads", "tails", "both"] = "heads"  # of these profiles, those that this device has run
    batch: int = number(1, at_least=1, at_most=10**6)  # requests that one measured run served
    description: str = ""  # one line
    power_source: str = ""  # where the power comes from
    measured_source: str = ""  # where the times come from

    def __post_init__(self) -> None:
        if not self.measured_s and not self.measured_profiles:
            raise ConfigError("measured_s: got no times, nor measured_profiles; at least one of them is needed")


@dataclasses.dataclass(frozen=True)
class Device:
    """A class of device."""

    name: str
    description: str
    power_w: float  # active, at full speed
    model: LatencyModel
    measured_s: Mapping[str, float]  # network -> whole-model seconds per run
    batch: int = 1  # requests per run
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)  # see `leave_one_out`

    @property
    def typical_error(self) -> float:
        """Median size of the errors on networks that the model was not fitted to; NaN if they are not known."""
        return float(np.median(np.abs(list(self.errors.values())))) if self.errors else float("nan")

    def error_text(self) -> str:
        """How far the model errs, in words."""
        known = np.isfinite(self.typical_error)
        size = f"errs by {self.typical_error:.0%}" if known else "errs by an unknown amount"
        return f"{self.name}: the latency model {size} on networks left out of its fit"

    def latency_s(self, profile: PartitionProfile) -> np.ndarray:
        """Seconds at full speed of everything up to each cut: float64[K]."""
        modelled = self.model.latency_s(profile)
        total = self.measured_s.get(profile.name) if profile.batch in (None, self.batch) else None
        return modelled if total is None else modelled * (total / modelled[-1])


def names() -> tuple[str, ...]:
    """Device classes that come with the package."""
    return tuple(sorted(_table()))


def load(name: str | Path) -> Device:
    """A class of device, by name or from a YAML file that holds the fields of one `Measurement`.

    Raises:
      ValueError: for an unknown name, or a file that cannot be read or used; the message tells the field.
    """
    if str(name).endswith((".yaml", ".yml")):
        return describe(Path(name).stem, read_yaml(name), Path(name))
    if name not in _table():
        raise ValueError(f"no device {str(name)!r}; allowed are {', '.join(names())} or the path of a .yaml file")
    return _shipped(str(name))


@cache
def _shipped(name: str) -> Device:
    return describe(name, _table()[name], _FILE, name)


def describe(name: str, entry: Measurement | Mapping[str, Any], source: Path, field: str = "") -> Device:
    """A class of device from what a file says of it.

    Args:
      name: of the device.
      entry: a `Measurement`, or its fields.
      source: file that holds the entry; paths in it are relative to its folder.
      field: place of the entry in this file, for messages.

    Raises:
      ConfigError: for wrong fields, unknown networks or files that cannot be read.
    """
    found = entry if isinstance(entry, Measurement) else build(Measurement, entry, source, field)
    try:
        whole = {str(_beside(source, network)): seconds for network, seconds in found.measured_s.items()}
        tables = [PartitionProfile.read(_beside(source, file)) for file in found.measured_profiles]
        runs = _whole_runs(whole) + _half_runs(tables, found.halves)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{source}: {field or name}: {error}") from None
    measured_s = {run.table.name: run.seconds for run in runs if run.is_whole}
    model, _ = _fit(runs)
    errors = _leave_one_out(runs)
    return Device(name, found.description, found.power_w, model, measured_s, found.batch, errors)


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

    Warns:
      UserWarning: if the profile is of another batch than the device or server was measured at.
    """
    for one, measured in ((device, profile.device_s), (server, profile.server_s)):
        if measured is None and profile.batch not in (None, one.batch):
            warnings.warn(
                f"{profile.name} is of batch {profile.batch}, and {one.name} was measured at batch {one.batch}: "
                "its rates may be others",
                stacklevel=2,
            )
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
    halves: Literal["heads", "tails", "both"] = "heads",
) -> tuple[LatencyModel, dict[str, float]]:
    """Fit the latency model to measured times, see `jaxmec.latency`.

    Args:
      measured: seconds of whole networks by name or profile file; or measured profiles, see
        `jaxmec.profiles.measured_profile`, of which every half that does work is one measurement. The halves of a
        network weigh together as much as a whole network.
      halves: of measured profiles, those that this device has run.

    Returns:
      The model, and its relative errors on what it was fitted to, (modelled - measured) / measured, by network, or
      by "network, head of cut k" and "network, tail of cut k". `leave_one_out` tells how far it errs on other
      networks.

    Raises:
      ValueError: for no measurement, a time that is not above zero, an unknown network or a profile without times.
    """
    return _fit(_runs(measured, halves))


def leave_one_out(
    measured: Mapping[str, float] | Sequence[PartitionProfile],
    halves: Literal["heads", "tails", "both"] = "heads",
) -> dict[str, float]:
    """Relative error on every network of a model that is fitted to the others; the arguments are `fit_device`'s.

    Returns:
      (modelled - measured) / measured of each network, of measured profiles the root mean square over the halves;
      empty for a single network.
    """
    return _leave_one_out(_runs(measured, halves))


@dataclasses.dataclass(frozen=True)
class _Run:
    """A measured time of a network or of a half of it."""

    name: str
    table: PartitionProfile
    work: np.ndarray  # terms of the latency model, float64[6]
    seconds: float
    weight: float = 1.0
    is_whole: bool = True


def _runs(measured: Mapping[str, float] | Sequence[PartitionProfile], halves: str) -> list[_Run]:
    return _whole_runs(measured) if isinstance(measured, Mapping) else _half_runs(measured, halves)


def _whole_runs(measured: Mapping[str, float]) -> list[_Run]:
    tables = {name: profiles.load(name) for name in measured}
    return [_Run(name, table, latency.terms(table)[-1], measured[name]) for name, table in tables.items()]


def _half_runs(measured: Sequence[PartitionProfile], halves: str) -> list[_Run]:
    if halves not in ("heads", "tails", "both"):
        raise ValueError(f"halves: got {halves!r}; allowed are 'heads', 'tails' and 'both'")
    runs = []
    for table in measured:
        if table.device_s is None or table.server_s is None:
            raise ValueError(f"profile {table.name!r}: device_s: got None; allowed is a measured profile")
        work, last = latency.terms(table), len(table) - 1
        halves_of_table = []
        if halves != "tails":
            halves_of_table += [("head", row, work[row], table.device_s[row]) for row in range(1, last + 1)]
        if halves != "heads":
            halves_of_table += [("tail", row, work[-1] - work[row], table.server_s[row]) for row in range(last)]
        for half, row, part, seconds in halves_of_table:
            whole = row == (last if half == "head" else 0)
            name = f"{table.name}, {half} of cut {row}"
            runs.append(_Run(name, table, part, float(seconds), 1 / len(halves_of_table), whole))
    return runs


def _fit(runs: Sequence[_Run]) -> tuple[LatencyModel, dict[str, float]]:
    times_s = np.array([run.seconds for run in runs])
    if not len(runs) or not ((times_s > 0) & np.isfinite(times_s)).all():
        raise ValueError(f"measured: got times {times_s}; allowed are times above 0 of at least one network")
    constants = _constants(runs)
    return LatencyModel.of(constants), {run.name: _error(run, constants) for run in runs}


def _leave_one_out(runs: Sequence[_Run]) -> dict[str, float]:
    errors = {}
    networks = dict.fromkeys(run.table.name for run in runs)
    for network in networks if len(networks) > 1 else ():
        constants = _constants([run for run in runs if run.table.name != network])
        own = [_error(run, constants) for run in runs if run.table.name == network]
        errors[network] = own[0] if len(own) == 1 else float(np.sqrt(np.mean(np.square(own))))
    return errors


def _constants(runs: Sequence[_Run]) -> np.ndarray:
    work, times_s, weights = (
        np.array([getattr(run, field) for run in runs]) for field in ("work", "seconds", "weight")
    )
    return latency.fit(work, times_s, latency.load_prior(), weights)


def _error(run: _Run, constants: np.ndarray) -> float:
    return float(run.work @ constants / run.seconds - 1)


def _beside(source: Path, file: str) -> str | Path:
    """A network's name as it is; a file relative to the one that names it."""
    return source.parent / file if file.endswith(".json") else file


@cache
def _table() -> dict:
    return read_yaml(_FILE)

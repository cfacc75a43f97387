"""`PartitionProfile`: what a network costs at each cut."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxmec.devices import Device

FORMAT_VERSION = 1
_UNITS = (("GMAC", 1e9), ("MMAC", 1e6), ("kMAC", 1e3))
_COLUMNS = ("macs", "other_ops", "heavy_ops", "bytes_moved", "elements", "integer_bits")


@dataclasses.dataclass(frozen=True)
class Stages:
    """Demands of every cut of one network between one device and one server; float64[K] each."""

    device_work_s: np.ndarray  # seconds of the device at full speed
    uplink_bits: np.ndarray
    server_work_s: np.ndarray  # seconds of the server at full capacity

    def delay_s(self, rate_bps: float) -> np.ndarray:
        """Seconds that one request takes at every cut, alone and with all speed, at an uplink rate: float64[K]."""
        return self.device_work_s + self.uplink_bits / rate_bps + self.server_work_s


@dataclasses.dataclass(frozen=True, eq=False)
class PartitionProfile:
    """A network's cut table. Row 0 sends the inputs, the last row runs everything on the device.

    The columns are float64[K]; those of work are cumulative over what runs on the device. A measured profile
    also has seconds, which then replace the latency models of `stages`.
    """

    name: str
    labels: tuple[str, ...]  # place in the model of the last heavy operation on the device
    macs: np.ndarray
    other_ops: np.ndarray
    heavy_ops: np.ndarray  # convolutions and matrix products
    bytes_moved: np.ndarray
    elements: np.ndarray  # floating-point numbers that cross
    integer_bits: np.ndarray  # bits of other values that cross
    input_bits: float | None = None  # of row 0, e.g. of a camera image; None: like any activation
    source: str = ""
    device_s: np.ndarray | None = None  # measured, cumulative
    server_s: np.ndarray | None = None  # measured, what remains

    def __post_init__(self) -> None:
        for column in (*_COLUMNS, "device_s", "server_s"):
            values = getattr(self, column)
            if values is None and column in ("device_s", "server_s"):
                continue
            values = np.asarray(values, float)
            if values.shape != (len(self.labels),):
                raise ValueError(
                    f"profile {self.name!r}: {column}: got shape {values.shape}; allowed is one value for each "
                    f"of the {len(self.labels)} labels"
                )
            if not (np.isfinite(values) & (values >= 0)).all():
                raise ValueError(
                    f"profile {self.name!r}: {column}: got {values}; allowed are finite numbers of at least 0"
                )
            object.__setattr__(self, column, values)
        if len(self.labels) < 2:
            raise ValueError(f"profile {self.name!r}: got {len(self.labels)} rows; at least two are needed")

    def __len__(self) -> int:
        """Number of cuts."""
        return len(self.labels)

    def stages(
        self, device: Device, server: Device, wire_bits: int = 8, input_bits: float | None = None
    ) -> Stages:
        """Demands of every cut between a device and a server.

        Args:
          device: runs the rows up to the cut.
          server: runs the rest.
          wire_bits: bits per floating-point number that crosses.
          input_bits: bits that row 0 sends, if other than the profile's own.
        """
        if self.server_s is None:
            modelled = server.latency_s(self)
            server_work_s = modelled[-1] - modelled
        else:
            server_work_s = self.server_s
        return Stages(
            device_work_s=device.latency_s(self) if self.device_s is None else self.device_s,
            uplink_bits=self.uplink_bits(wire_bits, input_bits),
            server_work_s=server_work_s,
        )

    def uplink_bits(self, wire_bits: int = 8, input_bits: float | None = None) -> np.ndarray:
        """Bits that cross at every cut, with the arguments of `stages`: float64[K]."""
        bits = self.elements * wire_bits + self.integer_bits
        first = self.input_bits if input_bits is None else input_bits
        if first is not None:
            bits[0] = first
        return bits

    def plot(
        self,
        device: Device,
        server: Device,
        rate_bps: float,
        path: str | Path | None = None,
        wire_bits: int = 8,
        input_bits: float | None = None,
    ) -> Figure:
        """The picture by which an engineer decides: seconds and bits of every cut, with the fastest marked.

        Args:
          device: as for `stages`.
          server: as for `stages`.
          rate_bps: of the uplink, bits per second.
          path: of an image file to write, if any.
          wire_bits: as for `stages`.
          input_bits: as for `stages`.
        """
        from jaxmec.profiles._plot import draw

        figure = draw(self, device, server, rate_bps, wire_bits, input_bits)
        if path is not None:
            figure.savefig(path)
        return figure

    def pruned(self, wire_bits: int = 8) -> PartitionProfile:
        """Without the cuts that send no less than an earlier one; the first and the last row always stay.

        A later cut loads the device more, so it pays only where it sends less, or where the server's time is
        worth more than the device's.
        """
        bits = self.uplink_bits(wire_bits)
        smallest = np.minimum.accumulate(bits)
        keep = np.concatenate([[True], bits[1:] < smallest[:-1]])
        keep[-1] = True
        return self.rows(np.flatnonzero(keep))

    def rows(self, which: np.ndarray) -> PartitionProfile:
        """A profile of some of the rows, in the given order."""
        columns: dict[str, Any] = {
            column: None if getattr(self, column) is None else getattr(self, column)[which]
            for column in (*_COLUMNS, "device_s", "server_s")
        }
        return dataclasses.replace(self, labels=tuple(self.labels[i] for i in which), **columns)

    def save(self, path: str | Path) -> None:
        """Write as JSON."""
        data: dict[str, Any] = {"format": FORMAT_VERSION}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = [int(v) if v == int(v) else v for v in value.tolist()]
            if value is not None:
                data[field.name] = value
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in data.items())
        Path(path).write_text(f"{{\n{lines}\n}}\n")

    @classmethod
    def read(cls, path: str | Path) -> PartitionProfile:
        """Read what `save` wrote.

        Raises:
          ValueError: if the file holds no profile of this format; OSError if it cannot be read.
        """
        try:
            data = json.loads(Path(path).read_text())
            version = data.pop("format")
        except (json.JSONDecodeError, AttributeError, KeyError) as error:
            raise ValueError(f"{path}: no partition profile in JSON: {error!r}") from None
        if version != FORMAT_VERSION:
            raise ValueError(f"{path}: format: got {version!r}; allowed is {FORMAT_VERSION}")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(data) - known:
            raise ValueError(f"{path}: unknown field {unknown.pop()!r}; allowed are {', '.join(sorted(known))}")
        try:
            return cls(**{**data, "labels": tuple(data["labels"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: field missing: {error}") from None

    def __str__(self) -> str:
        """The table as text."""
        width = max(len(label) for label in self.labels)
        unit, scale = next((one for one in _UNITS if self.macs[-1] >= one[1] / 10), _UNITS[-1])
        lines = [
            f"{self.name}: {len(self)} cuts, {self.macs[-1] / scale:.3f} {unit}",
            f"{'cut':>3}  {'after':<{width}}  {unit:>8}  {'heavy':>5}  {'MB moved':>9}  {'elements':>9}  "
            f"{'other bits':>10}",
        ]
        measured = {"device ms": self.device_s, "server ms": self.server_s}
        lines[-1] += "".join(f"  {name:>9}" for name, seconds in measured.items() if seconds is not None)
        for i, label in enumerate(self.labels):
            lines.append(
                f"{i:>3}  {label:<{width}}  {self.macs[i] / scale:>8.3f}  {self.heavy_ops[i]:>5.0f}  "
                f"{self.bytes_moved[i] / 1e6:>9.1f}  {self.elements[i]:>9.0f}  {self.integer_bits[i]:>10.0f}"
                + "".join(f"  {1e3 * seconds[i]:>9.3f}" for seconds in measured.values() if seconds is not None)
            )
        return "\n".join(lines)

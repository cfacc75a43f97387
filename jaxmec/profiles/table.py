"""`PartitionProfile`: what a network costs at each cut; `Stages`: what it demands of a device and a server."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmec.config import ConfigError, build, number, quoted, read_json
from jaxmec.profiles._wire import Crossing, check_wire_bits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT_VERSION = 2
LARGEST_NUMBER = 1e18  # in a file: of operations, bytes, bits or seconds
_UNITS = (("GMAC", 1e9), ("MMAC", 1e6), ("kMAC", 1e3))
_MACS = ("winograd_macs", "conv_macs", "matmul_macs", "depthwise_macs")
_WORK = (*_MACS, "other_ops", "heavy_ops", "kernels", "bytes_moved")
_MEMORY = ("device_peak_bytes", "server_peak_bytes", "device_weight_bytes", "server_weight_bytes")
_MEASURED = ("device_s", "server_s")
_OPTIONAL = (*_MEMORY, *_MEASURED)


@dataclasses.dataclass(frozen=True)
class Stages:
    """Demands of every cut of one network between one device and one server; float64[K] each."""

    device_work_s: np.ndarray  # seconds of the device at full speed
    uplink_bits: np.ndarray
    server_work_s: np.ndarray  # seconds of the server at full capacity
    downlink_bits: np.ndarray  # that return

    def delay_s(self, rate_bps: float, downlink_bps: float = math.inf, round_trip_s: float = 0.0) -> np.ndarray:
        """Seconds that one request takes at every cut, alone and with all speed: float64[K].

        Args:
          rate_bps: of the uplink, bits per second.
          downlink_bps: of the downlink.
          round_trip_s: propagation and protocol, wherever the server takes part.
        """
        stages_s = self.device_work_s + self.uplink_bits / rate_bps + self.server_work_s
        return stages_s + self.return_s(downlink_bps, round_trip_s)

    def return_s(self, downlink_bps: float = math.inf, round_trip_s: float = 0.0) -> np.ndarray:
        """Seconds of the way back and the round trip at every cut: float64[K]. Arguments as for `delay_s`."""
        travels = (self.uplink_bits > 0) | (self.downlink_bits > 0) | (self.server_work_s > 0)
        return self.downlink_bits / downlink_bps + round_trip_s * travels


@dataclasses.dataclass(frozen=True, eq=False)
class PartitionProfile:
    """A network's cut table. Row 0 sends the inputs, the last row runs everything on the device.

    The columns are float64[K]; those of work are cumulative over what runs on the device. A measured profile
    also has seconds, which then replace the latency models of `jaxmec.devices.stage_seconds`.
    """

    name: str
    labels: tuple[str, ...]  # place in the model of the last heavy operation on the device
    winograd_macs: np.ndarray  # multiply-accumulates of 3 x 3 convolutions of stride 1
    conv_macs: np.ndarray  # of other convolutions wider than one position
    matmul_macs: np.ndarray  # of matrix products and convolutions of one position
    depthwise_macs: np.ndarray  # of convolutions whose output channels read one input channel each
    other_ops: np.ndarray
    heavy_ops: np.ndarray  # convolutions and matrix products
    kernels: np.ndarray  # passes over memory: all operations but those fused into a neighbour
    bytes_moved: np.ndarray  # that kernels read and write
    crossing: tuple[tuple[Crossing, ...], ...]  # arrays that are sent
    device_peak_bytes: np.ndarray | None = None  # most activations that the head holds at once
    server_peak_bytes: np.ndarray | None = None
    device_weight_bytes: np.ndarray | None = None  # parameters that the head reads
    server_weight_bytes: np.ndarray | None = None
    batch: int | None = None  # requests that one run serves, if known
    input_bits: float | None = None  # of row 0, e.g. of a camera image; None: like any activation
    downlink_bits: float = 0.0  # that return wherever the server runs the last layer
    more_cuts: tuple[tuple[int, int], ...] = ()  # (max_tensors, further rows) of the next limits that open any
    source: str = ""
    device_s: np.ndarray | None = None  # measured, cumulative
    server_s: np.ndarray | None = None  # measured, what remains

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise ValueError(f"profile {self.name!r}: got {len(self.labels)} rows; at least two are needed")
        for column in (*_WORK, *_OPTIONAL):
            if column in _OPTIONAL and getattr(self, column) is None:
                continue
            values = self._per_row(column, np.asarray(getattr(self, column), float))
            if not (np.isfinite(values) & (values >= 0)).all():
                raise ValueError(
                    f"profile {self.name!r}: {column}: got {values}; allowed are finite numbers of at least 0"
                )
            object.__setattr__(self, column, values)
        if len(self.crossing) != len(self):
            raise ValueError(
                f"profile {self.name!r}: crossing: got {len(self.crossing)} rows; allowed are {len(self)}"
            )
        for field in ("input_bits", "downlink_bits"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(
                    f"profile {self.name!r}: {field}: got {value!r}; allowed is a finite number of at least 0"
                )

    def _per_row(self, column: str, values: np.ndarray) -> np.ndarray:
        if values.shape != (len(self),):
            raise ValueError(
                f"profile {self.name!r}: {column}: got shape {values.shape}; allowed is one value for each "
                f"of the {len(self)} labels"
            )
        return values

    def __len__(self) -> int:
        """Number of cuts."""
        return len(self.labels)

    @property
    def macs(self) -> np.ndarray:
        """All multiply-accumulates on the device: float64[K]."""
        return sum((getattr(self, name) for name in _MACS), np.zeros(len(self)))

    @property
    def elements(self) -> np.ndarray:
        """Floating-point numbers that cross: float64[K]."""
        return np.array([sum(one.size for one in row if one.is_float) for row in self.crossing], float)

    def uplink_bits(
        self, wire_bits: int | None = 8, input_bits: float | None = None, per_channel: bool = False
    ) -> np.ndarray:
        """Bits that cross at every cut: those of the arrays that a `split` with these options sends.

        Args:
          wire_bits: 8 or 16 per float that has more, and a scale of 32 bits per array; 32 per float that has more;
            None for floats as they are. Other numbers cross as they are.
          input_bits: bits that row 0 sends, if other than the profile's own.
          per_channel: a scale per channel.

        Returns:
          float64[K].

        Raises:
          ValueError: for other wire_bits.
        """
        check_wire_bits(wire_bits)
        bits = np.array([sum(one.bits(wire_bits, per_channel) for one in row) for row in self.crossing], float)
        first = self.input_bits if input_bits is None else input_bits
        if first is not None:
            bits[0] = first
        return bits

    def returning_bits(self) -> np.ndarray:
        """Bits that return at every cut, none where everything runs on the device: float64[K]."""
        return np.where(np.arange(len(self)) < len(self) - 1, self.downlink_bits, 0.0)

    def plot(
        self,
        stages: Stages,
        rate_bps: float,
        path: str | Path | None = None,
        title: str = "",
        downlink_bps: float = math.inf,
        round_trip_s: float = 0.0,
    ) -> Figure:
        """The picture by which an engineer decides: seconds and bits of every cut, with the fastest marked.

        Args:
          stages: of this table, see `jaxmec.devices.stage_seconds`.
          rate_bps: of the uplink, bits per second.
          path: of an image file to write, if any.
          title: of the picture; the profile's name if absent.
          downlink_bps: as for `Stages.delay_s`.
          round_trip_s: as for `Stages.delay_s`.
        """
        from jaxmec.profiles._plot import draw

        wire_s = stages.delay_s(rate_bps, downlink_bps, round_trip_s) - stages.device_work_s - stages.server_work_s
        figure = draw(self.labels, stages, wire_s, title or self.name)
        if path is not None:
            figure.savefig(path)
        return figure

    def pruned(
        self, wire_bits: int | None = 8, input_bits: float | None = None, per_channel: bool = False
    ) -> PartitionProfile:
        """Without the cuts that send no less than an earlier one; the first and the last row always stay.

        A later cut loads the device more, so it pays only where it sends less, or where the server's time is
        worth more than the device's. The arguments are those of `uplink_bits`.
        """
        bits = self.uplink_bits(wire_bits, input_bits, per_channel)
        smallest = np.minimum.accumulate(bits)
        keep = np.concatenate([[True], bits[1:] < smallest[:-1]])
        keep[-1] = True
        return self.rows(np.flatnonzero(keep))

    def rows(self, which: np.ndarray) -> PartitionProfile:
        """A profile of some of the rows, in the given order."""
        columns: dict[str, Any] = {
            column: None if getattr(self, column) is None else getattr(self, column)[which]
            for column in (*_WORK, *_OPTIONAL)
        }
        labels = tuple(self.labels[i] for i in which)
        crossing = tuple(self.crossing[i] for i in which)
        return dataclasses.replace(self, labels=labels, crossing=crossing, **columns)

    def save(self, path: str | Path) -> None:
        """Write as JSON."""
        data: dict[str, Any] = {"format": FORMAT_VERSION}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "crossing":
                value = [[str(one) for one in row] for row in value]
            elif isinstance(value, np.ndarray):
                value = [int(v) if v == int(v) else v for v in value.tolist()]
            elif isinstance(value, np.generic):
                value = value.item()
            if value is not None:
                data[field.name] = value
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in data.items())
        Path(path).write_text(f"{{\n{lines}\n}}\n")

    @classmethod
    def read(cls, path: str | Path) -> PartitionProfile:
        """Read what `save` wrote.

        Raises:
          ConfigError: a ValueError that names file, field, value and what is allowed.
        """
        data = read_json(path)
        version = data.pop("format", None)
        if version != FORMAT_VERSION:
            raise ConfigError(
                f"{path}: format: got {quoted(version)}; allowed is {FORMAT_VERSION}: make and save the profile again"
            )
        fields = vars(build(_File, data, path))
        try:
            crossing = tuple(tuple(Crossing.parse(one) for one in row) for row in fields.pop("crossing"))
            profile = cls(crossing=crossing, **fields)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        if profile.device_s is None and not (profile.kernels[-1] and profile.bytes_moved[-1]):
            raise ConfigError(f"{path}: kernels and bytes_moved: got 0 in the last row; a network does some work")
        return profile

    def more_text(self) -> str:
        """What a higher limit of tensors would open; empty if nothing."""
        texts = [f"{number} with {limit}" for limit, number in self.more_cuts]
        return ", ".join(texts).replace(" with ", " more with max_tensors=", 1)

    def __str__(self) -> str:
        """The table as text."""
        width = max(len(label) for label in self.labels)
        unit, scale = next((one for one in _UNITS if self.macs[-1] >= one[1] / 10), _UNITS[-1])
        columns: list[tuple[str, np.ndarray, str]] = [
            (unit, self.macs / scale, "8.3f"),
            ("heavy", self.heavy_ops, "5.0f"),
            ("MB moved", self.bytes_moved / 1e6, "8.1f"),
            ("kbit as is", self.uplink_bits(None) / 1e3, "10.1f"),
            ("kbit at 8", self.uplink_bits() / 1e3, "9.1f"),
        ]
        if self.device_peak_bytes is not None:
            columns.append(("peak MB", self.device_peak_bytes / 1e6, "7.2f"))
        for name, seconds in (("device ms", self.device_s), ("server ms", self.server_s)):
            if seconds is not None:
                columns.append((name, 1e3 * seconds, "9.3f"))
        more = self.more_text()
        lines = [
            f"{self.name}: {len(self)} cuts{f' ({more})' if more else ''}, {self.macs[-1] / scale:.3f} {unit}"
        ]
        lines.append(
            f"{'cut':>3}  {'after':<{width}}"
            + "".join(f"  {name:>{int(form.split('.')[0])}}" for name, _, form in columns)
        )
        for i, label in enumerate(self.labels):
            numbers = "".join(f"  {values[i]:>{form}}" for _, values, form in columns)
            lines.append(f"{i:>3}  {label:<{width}}{numbers}")
        return "\n".join(lines)


def _column(*default: None) -> Any:
    return number(*default, at_least=0, at_most=LARGEST_NUMBER)


@dataclasses.dataclass(frozen=True)
class _File:
    """What a profile's file may say; see `PartitionProfile`."""

    name: str
    labels: tuple[str, ...]
    crossing: tuple[tuple[str, ...], ...]
    winograd_macs: tuple[float, ...] = _column()
    conv_macs: tuple[float, ...] = _column()
    matmul_macs: tuple[float, ...] = _column()
    depthwise_macs: tuple[float, ...] = _column()
    other_ops: tuple[float, ...] = _column()
    heavy_ops: tuple[float, ...] = _column()
    kernels: tuple[float, ...] = _column()
    bytes_moved: tuple[float, ...] = _column()
    device_peak_bytes: tuple[float, ...] | None = _column(None)
    server_peak_bytes: tuple[float, ...] | None = _column(None)
    device_weight_bytes: tuple[float, ...] | None = _column(None)
    server_weight_bytes: tuple[float, ...] | None = _column(None)
    batch: int | None = number(None, at_least=1, at_most=10**9)
    input_bits: float | None = _column(None)
    downlink_bits: float = number(0.0, at_least=0, at_most=LARGEST_NUMBER)
    more_cuts: tuple[tuple[int, int], ...] = number((), at_least=0, at_most=10**9)
    source: str = ""
    device_s: tuple[float, ...] | None = _column(None)
    server_s: tuple[float, ...] | None = _column(None)

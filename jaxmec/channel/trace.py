"""Recorded uplink capacity as a channel: what each user could send if it had the whole band.

Every user starts at its own random place in the recording, which repeats; users and their rings stand still.

A recording tells what the whole band carries, c, and nothing of the power behind it, so a share y of the band carries
y c: the time of an upload follows the law of the server's stage.

Sources: R. Netravali et al., "Mahimahi: Accurate Record-and-Replay for HTTP", USENIX ATC 2015 (packet times); H. Mao,
R. Netravali, M. Alizadeh, "Neural Adaptive Video Streaming with Pensieve", SIGCOMM 2017 (how throughput is replayed).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from jaxmec import recordings
from jaxmec.channel.protocol import Radio
from jaxmec.config import ConfigError, default_float, number
from jaxmec.recordings import Column, number_at_least_zero

PACKET_BITS = 1500 * 8  # of one of Mahimahi's opportunities to send
MAX_EFFICIENCY = 30.0  # bit/s/Hz; more is no radio link: a unit is wrong
RATE_UNITS = {"bit/s": 1.0, "kbit/s": 1e3, "Mbit/s": 1e6}


class CapacityTrace(struct.PyTreeNode):
    """The channel; its state is the position int32[N] of every user in the recording."""

    recorded_bps: Array  # [T] capacity of each slot

    def init(self, key: Array, distance_m: Array) -> Array:
        """A place of its own for every user; see `Channel`."""
        return jax.random.randint(key, (distance_m.shape[0],), 0, self.recorded_bps.shape[-1], jnp.int32)

    def step(self, key: Array, state: Array) -> Array:
        """One slot on."""
        return jnp.mod(state + 1, self.recorded_bps.shape[-1])

    def capacity_bps(self, state: Array) -> Array:
        """Recorded capacity [N] of the whole band, bit/s."""
        return self.recorded_bps[state]


@dataclasses.dataclass(frozen=True)
class TraceRadio(Radio):
    """Where the recording comes from."""

    trace_file: str | None = None  # relative to the scenario's file
    trace_format: Literal["throughput", "mahimahi", "csv"] = "throughput"  # of the file
    trace_scale: float = number(1.0, at_least=1e-6, at_most=1e6)  # recorded capacity is multiplied by it
    floor_bps: float = number(50e3, at_least=1, at_most=1e12)
    """Least capacity of a slot: an outage would last for ever."""
    time_column: str | int = 0  # of a CSV file, as for the three fields below
    rate_column: str | int = 1  # with the capacities
    time_unit: Literal["s", "ms", "us"] = "s"  # of the times
    rate_unit: Literal["bit/s", "kbit/s", "Mbit/s"] = "Mbit/s"  # of the capacities

    def __post_init__(self) -> None:
        if self.trace_file is None:
            raise ConfigError("radio: trace_file: got None with process 'trace'; allowed is a file")

    def channel(
        self, distance_m: np.ndarray, tx_power_w: np.ndarray, slot_s: float, folder: Path
    ) -> CapacityTrace:
        """See `Radio`."""
        assert self.trace_file is not None
        try:
            recorded_bps = self._load(folder / self.trace_file, slot_s)
        except (OSError, ValueError) as error:
            raise ConfigError(f"radio.trace_file: {error}") from None
        capacity_bps = np.maximum(self.trace_scale * recorded_bps, self.floor_bps)
        efficiency = capacity_bps.max() / self.bandwidth_hz
        if efficiency > MAX_EFFICIENCY:
            raise ConfigError(
                f"radio.bandwidth_hz: got {self.bandwidth_hz:g}, {efficiency:.3g} bit/s/Hz at the recording's peak; "
                f"allowed are at most {MAX_EFFICIENCY:g}"
            )
        return CapacityTrace(default_float(capacity_bps))

    def _load(self, path: Path, slot_s: float) -> np.ndarray:
        """Capacity of each slot [T], bit/s."""
        loaders: dict[str, Callable[[], np.ndarray]] = {
            "throughput": lambda: load_throughput(path, slot_s),
            "mahimahi": lambda: load_packet_times(path, slot_s),
            "csv": lambda: load_rates(
                path, slot_s, self.time_column, self.rate_column, self.time_unit, self.rate_unit
            ),
        }
        return loaders[self.trace_format]()


def load_throughput(path: str | Path, slot_s: float) -> np.ndarray:
    """Capacity per slot of a file of `time_s throughput_Mbps` lines, separated by white space.

    A line's throughput is that of the time since the line before it, as Pensieve's simulator replays such files; the
    first line tells where the recording begins.

    Args:
      path: the file, times in order.
      slot_s: length of a slot, s.

    Returns:
      float64[T] bit/s, the mean over each whole slot of the recording.

    Raises:
      OSError: if the file cannot be read.
      ValueError: naming file and line, if a number cannot be read, is negative or out of order, or the recording is
        shorter than a slot, longer than ten million, or carries nothing.
    """
    columns = [Column(0, number_at_least_zero, "seconds"), Column(1, number_at_least_zero, "a rate in Mbit/s")]
    return _mean_rates(path, recordings.read_columns(path, columns, delimiter=None), slot_s, RATE_UNITS["Mbit/s"])


def load_rates(
    path: str | Path,
    slot_s: float,
    time_column: str | int = 0,
    rate_column: str | int = 1,
    time_unit: str = "s",
    rate_unit: str = "Mbit/s",
) -> np.ndarray:
    """Capacity per slot of a CSV file of times and rates, read as `load_throughput` does.

    Args:
      path: the file; a header is needed only where columns are named.
      slot_s: length of a slot, s.
      time_column: by name or position; numbers in `time_unit` (s, ms, us) or ISO dates with time.
      rate_column: by name or position; numbers in `rate_unit` (bit/s, kbit/s, Mbit/s).
      time_unit: see above.
      rate_unit: see above.

    Returns:
      float64[T] bit/s, the mean over each whole slot of the recording.

    Raises:
      OSError, ValueError: as `load_throughput`.
    """
    columns = [
        Column(time_column, recordings.seconds(time_unit), f"times in {time_unit} or ISO times"),
        Column(rate_column, number_at_least_zero, f"a rate in {rate_unit}"),
    ]
    return _mean_rates(path, recordings.read_columns(path, columns), slot_s, RATE_UNITS[rate_unit])


def load_packet_times(path: str | Path, slot_s: float) -> np.ndarray:
    """Capacity per slot of a Mahimahi file: each line the millisecond of an opportunity to send 1,500 bytes.

    The file repeats at its last time, where the time zero of the next round lies.

    Args:
      path: the file, times in order.
      slot_s: length of a slot, s.

    Returns:
      float64[T] bit/s, the mean over each whole slot of a round.

    Raises:
      OSError, ValueError: as `load_throughput`.
    """
    column = Column(0, _milliseconds, "a whole number of milliseconds")
    values, lines = recordings.read_columns(path, [column], delimiter=None)
    if not len(lines):
        raise ValueError(f"{path}: empty")
    times_s = values[:, 0] * 1e-3
    recordings.check_order(path, times_s, lines)
    recordings.check_length(path, np.append(0.0, times_s), np.append(0, lines), slot_s)
    num_slots = _whole_slots(path, times_s[-1], slot_s)
    slot = (np.mod(values[:, 0], values[-1, 0]) * 1e-3 / slot_s).astype(int)
    return np.bincount(slot, minlength=num_slots)[:num_slots] * PACKET_BITS / slot_s


def _mean_rates(path: str | Path, columns: recordings.Columns, slot_s: float, unit_bps: float) -> np.ndarray:
    """Mean over whole slots [T], bit/s, of rates that hold since the line before."""
    (times_s, rates), lines = columns.values.T, columns.lines
    if len(lines) < 2:
        raise ValueError(f"{path}: {len(lines)} lines; a recording needs at least two")
    recordings.check_order(path, times_s, lines)
    recordings.check_length(path, times_s, lines, slot_s)
    times_s = times_s - times_s[0]
    sent_bits = np.append(0.0, np.cumsum(np.diff(times_s) * rates[1:] * unit_bps))
    if sent_bits[-1] == 0:
        raise ValueError(f"{path}: every rate is zero; a recording must carry something")
    edges_s = np.arange(_whole_slots(path, times_s[-1], slot_s) + 1) * slot_s
    return np.diff(np.interp(edges_s, times_s, sent_bits)) / slot_s


def _whole_slots(path: str | Path, duration_s: float, slot_s: float) -> int:
    # A recording of 140 s has 1,400 slots of 0.1 s, whatever the rounding.
    num_slots = int(duration_s / slot_s * (1 + 1e-9))
    if not num_slots:
        raise ValueError(f"{path}: lasts {duration_s:g} s, less than a slot of {slot_s:g} s")
    return num_slots


def _milliseconds(text: str) -> float:
    value = int(text)
    if value < 0:
        raise ValueError
    return float(value)

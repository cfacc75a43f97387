"""A recorded sequence of rates, and reading one from a file of request times.

Each user's rate is the sequence, normalised to mean one, times a level drawn once per episode over the user's
range; every user starts at its own random position, and the sequence repeats.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from jaxmec import recordings
from jaxmec.config import ConfigError, default_float
from jaxmec.workload.protocol import ArrivalSettings

MOSTLY_EMPTY = 0.99  # share of slots without a request that is hardly meant
TIME_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}


class TraceState(struct.PyTreeNode):
    """Where each user stands."""

    level_hz: Array  # [N] mean rate
    position: Array  # int32[N] in the sequence


class Trace(struct.PyTreeNode):
    """The process."""

    low_hz: Array  # [N]
    high_hz: Array  # [N]
    relative_rate: Array  # [T] of mean one

    def init(self, key: Array) -> TraceState:
        """A level and a position for every user."""
        level, place = jax.random.uniform(key, (2, *self.low_hz.shape), self.low_hz.dtype)
        length = self.relative_rate.shape[-1]
        return TraceState(
            level_hz=self.low_hz + (self.high_hz - self.low_hz) * level,
            # A draw just below one may round up to the length.
            position=jnp.minimum((place * length).astype(jnp.int32), length - 1),
        )

    def step(self, key: Array, state: TraceState) -> TraceState:
        """One slot on."""
        return state.replace(position=jnp.mod(state.position + 1, self.relative_rate.shape[-1]))

    def rate_hz(self, state: TraceState) -> Array:
        """Rates [N], requests per second."""
        return state.level_hz * self.relative_rate[state.position]

    def peak_hz(self) -> Array:
        """The highest level in the busiest slot [N]."""
        return self.high_hz * jnp.max(self.relative_rate)


@dataclasses.dataclass(frozen=True)
class TraceSettings(ArrivalSettings):
    """Where the sequence comes from."""

    trace_file: str | None = None  # CSV of request times, relative to the scenario's file
    trace_column: str | int = 0  # with the times
    time_unit: Literal["s", "ms", "us"] = "s"  # of times that are numbers

    def __post_init__(self) -> None:
        if self.trace_file is None:
            raise ConfigError("arrivals: trace_file: got None with process 'trace'; allowed is a CSV file")

    def process(self, low_hz: np.ndarray, high_hz: np.ndarray, slot_s: float, folder: Path) -> Trace:
        """See `ArrivalSettings`."""
        assert self.trace_file is not None
        try:
            relative_rate = load_trace(folder / self.trace_file, slot_s, self.trace_column, self.time_unit)
        except (OSError, ValueError) as error:
            raise ConfigError(f"arrivals.trace_file: {error}") from None
        return Trace(default_float(low_hz), default_float(high_hz), default_float(relative_rate))


def load_request_times(path: str | Path, column: str | int = 0, time_unit: str = "s") -> np.ndarray:
    """Read the times of recorded requests.

    Args:
      path: CSV file with one request per line, in order; a header is needed only where the column is named.
      column: the column that holds the times, by name or by position.
      time_unit: of times that are numbers: s, ms or us. ISO dates with time count as UTC where they name no zone.

    Returns:
      float64[R] seconds since the first request.

    Raises:
      OSError: if the file cannot be read.
      ValueError: naming file and line, if the column is missing, a time cannot be read, is negative or out of order,
        or there are fewer than two requests.
    """
    return _read_times(path, column, time_unit)[0]


def load_trace(path: str | Path, slot_s: float, column: str | int = 0, time_unit: str = "s") -> np.ndarray:
    """Turn a file of request times into relative rates per slot, mean one.

    Args:
      path: see `load_request_times`, as for `column` and `time_unit`.
      slot_s: length of a slot, s.
      column: the column that holds the times.
      time_unit: of times that are numbers.

    Returns:
      float64[T]: requests in each slot over the mean number per slot. Warns if 99 % of them are zero.

    Raises:
      OSError, ValueError: as `load_request_times`, and if the file spans more than ten million slots.
    """
    times, lines = _read_times(path, column, time_unit)
    recordings.check_length(path, times, lines, slot_s)
    counts = np.bincount((times / slot_s).astype(int))
    empty = np.mean(counts == 0)
    if empty >= MOSTLY_EMPTY:
        warnings.warn(
            f"{path}: {100 * empty:.3g} % of {len(counts):,} slots of {slot_s:g} s have no request; "
            f"is time_unit {time_unit!r} right?",
            stacklevel=2,
        )
    return counts / counts.mean()


def _read_times(path: str | Path, column: str | int, time_unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since the first request [R] and the line of each [R]."""
    holds = f"{TIME_UNITS[time_unit]} or ISO times"
    values, lines = recordings.read_columns(
        path, [recordings.Column(column, recordings.seconds(time_unit), holds)]
    )
    if len(lines) < 2:
        raise ValueError(f"{path}: {len(lines)} requests; a trace needs at least two")
    recordings.check_order(path, values[:, 0], lines)
    return values[:, 0] - values[0, 0], lines

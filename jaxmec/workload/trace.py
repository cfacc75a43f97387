"""A recorded sequence of rates, and reading one from a file of request times.

Each user's rate is the sequence, normalised to mean one, times a level drawn once per episode over the user's
range; every user starts at its own random position, and the sequence repeats.
"""

from __future__ import annotations

import csv
import dataclasses
from datetime import datetime
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from jaxmec.config import ConfigError, default_float
from jaxmec.workload.protocol import ArrivalSettings


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
    trace_column: str | int = 0

    def __post_init__(self) -> None:
        if self.trace_file is None:
            raise ConfigError("arrivals: trace_file: got None with process 'trace'; allowed is a CSV file")

    def process(self, low_hz: np.ndarray, high_hz: np.ndarray, slot_s: float, folder: Path) -> Trace:
        """See `ArrivalSettings`."""
        assert self.trace_file is not None
        try:
            relative_rate = load_trace(folder / self.trace_file, slot_s, self.trace_column)
        except (OSError, ValueError) as error:
            raise ConfigError(f"arrivals.trace_file: {error}") from None
        return Trace(default_float(low_hz), default_float(high_hz), default_float(relative_rate))


def load_trace(path: str | Path, slot_s: float, column: str | int = 0) -> np.ndarray:
    """Turn a file of request times into relative rates per slot, mean one.

    Args:
      path: CSV file with one request per line and a header; times in seconds, or ISO dates with time.
      slot_s: length of a slot, s.
      column: the column that holds the times, by name or by position.

    Returns:
      float64[T]: requests in each slot over the mean number per slot.

    Raises:
      ValueError: if the column is missing, a time cannot be read, or there are fewer than two requests.
    """
    times = request_times(path, column)
    counts = np.bincount(((times - times.min()) / slot_s).astype(int))
    return counts / counts.mean()


def request_times(path: str | Path, column: str | int = 0) -> np.ndarray:
    """Read a file of request times; see `load_trace`.

    Returns:
      float64[T] seconds, as they stand in the file.
    """
    with open(path, newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader)]
        if isinstance(column, str) and column not in header:
            raise ValueError(f"{path}: no column {column!r}; columns are {', '.join(header)}")
        index = header.index(column) if isinstance(column, str) else column
        try:
            times = np.array([_seconds(row[index]) for row in reader if row])
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}: column {column!r} must hold seconds or ISO times: {error}") from None
    if len(times) < 2:
        raise ValueError(f"{path}: {len(times)} requests; a trace needs at least two")
    return times


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        date, _, fraction = text.strip().partition(".")
        return datetime.fromisoformat(date).timestamp() + float("0." + (fraction or "0"))

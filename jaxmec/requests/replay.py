"""Recorded requests: the time stamps of a trace, each user from a place of its own, the trace repeating.

At a rate that equals the trace's mean rate the intervals are the recorded ones to the second; at any other they are
stretched alike.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from jaxmec.config import ConfigError, default_float
from jaxmec.requests.protocol import RequestSettings
from jaxmec.workload import load_request_times


class ReplayState(struct.PyTreeNode):
    """Where each user stands."""

    wait: Array  # [N] until its next request
    position: Array  # int32[N] of the interval after that request


class Replay(struct.PyTreeNode):
    """The process."""

    recorded: Array  # [T] intervals between requests, of mean one

    def init(self, key: Array, num_users: int) -> ReplayState:
        """A uniform time of the trace."""
        ends = jnp.cumsum(self.recorded)
        time = jax.random.uniform(key, (num_users,), ends.dtype) * ends[-1]
        index = jnp.minimum(jnp.searchsorted(ends, time, side="right"), len(ends) - 1).astype(jnp.int32)
        return ReplayState(wait=ends[index] - time, position=(index + 1) % len(ends))

    def draw(self, key: Array, state: ReplayState, max_requests: int) -> Array:
        """The intervals themselves, [R + 1, N]."""
        steps = jnp.arange(max_requests, dtype=jnp.int32)[:, None]
        following = self.recorded[(state.position[None] + steps) % self.recorded.shape[-1]]
        return jnp.concatenate([state.wait[None], following])

    @staticmethod
    def intervals(drawn: Array) -> Array:
        """As they are."""
        return drawn

    def step(self, state: ReplayState, drawn: Array, count: Array, wait: Array) -> ReplayState:
        """Further on in the trace."""
        return ReplayState(wait, (state.position + count) % self.recorded.shape[-1])

    def most(self, expected: float, probability: float) -> int:
        """The most that any stretch of the trace holds."""
        intervals = np.asarray(self.recorded, float)
        times = np.concatenate([[0.0], np.cumsum(intervals)[:-1]])
        twice = np.concatenate([times, times + intervals.sum()])
        turns, rest = divmod(expected, intervals.sum())
        ends = np.searchsorted(twice, times + rest, side="right")
        return int(turns) * len(intervals) + int(np.max(ends - np.arange(len(times))))


@dataclasses.dataclass(frozen=True)
class ReplaySettings(RequestSettings):
    """Where the time stamps come from."""

    trace_file: str | None = None  # CSV of request times, relative to the scenario's file
    trace_column: str | int = 0  # with the times
    time_unit: Literal["s", "ms", "us"] = "s"  # of times that are numbers

    def __post_init__(self) -> None:
        if self.trace_file is None:
            raise ConfigError("requests: trace_file: got None with process 'trace'; allowed is a CSV file")

    def process(self, folder: Path) -> Replay:
        """See `RequestSettings`."""
        assert self.trace_file is not None
        try:
            times = load_request_times(folder / self.trace_file, self.trace_column, self.time_unit)
        except (OSError, ValueError) as error:
            raise ConfigError(f"requests.trace_file: {error}") from None
        intervals = np.diff(times)
        if not intervals.sum() > 0:
            raise ConfigError(f"requests.trace_file: {folder / self.trace_file}: all requests at one time")
        return Replay(default_float(intervals / intervals.mean()))

"""Clocked frames: one request per tick of a camera's clock, late by a random jitter."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.config import default_float, number
from jaxmec.requests.protocol import Arrived, RequestSettings, at_index, cut_at


class FramesState(struct.PyTreeNode):
    """The next frame of every user."""

    wait: Array  # [N] until it comes
    lag: Array  # [N] by how much it is later than its tick


class Frames(struct.PyTreeNode):
    """The process: ticks are one apart, each user's clock has its own phase, and frames keep their order."""

    jitter: Array  # [] the largest lag, in periods, at most 1; lags are uniform from 0

    def init(self, key: Array, num_users: int) -> FramesState:
        """A clock's phase is uniform. The first frame may be one whose tick was before the slot."""
        phase, lag, lag_before = jax.random.uniform(key, (3, num_users), self.jitter.dtype) * jnp.stack(
            [jnp.ones_like(self.jitter), self.jitter, self.jitter]
        )[:, None]
        late = lag_before > 1.0 - phase  # of the tick before, which was at phase - 1
        return FramesState(
            wait=jnp.where(late, phase - 1.0 + lag_before, phase + lag), lag=jnp.where(late, lag_before, lag)
        )

    def draw(
        self, key: Array, state: FramesState, expected: Array, max_requests: int
    ) -> tuple[FramesState, Arrived]:
        """See `RequestArrivals`."""
        lags = self.jitter * jax.random.uniform(key, (max_requests, *expected.shape), expected.dtype)
        lags = jnp.concatenate([state.lag[None], lags])
        ticks = state.wait - state.lag + jnp.arange(max_requests + 1, dtype=expected.dtype)[:, None]
        arrived, index, wait = cut_at(ticks + lags, expected)
        # The clock ticks on while there is no room.
        return FramesState(wait=wait + arrived.overflow, lag=at_index(lags, index)), arrived

    def most(self, expected: float, probability: float) -> int:
        """One more than fits at an even pace, and one more for the jitter."""
        return math.ceil(expected) + (1 if float(self.jitter) > 0 else 0)


@dataclasses.dataclass(frozen=True)
class FramesSettings(RequestSettings):
    """How exact the clock is."""

    jitter: float = number(0.1, at_least=0, at_most=1)  # the largest delay of a frame, in periods

    def process(self, folder: Path) -> Frames:
        """See `RequestSettings`."""
        return Frames(default_float(self.jitter))

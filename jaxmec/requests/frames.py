"""Clocked frames: one request per tick of a camera's clock, late by a random jitter."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec import sampling
from jaxmec.config import default_float, number
from jaxmec.requests.protocol import RequestSettings


class NextFrame(struct.PyTreeNode):
    """The next frame of every user."""

    wait: Array  # [N] until it comes
    lag: Array  # [N] by how much it is later than its tick


class Frames(struct.PyTreeNode):
    """The process: ticks are one apart, each user's clock has its own phase, and frames keep their order."""

    jitter: Array  # [] the largest lag, in periods, at most 1; lags are uniform from 0

    def init(self, key: Array, num_users: int) -> NextFrame:
        """A phase [N] is uniform. The first frame may be one whose tick was before the slot."""
        phase, lag, lag_before = jax.random.uniform(key, (3, num_users), self.jitter.dtype)
        lag, lag_before = self.jitter * lag, self.jitter * lag_before
        before = phase - 1.0 + lag_before  # when the frame of the tick before comes
        is_due = before > 0
        return NextFrame(jnp.where(is_due, before, phase + lag), jnp.where(is_due, lag_before, lag))

    def draw(self, key: Array, state: NextFrame, max_requests: int) -> tuple[Array, Array]:
        """Wait [N] for the first frame, and lags [R + 1, N] of all frames."""
        lags = self.jitter * sampling.uniforms(key, (max_requests, *state.wait.shape))
        return state.wait, jnp.concatenate([state.lag[None], lags])

    @staticmethod
    def intervals(drawn: tuple[Array, Array]) -> Array:
        """One, and the difference of two lags."""
        wait, lags = drawn
        return jnp.concatenate([wait[None], 1.0 + lags[1:] - lags[:-1]])

    def step(self, state: NextFrame, drawn: tuple[Array, Array], count: Array, wait: Array) -> NextFrame:
        """The next frame is the first after the slot."""
        return NextFrame(wait, jnp.take_along_axis(drawn[1], count[None], axis=0)[0])

    def most(self, expected: float, probability: float) -> int:
        """What fits at an even pace, and one more if there is jitter."""
        return math.ceil(expected) + (1 if float(self.jitter) > 0 else 0)


@dataclasses.dataclass(frozen=True)
class FramesSettings(RequestSettings):
    """How exact the clock is."""

    jitter: float = number(0.1, at_least=0, at_most=1)  # the largest delay of a frame, in periods

    def process(self, folder: Path) -> Frames:
        """See `RequestSettings`."""
        return Frames(default_float(self.jitter))

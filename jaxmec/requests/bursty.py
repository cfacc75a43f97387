"""Bursts: a Markov-modulated Poisson process that is on or off.

A user's bursts and pauses last exponential times; within a burst requests come at `peak` times the mean rate, in a
pause none come. The intervals between requests are then independent draws from a mixture of two exponentials, so that
the process is simulated exactly by one draw per request.

Source: A. Kuczura, "The Interrupted Poisson Process as an Overflow Process", Bell System Technical Journal 52(3)
(1973).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.config import default_float, number
from jaxmec.requests.protocol import Arrived, RequestSettings, cut_at, poisson_most


class Bursty(struct.PyTreeNode):
    """The process; its state is the time until each user's next request, [N]."""

    peak: Array  # [] rate within a burst over the mean rate, above 1
    burst_requests: Array  # [] requests that a burst brings on average

    def phases(self) -> tuple[Array, Array, Array]:
        """The mixture: probability [] of the faster exponential, and the rates [] of both.

        The rates are the roots of s² - (a + b + c) s + a c for a rate of a within bursts, which end at rate b and
        begin at rate c.
        """
        end = self.peak / self.burst_requests
        begin = end / (self.peak - 1.0)
        total = self.peak + end + begin
        fast = 0.5 * (total + jnp.sqrt(total**2 - 4.0 * self.peak * begin))
        slow = self.peak * begin / fast  # not by the difference, which cancels
        return (self.peak - slow) / (fast - slow), fast, slow

    def squared_variation(self) -> Array:
        """Squared coefficient of variation [] of the intervals: 1 + 2 burst_requests (1 - 1 / peak)²."""
        return 1.0 + 2.0 * self.burst_requests * (1.0 - 1.0 / self.peak) ** 2

    def init(self, key: Array, num_users: int) -> Array:
        """The wait of somebody who comes at any time: a phase is met in proportion to the time that it takes."""
        probability, fast, slow = self.phases()
        return self._mixture(key, (num_users,), probability / fast, fast, slow)

    def draw(self, key: Array, state: Array, expected: Array, max_requests: int) -> tuple[Array, Arrived]:
        """See `RequestArrivals`."""
        intervals = self._mixture(key, (max_requests, *expected.shape), *self.phases())
        time = jnp.cumsum(jnp.concatenate([state[None], intervals]), axis=0)
        arrived, _, wait = cut_at(time, expected)
        return jnp.where(arrived.overflow > 0, intervals[-1], wait), arrived

    def most(self, expected: float, probability: float) -> int:
        """That of a slot in the middle of a burst."""
        return poisson_most(float(self.peak) * expected, probability)

    def _mixture(self, key: Array, shape: tuple[int, ...], probability: Array, fast: Array, slow: Array) -> Array:
        key_phase, key_time = jax.random.split(key)
        is_fast = jax.random.uniform(key_phase, shape, fast.dtype) < probability
        return jax.random.exponential(key_time, shape, fast.dtype) / jnp.where(is_fast, fast, slow)


@dataclasses.dataclass(frozen=True)
class BurstySettings(RequestSettings):
    """How high and how long bursts are."""

    peak: float = number(4.0, above=1)  # rate within a burst over the mean rate
    burst_requests: float = number(8.0, above=0)  # that a burst brings on average

    def process(self, folder: Path) -> Bursty:
        """See `RequestSettings`."""
        return Bursty(default_float(self.peak), default_float(self.burst_requests))

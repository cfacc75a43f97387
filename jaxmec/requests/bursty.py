"""Bursts: a Markov-modulated Poisson process that is on or off.

A user's bursts and pauses last exponential times; within a burst requests come at `peak` times the mean rate, in a
pause none come. The intervals between requests are then independent draws from a mixture of two exponentials, so that
the process is simulated exactly by one interval per request.

Source: A. Kuczura, "The Interrupted Poisson Process as an Overflow Process", Bell System Technical Journal 52(3)
(1973).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec import sampling
from jaxmec.config import default_float, number
from jaxmec.requests.protocol import RequestSettings, poisson_most


class Mixture(NamedTuple):
    """Two exponentials."""

    probability: Array  # [] of the faster one
    fast: Array  # [] its rate
    slow: Array  # [] and that of the other

    def draw(self, which: Array, level: Array) -> Array:
        """Times from two uniform numbers of any shape."""
        return -jnp.log(level) / jnp.where(which < self.probability, self.fast, self.slow)


class Bursty(struct.PyTreeNode):
    """The process; its state is the time until each user's next request, [N]."""

    peak: Array  # [] rate within a burst over the mean rate, above 1
    burst_requests: Array  # [] requests that a burst brings on average

    def mixture(self) -> Mixture:
        """Of the intervals.

        Bursts of rate a end at rate b and begin at rate c; the exponentials' rates are the roots of
        s² - (a + b + c) s + a c.
        """
        end = self.peak / self.burst_requests
        begin = end / (self.peak - 1.0)
        total = self.peak + end + begin
        fast = 0.5 * (total + jnp.sqrt(total**2 - 4.0 * self.peak * begin))
        slow = self.peak * begin / fast  # not by the difference, which cancels
        return Mixture((self.peak - slow) / (fast - slow), fast, slow)

    def squared_variation(self) -> Array:
        """Squared coefficient of variation [] of the intervals: 1 + 2 burst_requests (1 - 1 / peak)²."""
        return 1.0 + 2.0 * self.burst_requests * (1.0 - 1.0 / self.peak) ** 2

    def init(self, key: Array, num_users: int) -> Array:
        """The wait of somebody who comes at any time, and meets an exponential as often as it takes time."""
        intervals = self.mixture()
        met = intervals._replace(probability=intervals.probability / intervals.fast)
        return met.draw(*sampling.uniforms(key, (2, num_users)))

    def draw(self, key: Array, state: Array, max_requests: int) -> tuple[Mixture, Array, Array]:
        """The mixture, the first wait [N], and uniform numbers [2, R, N]."""
        return self.mixture(), state, sampling.uniforms(key, (2, max_requests, *state.shape))

    @staticmethod
    def intervals(drawn: tuple[Mixture, Array, Array]) -> Array:
        """Draws from the mixture."""
        mixture, wait, (which, level) = drawn
        wide = Mixture(*(jnp.expand_dims(leaf, (0, 1)) for leaf in mixture))
        return jnp.concatenate([wait[None], wide.draw(which, level)])

    def step(self, state: Array, drawn: tuple[Mixture, Array, Array], count: Array, wait: Array) -> Array:
        """The wait."""
        return wait

    def most(self, expected: float, probability: float) -> int:
        """That of a slot in the middle of a burst."""
        return poisson_most(float(self.peak) * expected, probability)


@dataclasses.dataclass(frozen=True)
class BurstySettings(RequestSettings):
    """How high and how long bursts are."""

    peak: float = number(4.0, above=1, at_most=1e6)  # rate within a burst over the mean rate
    burst_requests: float = number(8.0, at_least=1e-3, at_most=1e6)  # that a burst brings on average

    def process(self, folder: Path) -> Bursty:
        """See `RequestSettings`."""
        return Bursty(default_float(self.peak), default_float(self.burst_requests))

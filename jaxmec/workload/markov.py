"""Two rates per user, switched at random: a Markov-modulated Poisson process (`fit_markov` fits one to a trace).

Source: W. Fischer and K. Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook", Performance
Evaluation 18 (1993).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from jaxmec.config import default_float, number
from jaxmec.workload.protocol import ArrivalSettings


class Markov(struct.PyTreeNode):
    """The process; its state tells who is at the high rate, 0 or 1."""

    low_hz: Array  # [N]
    high_hz: Array  # [N]
    stay_probability: Array  # [] of staying at a rate for another slot, or [2] at the low and at the high one

    def init(self, key: Array) -> Array:
        """Either rate with its share of the time: [N]."""
        leave_low, leave_high = 1.0 - jnp.broadcast_to(self.stay_probability, (2,))
        moves = leave_low + leave_high > 0
        high_share = jnp.where(moves, leave_low / jnp.where(moves, leave_low + leave_high, 1.0), 0.5)
        level = jax.random.uniform(key, self.low_hz.shape, self.low_hz.dtype)
        return (level > 1.0 - high_share).astype(self.low_hz.dtype)

    def step(self, key: Array, state: Array) -> Array:
        """Leave the rate with probability 1 - `stay_probability`."""
        stay_low, stay_high = jnp.broadcast_to(self.stay_probability, (2,))
        leave = jax.random.uniform(key, state.shape) >= jnp.where(state > 0, stay_high, stay_low)
        return jnp.where(leave, 1.0 - state, state)

    def rate_hz(self, state: Array) -> Array:
        """Rates [N], requests per second."""
        return self.low_hz + (self.high_hz - self.low_hz) * state

    def peak_hz(self) -> Array:
        """The upper ends of the ranges [N]."""
        return self.high_hz


@dataclasses.dataclass(frozen=True)
class MarkovSettings(ArrivalSettings):
    """How long a rate lasts."""

    # Of both rates, or of the low and the high one
    stay_probability: float | tuple[float, float] = number(
        0.9, at_least=0, at_most=1
    )  # of each rate, from slot to slot

    def process(self, low_hz: np.ndarray, high_hz: np.ndarray, slot_s: float, folder: Path) -> Markov:
        """See `ArrivalSettings`."""
        return Markov(default_float(low_hz), default_float(high_hz), default_float(self.stay_probability))

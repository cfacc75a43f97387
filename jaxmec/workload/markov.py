"""Two rates per user, switched at random: a Markov-modulated Poisson process.

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
    stay_probability: Array  # [] of staying at a rate for another slot

    def init(self, key: Array) -> Array:
        """Either rate with probability one half: [N]."""
        return jnp.round(jax.random.uniform(key, self.low_hz.shape, self.low_hz.dtype))

    def step(self, key: Array, state: Array) -> Array:
        """Leave the rate with probability 1 - `stay_probability`."""
        leave = jax.random.uniform(key, state.shape) >= self.stay_probability
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

    stay_probability: float = number(0.9, at_least=0, at_most=1)

    def process(self, low_hz: np.ndarray, high_hz: np.ndarray, slot_s: float, folder: Path) -> Markov:
        """See `ArrivalSettings`."""
        return Markov(default_float(low_hz), default_float(high_hz), default_float(self.stay_probability))

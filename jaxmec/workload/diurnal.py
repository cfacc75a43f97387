"""A sinusoid over the user's range, with a random phase per user."""

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


class Diurnal(struct.PyTreeNode):
    """The process; its state is where in its period each user stands."""

    low_hz: Array  # [N]
    high_hz: Array  # [N]
    period_slots: Array  # []

    def init(self, key: Array) -> Array:
        """Phases [N] in [0, 1); the lowest rate is at zero."""
        return jax.random.uniform(key, self.low_hz.shape, self.low_hz.dtype)

    def step(self, key: Array, state: Array) -> Array:
        """One slot on."""
        return jnp.mod(state + 1.0 / self.period_slots, 1.0)

    def rate_hz(self, state: Array) -> Array:
        """Rates [N], requests per second."""
        return self.low_hz + (self.high_hz - self.low_hz) * 0.5 * (1.0 - jnp.cos(2.0 * jnp.pi * state))

    def peak_hz(self) -> Array:
        """The upper ends of the ranges [N]."""
        return self.high_hz


@dataclasses.dataclass(frozen=True)
class DiurnalSettings(ArrivalSettings):
    """How long a day is."""

    period_slots: float = number(200.0, at_least=1, at_most=1e9)  # of the sinusoid

    def process(self, low_hz: np.ndarray, high_hz: np.ndarray, slot_s: float, folder: Path) -> Diurnal:
        """See `ArrivalSettings`."""
        return Diurnal(default_float(low_hz), default_float(high_hz), default_float(self.period_slots))

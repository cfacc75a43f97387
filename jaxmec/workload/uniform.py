"""A fresh rate in every slot, uniform over the user's range."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
from flax import struct
from jax import Array

from jaxmec.config import default_float
from jaxmec.workload.protocol import ArrivalSettings


class Uniform(struct.PyTreeNode):
    """The process; its state is where in its range each rate lies."""

    low_hz: Array  # [N]
    high_hz: Array  # [N]

    def init(self, key: Array) -> Array:
        """Levels [N] in [0, 1)."""
        return jax.random.uniform(key, self.low_hz.shape, self.low_hz.dtype)

    def step(self, key: Array, state: Array) -> Array:
        """Levels that know nothing of the last."""
        return self.init(key)

    def rate_hz(self, state: Array) -> Array:
        """Rates [N], requests per second."""
        return self.low_hz + (self.high_hz - self.low_hz) * state

    def peak_hz(self) -> Array:
        """The upper ends of the ranges [N]."""
        return self.high_hz


@dataclasses.dataclass(frozen=True)
class UniformSettings(ArrivalSettings):
    """Nothing but the users' ranges."""

    def process(self, low_hz: np.ndarray, high_hz: np.ndarray, slot_s: float, folder: Path) -> Uniform:
        """See `ArrivalSettings`."""
        return Uniform(default_float(low_hz), default_float(high_hz))

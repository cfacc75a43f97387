"""A rate drawn once per episode, uniform over the user's range."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
from flax import struct
from jax import Array

from jaxmec.config import default_float
from jaxmec.workload.protocol import ArrivalSettings


class Constant(struct.PyTreeNode):
    """The process; its state is the rate."""

    low_hz: Array  # [N]
    high_hz: Array  # [N]

    def init(self, key: Array) -> Array:
        """Rates [N], requests per second."""
        level = jax.random.uniform(key, self.low_hz.shape, self.low_hz.dtype)
        return self.low_hz + (self.high_hz - self.low_hz) * level

    def step(self, key: Array, state: Array) -> Array:
        """The same rates."""
        return state

    def rate_hz(self, state: Array) -> Array:
        """The rates [N]."""
        return state

    def peak_hz(self) -> Array:
        """The upper ends of the ranges [N]."""
        return self.high_hz


@dataclasses.dataclass(frozen=True)
class ConstantSettings(ArrivalSettings):
    """Nothing but the users' ranges."""

    def process(self, low_hz: np.ndarray, high_hz: np.ndarray, slot_s: float, folder: Path) -> Constant:
        """See `ArrivalSettings`."""
        return Constant(default_float(low_hz), default_float(high_hz))

"""Independent requests: a Poisson process within the slot."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.requests.protocol import Arrived, RequestSettings, cut_at, poisson_most


class Poisson(struct.PyTreeNode):
    """The process; it has no memory, so its state is empty."""

    def init(self, key: Array, num_users: int) -> tuple:
        """Nothing."""
        return ()

    def draw(self, key: Array, state: tuple, expected: Array, max_requests: int) -> tuple[tuple, Arrived]:
        """See `RequestArrivals`."""
        intervals = jax.random.exponential(key, (max_requests + 1, *expected.shape), expected.dtype)
        return (), cut_at(jnp.cumsum(intervals, axis=0), expected).arrived

    def most(self, expected: float, probability: float) -> int:
        """The quantile of a Poisson variable."""
        return poisson_most(expected, probability)


@dataclasses.dataclass(frozen=True)
class PoissonSettings(RequestSettings):
    """Nothing."""

    def process(self, folder: Path) -> Poisson:
        """See `RequestSettings`."""
        return Poisson()

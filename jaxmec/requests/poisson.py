"""Independent requests: a Poisson process within the slot."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec import sampling
from jaxmec.requests.protocol import RequestSettings, poisson_most


class Poisson(struct.PyTreeNode):
    """The process; its state, the number of users, is without memory."""

    def init(self, key: Array, num_users: int) -> Array:
        """Zeros [N], which never change."""
        return jnp.zeros(num_users)

    def draw(self, key: Array, state: Array, max_requests: int) -> Array:
        """Uniform numbers [R + 1, N]."""
        return sampling.uniforms(key, (max_requests + 1, *state.shape))

    @staticmethod
    def intervals(drawn: Array) -> Array:
        """Exponential ones."""
        return -jnp.log(drawn)

    def step(self, state: Array, drawn: Array, count: Array, wait: Array) -> Array:
        """The same state."""
        return state

    def most(self, expected: float, probability: float) -> int:
        """The quantile of a Poisson variable."""
        return poisson_most(expected, probability)


@dataclasses.dataclass(frozen=True)
class PoissonSettings(RequestSettings):
    """Nothing."""

    def process(self, folder: Path) -> Poisson:
        """See `RequestSettings`."""
        return Poisson()

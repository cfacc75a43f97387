"""What observations and actions look like."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


@dataclasses.dataclass(frozen=True)
class Box:
    """Real arrays of one shape, each entry in [low, high]."""

    low: float
    high: float
    shape: tuple[int, ...]
    dtype: Any = jnp.float32

    def sample(self, key: Array) -> Array:
        """A uniform draw, from [-1, 1] where a side is unbounded."""
        low = self.low if np.isfinite(self.low) else -1.0
        high = self.high if np.isfinite(self.high) else 1.0
        return jax.random.uniform(key, self.shape, self.dtype, low, high)

    def contains(self, x: Array) -> Array:
        """bool[]: whether x is in the space."""
        if jnp.shape(x) != self.shape:
            return jnp.asarray(False)
        return jnp.all((x >= self.low) & (x <= self.high))


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """`num_choices` whole numbers 0..num_values-1."""

    num_choices: int
    num_values: int
    dtype: Any = jnp.int32

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a member."""
        return (self.num_choices,)

    def sample(self, key: Array) -> Array:
        """A uniform draw."""
        return jax.random.randint(key, self.shape, 0, self.num_values, self.dtype)

    def contains(self, x: Array) -> Array:
        """bool[]: whether x is in the space."""
        if jnp.shape(x) != self.shape:
            return jnp.asarray(False)
        return jnp.all((x >= 0) & (x < self.num_values))


@dataclasses.dataclass(frozen=True)
class Discrete:
    """One whole number 0..num_values-1."""

    num_values: int
    dtype: Any = jnp.int32

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a member."""
        return ()

    def sample(self, key: Array) -> Array:
        """A uniform draw."""
        return jax.random.randint(key, (), 0, self.num_values, self.dtype)

    def contains(self, x: Array) -> Array:
        """bool[]: whether x is in the space."""
        if jnp.shape(x) != ():
            return jnp.asarray(False)
        return (x >= 0) & (x < self.num_values)

"""Quantiles of any number of delays in fixed memory: counts in bins whose width is a constant ratio.

Source: C. Masson, J. E. Rim and H. K. Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error
Guarantees", PVLDB 12(12) (2019), with a fixed range.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import Array


@dataclasses.dataclass(frozen=True)
class LogHistogram:
    """Bins from `smallest` to `largest`; sketches are counts int32[size], and the sum of two is that of all values.

    A quantile is within `relative_error` of the order statistic that it stands for, in between the two ends; values
    beyond an end count as that end's.
    """

    relative_error: float = 0.005
    smallest: float = 1e-5
    largest: float = 1e5

    @property
    def ratio(self) -> float:
        """Upper over lower edge of a bin."""
        return (1.0 + self.relative_error) / (1.0 - self.relative_error)

    @property
    def size(self) -> int:
        """Number of bins."""
        return math.ceil(math.log(self.largest / self.smallest) / math.log(self.ratio))

    @property
    def centres(self) -> np.ndarray:
        """What a bin's values are told as, float64[size]: equally far, relatively, from both edges."""
        lower = self.smallest * self.ratio ** np.arange(self.size)
        return lower * 2.0 * self.ratio / (1.0 + self.ratio)

    def count(self, values: Array, exists: Array) -> Array:
        """The sketch int32[size] of those of the values, any shape, that exist."""
        place = jnp.log(jnp.maximum(values, self.smallest) / self.smallest) / math.log(self.ratio)
        bins = jnp.clip(place.astype(jnp.int32), 0, self.size - 1)
        bins = jnp.where(exists, bins, self.size)  # out of range, and dropped
        return jnp.zeros(self.size, jnp.int32).at[bins.reshape(-1)].add(1, mode="drop")

    def quantile(self, counts: np.ndarray, level: float) -> np.ndarray:
        """The quantile [...] of sketches [..., size]; NaN of empty ones."""
        below = np.cumsum(counts, axis=-1)
        rank = np.maximum(np.ceil(level * below[..., -1:]), 1)
        found = self.centres[np.argmax(below >= rank, axis=-1)]
        return np.where(below[..., -1] > 0, found, np.nan)

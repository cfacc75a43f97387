"""Random draws that are cheap in large batches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def categorical(key: Array, probability: Array) -> Array:
    """Kinds int32[...] of probabilities [..., K], by inverse transform: one random number per draw, not K.

    Probabilities need not add up to one; a kind of probability zero is never drawn.
    """
    below = jnp.cumsum(probability, axis=-1)
    level = jax.random.uniform(key, probability.shape[:-1], probability.dtype) * below[..., -1]
    return jnp.sum(level[..., None] >= below[..., :-1], axis=-1, dtype=jnp.int32)

"""Random draws that are cheap in large batches."""

from __future__ import annotations

import math

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


def uniforms(key: Array, shape: tuple[int, ...]) -> Array:
    """Numbers in (0, 1) of 21 bits each, of the default float type.

    One block of the generator, 64 bits, gives three of them; `jax.random.uniform` takes a block for each.
    """
    number = math.prod(shape)
    blocks = jax.random.key_data(jax.random.split(key, -(-number // 3)))
    high, low = blocks[:, 0], blocks[:, 1]
    thirds = jnp.stack([high >> 11, low >> 11, (high & 0x7FF) << 10 | (low & 0x3FF)])
    return ((thirds.astype(float) + 0.5) * 2.0**-21).reshape(-1)[:number].reshape(shape)

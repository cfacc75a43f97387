"""Independent categorical draws, one per user, over the cuts that exist."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxmec.sampling import categorical


def sample(key: Array, logits: Array) -> Array:
    """One cut per user: int32[..., N] from logits [..., N, K]."""
    return categorical(key, jax.nn.softmax(logits))


def log_prob(logits: Array, action: Array) -> Array:
    """Logarithm of each user's probability of its cut: [..., N]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def entropy(logits: Array) -> Array:
    """Entropy of each user's choice, nats: [..., N]. Cuts of probability zero add nothing."""
    log_p = jax.nn.log_softmax(logits)
    p = jnp.exp(log_p)
    return -jnp.sum(p * jnp.where(p > 0, log_p, 0.0), axis=-1)

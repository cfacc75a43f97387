"""Running mean and variance of observations, kept with the model.

Cuts share their moments, as they share the network that reads them: a policy so serves any number of cuts.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.features import CUT_FEATURES, USER_FEATURES, unpack

_STILL = 1e-6  # variance of what does not vary; features are logarithms
_FEATURES = len(USER_FEATURES) + len(CUT_FEATURES)


class Moments(struct.PyTreeNode):
    """Mean and variance of every user feature over users, and of every cut feature over the cuts that exist."""

    count: Array  # [U + C]
    mean: Array  # [U + C]
    variance: Array  # [U + C]


def init() -> Moments:
    """Nothing seen yet: normalising changes nothing."""
    return Moments(jnp.zeros(_FEATURES), jnp.zeros(_FEATURES), jnp.ones(_FEATURES))


def update(moments: Moments, batch: Array) -> Moments:
    """Add observations [..., N, F]. Source: Chan, Golub and LeVeque, The American Statistician 37 (1983)."""
    users, cuts = unpack(batch, _num_cuts(batch))
    users, cuts = users.reshape(-1, len(USER_FEATURES)), cuts.reshape(-1, len(CUT_FEATURES))
    parts = _moments(users, jnp.ones_like(users[:, :1])), _moments(cuts, cuts[:, :1])
    number, mean, variance = (jnp.concatenate(leaves) for leaves in zip(*parts, strict=True))
    total = moments.count + number
    difference = mean - moments.mean
    spread = moments.variance * moments.count + variance * number + difference**2 * moments.count * number / total
    return Moments(total, moments.mean + difference * number / total, spread / total)


def apply(moments: Moments, batch: Array) -> Array:
    """Normalised observations [..., F], outliers limited to ±10.

    Features that have not varied become zero, whatever they are now: nothing is known of what they do.
    """
    users, copies = len(USER_FEATURES), _num_cuts(batch)
    varied = moments.variance > _STILL
    scale = jnp.where(varied, 1.0 / jnp.sqrt(jnp.where(varied, moments.variance, 1.0)), 0.0)
    mean, scale = (jnp.concatenate([x[:users], jnp.tile(x[users:], copies)]) for x in (moments.mean, scale))
    mean, scale = (jnp.broadcast_to(x, batch.shape) for x in (mean, scale))
    return jnp.clip((batch - mean) * scale, -10.0, 10.0)


def _num_cuts(batch: Array) -> int:
    return (batch.shape[-1] - len(USER_FEATURES)) // len(CUT_FEATURES)


def _moments(rows: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Number, mean and variance of every column of rows [R, F] with weights [R, 1]; each [F]."""
    number = jnp.sum(weight)
    mean = jnp.sum(weight * rows, axis=0, keepdims=True) / number
    variance = jnp.sum(weight * (rows - mean) ** 2, axis=0) / number
    return jnp.full(rows.shape[1], number), mean[0], variance

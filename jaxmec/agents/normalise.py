"""Running mean and variance of observations, kept with the model."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.features import CUT_FEATURES, USER_FEATURES, observation_size, unpack


class Moments(struct.PyTreeNode):
    """Mean and variance of every feature over all users and states seen."""

    count: Array  # []
    mean: Array  # [F]
    variance: Array  # [F]


def init(num_features: int) -> Moments:
    """Nothing seen yet: normalising changes nothing."""
    return Moments(jnp.zeros(()), jnp.zeros(num_features), jnp.ones(num_features))


def update(moments: Moments, batch: Array) -> Moments:
    """Add a batch [..., F]. Source: Chan, Golub and LeVeque, The American Statistician 37 (1983)."""
    rows = batch.reshape(-1, batch.shape[-1])
    number = jnp.asarray(rows.shape[0], moments.count.dtype)
    mean, variance = jnp.mean(rows, axis=0), jnp.var(rows, axis=0)
    total = moments.count + number
    difference = mean - moments.mean
    spread = moments.variance * moments.count + variance * number + difference**2 * moments.count * number / total
    return Moments(total, moments.mean + difference * number / total, spread / total)


def for_cuts(moments: Moments, num_cuts: int) -> Moments:
    """The moments for rows of another number of cuts: every cut gets those of all cuts that were seen together."""
    if moments.mean.shape[-1] == observation_size(num_cuts):
        return moments
    seen_cuts = (moments.mean.shape[-1] - len(USER_FEATURES)) // len(CUT_FEATURES)
    user_mean, means = unpack(moments.mean, seen_cuts)
    user_variance, variances = unpack(moments.variance, seen_cuts)
    mean = jnp.mean(means, axis=0)
    variance = jnp.mean(variances + (means - mean[None]) ** 2, axis=0)
    return moments.replace(
        mean=jnp.concatenate([user_mean, jnp.tile(mean, num_cuts)]),
        variance=jnp.concatenate([user_variance, jnp.tile(variance, num_cuts)]),
    )


def apply(moments: Moments, batch: Array) -> Array:
    """Normalised batch [..., F]; features that never varied become zero, and outliers are limited to ±10."""
    mean, scale = (jnp.broadcast_to(x, batch.shape) for x in (moments.mean, jnp.sqrt(moments.variance + 1e-6)))
    return jnp.clip((batch - mean) / scale, -10.0, 10.0)

"""Running statistics of observations, kept with the policy.

Options share their statistics, as they share the network that reads them: a policy so serves any number of options.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.observation import Views

_STILL = 1e-6  # variance of what does not vary; features are of unit scale
_OUTLIER = 10.0  # standard deviations beyond which all values look alike: far out, no network has learned anything


class Moments(struct.PyTreeNode):
    """Mean and variance of every feature."""

    count: Array  # []
    mean: Array  # [F]
    variance: Array  # [F]


class RunningStatistics(struct.PyTreeNode):
    """Of user features over users, and of option features over the options that exist."""

    users: Moments  # [U]
    options: Moments  # [C]


def init(views: Views) -> RunningStatistics:
    """Nothing seen yet of observations like these: normalising changes nothing."""

    def nothing(features: int) -> Moments:
        return Moments(jnp.zeros(()), jnp.zeros(features), jnp.ones(features))

    return RunningStatistics(nothing(views.users.shape[-1]), nothing(views.options.shape[-1]))


def update(statistics: RunningStatistics, views: Views) -> RunningStatistics:
    """Add observations with any batch axes."""
    return RunningStatistics(
        users=_add(statistics.users, views.users, jnp.ones(views.users.shape[:-1], bool)),
        options=_add(statistics.options, views.options, views.mask),
    )


def normalise(statistics: RunningStatistics, views: Views) -> Views:
    """Observations in standard deviations from the mean, outliers limited.

    Features that have not varied become zero, whatever they are now: nothing is known of what they do.
    """
    return views._replace(
        users=_normalise(statistics.users, views.users), options=_normalise(statistics.options, views.options)
    )


def _normalise(moments: Moments, features: Array) -> Array:
    varied = moments.variance > _STILL
    scale = jnp.where(varied, 1.0 / jnp.sqrt(jnp.where(varied, moments.variance, 1.0)), 0.0)
    mean, scale = (jnp.broadcast_to(x, features.shape) for x in (moments.mean, scale))
    return jnp.clip((features - mean) * scale, -_OUTLIER, _OUTLIER)


def _add(moments: Moments, features: Array, exists: Array) -> Moments:
    """Source: Chan, Golub and LeVeque, The American Statistician 37 (1983)."""
    rows = features.reshape(-1, features.shape[-1])
    weight = exists.reshape(-1, 1).astype(rows.dtype)
    number = jnp.sum(weight)
    mean = jnp.sum(weight * rows, axis=0, keepdims=True) / number
    variance = jnp.sum(weight * (rows - mean) ** 2, axis=0) / number
    total = moments.count + number
    difference = mean[0] - moments.mean
    spread = moments.variance * moments.count + variance * number + difference**2 * moments.count * number / total
    return Moments(total, moments.mean + difference * number / total, spread / total)

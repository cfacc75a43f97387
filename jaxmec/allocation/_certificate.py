"""Certified lower bounds of what a user costs at given prices.

For any multipliers the Lagrangian's minimum over one user's shares and slowest time is a lower bound of the
user's part of the dual. It splits into functions of one variable, convex in its logarithm and in itself; around
an approximate minimiser each is bounded from below by two tangents, or by one where that is safer.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmec.allocation import _solver
from jaxmec.allocation._solver import Demand, Iterate


def user_bounds(demand: Demand, point: Iterate) -> Array:
    """Lower bound [N, ...] of min over shares of each user's cost plus price times share.

    What rounding may have added is taken off.

    Args:
      demand: user leaves [N, ...].
      point: its prices are those of the band and the server; its shares and multipliers need only be good
        guesses, the bound is valid for any.
    """
    present = _solver.present_stages(demand)
    dtype = point.t.dtype
    eps = float(jnp.finfo(dtype).eps)
    theta = jnp.exp(point.t)
    # Multipliers that add up to θ times the waiting time's slope make θ the exact minimiser over θ.
    sum_z = sum(point.z)
    scale = jnp.where(sum_z > 0, _solver.waiting_pull(demand, theta) / jnp.where(sum_z > 0, sum_z, 1.0), 0.0)
    z = tuple(zi * scale for zi in point.z)
    waiting = jnp.where(sum_z > 0, _solver.waiting_cost(demand, theta), 0.0)
    # The slope's own rounding, (1 - ρ)⁻² of it, counts as far as θ may be off.
    bound = waiting * (1.0 - 16.0 * eps)

    width = 1e-3 if dtype == jnp.float32 else 1e-6
    for stage, here in enumerate(present):
        low_x = jnp.minimum(point.x[stage], 0.0) - width
        high_x = jnp.minimum(low_x + 2.0 * width, 0.0)
        low, high = (_stage(demand, point, z, stage, x) for x in (low_x, high_x))
        rounding = 1.5 * eps * jnp.maximum(low.size, high.size)
        bound += jnp.where(here, _below(low, high, low_x, high_x) - rounding, 0.0)
    return bound


class _Part(NamedTuple):
    """One stage's part of the Lagrangian at a log share."""

    value: Array
    slope: Array
    size: Array  # of the terms that make up the value, as far as they round


def _stage(demand: Demand, point: Iterate, z: tuple, stage: int, x: Array) -> _Part:
    g, h = _solver.log_times(demand, (x, x, x))
    y, time = jnp.exp(x), jnp.exp(g[stage])
    price = (demand.delay_price, demand.uplink_price, demand.delay_price)[stage]
    energy = (demand.device_energy, 0.0, demand.server_energy)[stage]
    rent = (0.0, point.band_price, point.server_price)[stage] * y
    steepness = h if stage == 1 else 1.0
    smooth = price * time + energy * y**2 + rent
    return _Part(
        value=smooth + z[stage] * (g[stage] - point.t),
        slope=-(price * time + z[stage]) * steepness + 2.0 * energy * y**2 + rent,
        size=smooth * (1.0 + jnp.abs(g[stage])) + z[stage] * (1.0 + jnp.abs(g[stage]) + jnp.abs(point.t)),
    )


def _below(low: _Part, high: _Part, low_x: Array, high_x: Array) -> Array:
    """Lower bound of a convex function on x <= 0 from value and slope at two points."""
    (low_value, low_slope, _), (high_value, high_slope, _) = low, high
    difference = high_slope - low_slope
    safe = jnp.where(difference > 0, difference, 1.0)
    # Where the two tangents meet, measured from the lower point.
    meet = (low_value - high_value + high_slope * (high_x - low_x)) / safe
    crossing = low_value + low_slope * meet
    bracketed = (low_slope <= 0) & (high_slope >= 0) & (difference > 0)
    # One tangent: in the logarithm up to x = 0 if it falls, in the share down to zero if it rises.
    tangent = low_value - jnp.maximum(low_slope, low_slope * low_x)
    at_one = jnp.where((high_x >= 0) & (high_slope <= 0), high_value, tangent)
    return jnp.where(bracketed, jnp.maximum(crossing, tangent), at_one)

"""Upper bounds of the Lagrangian dual from tangents, and where they are highest: cutting planes in two prices.

The dual Σ_n min_k φ_nk(p) - μ - ν, p = (μ, ν) >= 0, is concave, and so is every φ_nk: what cut k costs and uses at
one pair of prices bounds it at all others. With the tangents of every cut apart, rather than one of their sum, a
handful of price pairs describes the dual well (J. E. Kelley, J. SIAM 8 (1960); disaggregated as in C. Lemaréchal's
bundle methods). Where their envelope is highest is a linear program in (value, μ, ν). Its planes are generated
where they are needed, and three of them are active: a dual simplex with a basis of three rows.

Everything is [..., B], the batch last; values and prices are in the problem's own units of both.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

_PIVOTS = 60  # at most, per pair of prices; usually five to fifteen
_SAME = 4.0  # times the rounding of what a height is the sum of: heights that differ by less are equal


class Planes(NamedTuple):
    """Tangents of all cuts at the prices seen so far: cost >= constant + band μ + server ν."""

    constant: Array  # [J, N, K, B]; infinite where none is yet
    band: Array
    server: Array


class Vertex(NamedTuple):
    """Where the planes are highest."""

    rows: Array  # [3, 4, B] of the basis: a value + b μ + c ν <= d
    value: Array  # [B]
    prices: Array  # [2, B]


def envelope(planes: Planes, action_mask: Array, prices: Array) -> tuple[Array, Array]:
    """What the planes say of the dual at prices [2, B]: value [B] and a supergradient [2, B]."""
    band_price, server_price = prices[:, None, None, None]
    rent = planes.band * band_price + planes.server * server_price
    height = jnp.where(action_mask[None], planes.constant + rent, jnp.inf)
    lowest = jnp.min(height, axis=(0, 2), keepdims=True)
    # Equal planes share: any mean of supergradients is one. A compiler may compute heights twice and round them
    # differently, so that none would be the lowest.
    same = _SAME * float(jnp.finfo(height.dtype).eps) * (jnp.abs(lowest) + rent)
    weight = (height <= lowest + same).astype(height.dtype)
    weight = weight / jnp.sum(weight, axis=(0, 2), keepdims=True)
    used = [jnp.sum(jnp.sum(weight * use, axis=(0, 2)), axis=0) for use in (planes.band, planes.server)]
    return jnp.sum(lowest[0, :, 0], axis=0) - prices[0] - prices[1], jnp.stack(used) - 1.0


def first_rows(value: Array, slope: Array, prices: Array, limit: Array) -> Array:
    """A basis [3, 4, B]: the tangent at some prices, and for each price the end of its range that it points to."""
    one, zero = jnp.ones_like(value), jnp.zeros_like(value)
    ends = [
        jnp.where(slope[i : i + 1] > 0, _row(zero, unit, limit[i]), _row(zero, -unit, zero))
        for i, unit in enumerate((jnp.stack([one, zero]), jnp.stack([zero, one])))
    ]
    return jnp.stack([_tangent(value, slope, prices), *ends])


def highest(planes: Planes, action_mask: Array, rows: Array, limit: Array, tolerance: float) -> Vertex:
    """Where the planes are highest in 0 <= prices <= limit [2, B], from a basis of rows [3, 4, B]."""
    one, zero = jnp.ones_like(limit[0]), jnp.zeros_like(limit[0])
    units = (jnp.stack([one, zero]), jnp.stack([zero, one]))
    ends = [_row(zero, -unit, zero) for unit in units]
    ends += [_row(zero, unit, limit[i]) for i, unit in enumerate(units)]

    def most_violated(rows: Array) -> tuple[Array, Array]:
        value, *prices = _solution(rows)[0]
        inside = jnp.clip(jnp.stack(prices), 0.0, limit)
        height, slope = envelope(planes, action_mask, inside)
        row, violated = _tangent(height, slope, inside), value - height > tolerance * jnp.abs(height)
        reach = [price / most for price, most in zip(prices, limit, strict=True)]
        beyond = (-reach[0], -reach[1], reach[0] - 1.0, reach[1] - 1.0)
        worst = jnp.full_like(value, 1e-6)
        for end, excess in zip(ends, beyond, strict=True):
            row, violated = jnp.where(excess[None] > worst[None], end, row), violated | (excess > worst)
            worst = jnp.maximum(worst, excess)
        return row, violated

    def pivot(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        rows, count, _ = state
        row, violated = most_violated(rows)
        return jnp.where(violated[None, None], _exchanged(rows, row), rows), count + 1, violated

    def going(state: tuple[Array, Array, Array]) -> Array:
        _, count, violated = state
        return jnp.any(violated) & (count < _PIVOTS)

    start = (_with_limit(rows, limit), jnp.zeros((), jnp.int32), jnp.ones_like(one, bool))
    rows, _, _ = lax.while_loop(going, pivot, start)
    value, *prices = _solution(rows)[0]
    return Vertex(rows, value, jnp.clip(jnp.stack(prices), 0.0, limit))


def _row(value: Array, prices: Array, right: Array) -> Array:
    return jnp.concatenate([value[None], prices, right[None]])


def _tangent(value: Array, slope: Array, prices: Array) -> Array:
    return _row(jnp.ones_like(value), -slope, value - jnp.sum(slope * prices, axis=0))


def _with_limit(rows: Array, limit: Array) -> Array:
    """Rows whose upper ends of the prices' ranges are the present ones."""
    for i in range(2):
        is_end = (rows[:, 0] == 0) & (rows[:, 1 + i] > 0)
        rows = rows.at[:, 3].set(jnp.where(is_end, limit[i][None], rows[:, 3]))
    return rows


def _solution(rows: Array) -> tuple[Array, list[Array]]:
    """Where three rows hold with equality [3, B], and the columns of their inverse."""
    columns = [_cross(rows[1], rows[2]), _cross(rows[2], rows[0]), _cross(rows[0], rows[1])]
    determinant = jnp.sum(rows[0, :3] * columns[0], axis=0)
    columns = [column / determinant[None] for column in columns]
    point = rows[0, 3:] * columns[0] + rows[1, 3:] * columns[1] + rows[2, 3:] * columns[2]
    return point, columns


def _exchanged(rows: Array, entering: Array) -> Array:
    """The basis with a violated row in place of the one that leaves the multipliers nonnegative."""
    _, columns = _solution(rows)
    least = 1e-6 * jnp.max(jnp.abs(entering[:3]), axis=0)
    ratios = []
    for column in columns:
        part = jnp.sum(entering[:3] * column, axis=0)
        ratios.append(
            jnp.where(part > least, jnp.maximum(column[0], 0.0) / jnp.where(part > least, part, 1.0), jnp.inf)
        )
    first = (ratios[0] <= ratios[1]) & (ratios[0] <= ratios[2])
    second = ~first & (ratios[1] <= ratios[2])
    leaves = jnp.stack([first, second, ~first & ~second]) & jnp.isfinite(jnp.stack(ratios))
    return jnp.where(leaves[:, None], entering[None], rows)


def _cross(a: Array, b: Array) -> Array:
    return jnp.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])

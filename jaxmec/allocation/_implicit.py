"""Derivatives of the slot problem's solution, by the implicit function theorem.

A solution u(d) of the optimality conditions F(u, d) = 0 moves with the demand d by the linear system
F_u u' = -F_d d'. It is solved here in closed form, like the solver's own: users are eliminated, and two prices
remain. Everything is an ordinary function of u and d, and linear in d'. So the tangent can itself be
differentiated, and derivatives of every order follow in both modes.

Conditions, in the notation of `_solver`: the Lagrangian does not change with any log share x (R) nor with t
(P = Σ z, where P is what a relative change of θ costs), and of every complementary pair the product stays what it
is, z σ at a stage, -q x at a device's full speed, ν S at the server. A product that stays, instead of one factor
that stays at zero, makes no decision about which constraints bind: at a solution the product is of the order of
the tolerance, and so is the difference. Nothing below is divided by a slack or a multiplier alone that may be nearly
nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.allocation import _solver
from jaxmec.allocation._solver import Demand, Iterate, total


class _Conditions(struct.PyTreeNode):
    """What the optimality conditions say of one user, or derivatives of it; all [N]."""

    share: tuple[Array, ...]  # R: derivative of the Lagrangian by the log share, per stage
    log_time: tuple[Array, ...]  # g, per stage
    waiting: Array  # P: derivative of the objective by log θ


class _Stage(struct.PyTreeNode):
    """A stage's answer, x' = soft (ρ - y price') - lever (t' - γ), z' = -stiff (t' - γ) - lever (ρ - y price')."""

    soft: Array
    lever: Array
    stiff: Array


def tangent(demand: Demand, point: Iterate, demand_dot: Demand) -> Iterate:
    """How the solution moves when the demand does; leaves [N] and [1]."""
    present = _solver.present_stages(demand)
    idle = _solver.number_of_stages(demand) == 0
    _, moved = jax.jvp(lambda d: _conditions(d, point, point.x, point.t), (demand,), (demand_dot,))
    rho = tuple(-change for change in moved.share)
    gamma = moved.log_time
    ones = jnp.ones_like(point.t)
    along = lambda x, t: _conditions(demand, point, x, t)  # noqa: E731
    _, slope = jax.jvp(along, (point.x, point.t), ((ones,) * 3, ones))
    stages = tuple(_stage(point, slope, i, here) for i, here in enumerate(present))

    # Without any change of prices.
    waiting = jnp.where(idle, 1.0, slope.waiting + sum(stage.stiff for stage in stages))
    t_own = -moved.waiting + sum(s.stiff * g - s.lever * r for s, g, r in zip(stages, gamma, rho, strict=True))
    t_own = jnp.where(idle, 0.0, t_own) / waiting
    x_own = tuple(s.soft * r - s.lever * (t_own - g) for s, g, r in zip(stages, gamma, rho, strict=True))

    price_dot = _prices(demand, point, stages, waiting, x_own)
    y = tuple(jnp.where(here, jnp.exp(xi), 0.0) for xi, here in zip(point.x, present, strict=True))
    rent = (jnp.zeros_like(ones), y[1] * price_dot[0], y[2] * price_dot[1])
    t = t_own + sum(s.lever * ri for s, ri in zip(stages, rent, strict=True)) / waiting
    x = tuple(
        jnp.where(here, s.soft * (r - ri) - s.lever * (t - g), 0.0)
        for s, g, r, ri, here in zip(stages, gamma, rho, rent, present, strict=True)
    )
    z = [
        jnp.where(here, -s.stiff * (t - g) - s.lever * (r - ri), 0.0)
        for s, g, r, ri, here in zip(stages, gamma, rho, rent, present, strict=True)
    ]
    # A device at full speed that is also the slowest stage is as good as rigid: stiff times nearly nothing.
    # What is left over in the row of t is the same number without the rounding, and so is the row of x for q.
    z[0] = jnp.where(present[0], moved.waiting + slope.waiting * t - z[1] - z[2], 0.0)
    q = jnp.where(present[0], rho[0] - slope.share[0] * x[0] + z[0], 0.0)
    slack = [
        jnp.where(here, t - sl * xi - g, 0.0)
        for sl, xi, g, here in zip(slope.log_time, x, gamma, present, strict=True)
    ]
    # There room and slack are nearly nothing, too, and further derivatives are divided by them: what moves with their
    # multiplier is right in its own digits.
    slack[0] = _of_pair(point.slack[0], point.z[0], z[0], slack[0], present[0])
    x = (-_of_pair(-point.x[0], point.q, q, -x[0], present[0]), *x[1:])
    return Iterate(
        x=x,
        t=t,
        slack=tuple(slack),
        z=tuple(z),
        q=q,
        r=jnp.zeros_like(point.r),
        band_price=price_dot[0],
        server_price=price_dot[1],
        server_slack=-total(y[2] * x[2]),
    )


def _of_pair(small: Array, multiplier: Array, multiplier_dot: Array, small_dot: Array, here: Array) -> Array:
    """How a factor of a complementary pair moves: with its multiplier where it is bound, and as told elsewhere."""
    binds = here & (small < jnp.finfo(small.dtype).eps ** 0.5)
    return jnp.where(binds, -small * multiplier_dot / jnp.where(binds, multiplier, 1.0), small_dot)


def _conditions(demand: Demand, point: Iterate, x: tuple[Array, ...], t: Array) -> _Conditions:
    """At log shares x and log times t, with the point's multipliers and prices."""
    present = _solver.present_stages(demand)
    g, h = _solver.log_times(demand, x)
    time = tuple(jnp.where(here, jnp.exp(gi), 0.0) for gi, here in zip(g, present, strict=True))
    y = tuple(jnp.where(here, jnp.exp(xi), 0.0) for xi, here in zip(x, present, strict=True))
    return _Conditions(
        share=(
            2.0 * demand.device_energy * y[0] ** 2 - demand.delay_price * time[0] - point.z[0] + point.q,
            point.band_price * y[1] - (demand.uplink_price * time[1] + point.z[1]) * h,
            point.server_price * y[2]
            + 2.0 * demand.server_energy * y[2] ** 2
            - demand.delay_price * time[2]
            - point.z[2],
        ),
        log_time=g,
        waiting=_solver.waiting_pull(demand, jnp.exp(t)),
    )


def _stage(point: Iterate, slope: _Conditions, stage: int, here: Array) -> _Stage:
    """Eliminate a stage's x and z from k x' - h z' + y price' = ρ and σ z' + z (t' + h x' - γ) = 0.

    At the device k has q / (-x) in it, from q x' + x q' = 0; both rows are multiplied by -x.
    """
    slack, z, k, h = point.slack[stage], point.z[stage], slope.share[stage], -slope.log_time[stage]
    room = -point.x[0] if stage == 0 else jnp.ones_like(k)
    curvature = k * room + (point.q if stage == 0 else 0.0)
    whole = jnp.where(here, slack * curvature + z * h**2 * room, 1.0)
    return _Stage(
        soft=jnp.where(here, slack * room / whole, 0.0),
        lever=jnp.where(here, z * h * room / whole, 0.0),
        stiff=jnp.where(here, z * curvature / whole, 0.0),
    )


def _prices(
    demand: Demand, point: Iterate, stages: tuple[_Stage, ...], waiting: Array, x_own: tuple[Array, ...]
) -> tuple[Array, Array]:
    """Changes of both prices that keep the budgets: the band's users take all of it, ν S stays."""
    _, sends, served = _solver.present_stages(demand)
    y2, y3 = (jnp.where(here, jnp.exp(x), 0.0) for x, here in zip(point.x[1:], (sends, served), strict=True))
    lever2, lever3 = stages[1].lever * y2, stages[2].lever * y3
    m22 = total(stages[1].soft * y2**2 + lever2**2 / waiting)
    m23 = total(lever2 * lever3 / waiting)
    m33 = total(stages[2].soft * y3**2 + lever3**2 / waiting) + point.server_slack / point.server_price
    d2, d3 = total(y2 * x_own[1]), total(y3 * x_own[2])
    anyone = jnp.any(sends, axis=0, keepdims=True)
    m22 = jnp.where(anyone, m22, 1.0)
    server = (d3 - m23 / m22 * d2) / (m33 - m23 / m22 * m23)
    return (d2 - m23 * server) / m22, server

"""A primal-dual interior-point method for the slot problem, with a fixed number of iterations.

In the logarithms of the shares and of every user's slowest stage time θ the problem is convex, and the
constraints "device stage at most θ" and "server stage at most θ" are linear. Users meet only in the two shared
budgets, so a Newton system is an arrow: three by three blocks that are eliminated in closed form, and a 2×2
system in the two prices. Nothing branches and nothing searches, so a batch of problems runs in lockstep.

Notation, per user: x = log share, t = log θ, g(x) = log stage time, h = -dg/dx (one for device and server),
σ = slack of g <= t, z = its multiplier, q = multiplier of "device share at most one". The waiting time has the
slope min(f'(λθ), f'(knee)); r <= min(λθ, knee) is the utilisation that produces it, and (λθ - r, knee - r) is
one more complementary pair. Prices: μ of the band (always used up), ν of the server (with slack S).
"""

from __future__ import annotations

import dataclasses
import math
from functools import reduce

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from jaxmec.allocation._problem import SlotProblem
from jaxmec.delay import waiting_slope, waiting_time


@dataclasses.dataclass(frozen=True)
class SolverConfig:
    """How the slot problem is solved; static and hashable."""

    iterations: int = 18
    centring: float = 0.1  # target of an iteration, as a share of the present complementarity
    max_log_step: float = 3.0
    to_boundary: float = 0.95  # share of the way to the boundary that a step may go

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"SolverConfig.iterations: got {self.iterations}; allowed is at least 1")
        for name in ("centring", "to_boundary"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"SolverConfig.{name}: got {getattr(self, name)}; allowed is between 0 and 1")


class Demand(struct.PyTreeNode):
    """A slot problem as the solver sees it; user leaves [N, ...], shared leaves [1, ...], any batch behind."""

    device_s: Array
    uplink_s: Array  # bits over band times ln 2: uplink time is uplink_s / (y log1p(snr / y))
    server_s: Array
    snr: Array
    rate: Array  # λ
    delay_price: Array
    uplink_price: Array  # of a second of uplink: delay and transmit energy
    device_energy: Array  # price of the device's energy at full speed
    server_energy: Array
    knee: Array


class Iterate(struct.PyTreeNode):
    """A point of the interior."""

    x: tuple[Array, ...]
    t: Array
    slack: tuple[Array, ...]
    z: tuple[Array, ...]
    q: Array
    r: Array
    band_price: Array
    server_price: Array
    server_slack: Array


def to_demand(problem: SlotProblem) -> Demand:
    """Collect constants."""
    requests = problem.slot_s * problem.arrival_rate_hz
    device_price = requests * problem.energy_price
    return Demand(
        device_s=problem.device_work_s,
        uplink_s=problem.uplink_bits * (math.log(2.0) / problem.bandwidth_hz),
        server_s=problem.server_work_s,
        snr=problem.snr,
        rate=problem.arrival_rate_hz,
        delay_price=problem.delay_price,
        uplink_price=problem.delay_price + device_price * problem.tx_power_w,
        device_energy=device_price * problem.device_power_w * problem.device_work_s,
        server_energy=problem.server_energy_price * problem.server_power_w * requests * problem.server_work_s,
        knee=jnp.expand_dims(problem.knee, 0),
    )


def solve(demand: Demand, config: SolverConfig) -> Iterate:
    """Run the iterations from the closed-form start."""

    def iteration(_: int, point: Iterate) -> Iterate:
        return _advance(demand, point, _direction(demand, point, config, False), config, False)

    return lax.fori_loop(0, config.iterations, iteration, _start(demand))


def solve_at_prices(demand: Demand, band_price: Array, server_price: Array, config: SolverConfig) -> Iterate:
    """Each user's best shares for itself when band and server have prices per share (above zero, [1, ...])."""
    uplink_s = demand.uplink_price * demand.uplink_s / jnp.log1p(demand.snr)
    start = _start(
        demand,
        band_share=jnp.clip(jnp.sqrt(uplink_s / band_price), 1e-6, 0.9),
        server_share=jnp.clip(jnp.sqrt(demand.delay_price * demand.server_s / server_price), 1e-6, 0.9),
    )
    start = start.replace(band_price=band_price, server_price=server_price)

    def iteration(_: int, point: Iterate) -> Iterate:
        return _advance(demand, point, _direction(demand, point, config, True), config, True)

    return lax.fori_loop(0, config.iterations, iteration, start)


def shares(demand: Demand, point: Iterate) -> tuple[Array, ...]:
    """Feasible shares, zero where a stage is skipped."""
    here = present_stages(demand)
    device = jnp.where(here[0], jnp.minimum(jnp.exp(point.x[0]), 1.0), 0.0)
    band = jnp.where(here[1], jnp.exp(point.x[1]), 0.0)
    server = jnp.where(here[2], jnp.exp(point.x[2]), 0.0)
    band_total, server_total = jnp.sum(band, axis=0, keepdims=True), jnp.sum(server, axis=0, keepdims=True)
    band = band / jnp.where(band_total > 0, band_total, 1.0)
    server = server / jnp.maximum(server_total, 1.0)
    return device, band, server


def refine(demand: Demand, point: Iterate, config: SolverConfig) -> Iterate:
    """One more Newton step, differentiable in the demand.

    At a solution the derivative of one Newton step with the matrix and the starting point held fixed is the
    implicit derivative of the solution: the step's right-hand side is the optimality system's residual.
    """
    step = _direction(demand, lax.stop_gradient(point), config, False)
    return jax.tree.map(lambda value, change: lax.stop_gradient(value) + change, point, step)


def lagrangian(demand: Demand, point: Iterate) -> Array:
    """Objective plus multipliers times constraints, []; without the budgets, which do not depend on the demand."""
    present = present_stages(demand)
    g, _, _ = log_times(demand, point.x)
    prices = (demand.delay_price, demand.uplink_price, demand.delay_price)
    theta = jnp.exp(point.t)
    total = jnp.where(
        number_of_stages(demand) > 0, demand.delay_price * waiting_time(theta, demand.rate, demand.knee), 0.0
    )
    for gi, zi, price, here in zip(g, point.z, prices, present, strict=True):
        total += jnp.where(here, price * jnp.exp(gi) + zi * (gi - point.t), 0.0)
    total += jnp.where(present[0], demand.device_energy * jnp.exp(2.0 * point.x[0]), 0.0)
    total += jnp.where(present[2], demand.server_energy * jnp.exp(2.0 * point.x[2]), 0.0)
    return jnp.sum(total, axis=0)


def number_of_stages(demand: Demand) -> Array:
    """How many stages each user needs: [N, ...]."""
    return reduce(jnp.add, (here.astype(demand.rate.dtype) for here in present_stages(demand)))


def present_stages(demand: Demand) -> tuple[Array, ...]:
    """Which of device, uplink and server each user needs: bool[N, ...]."""
    return demand.device_s > 0, demand.uplink_s > 0, demand.server_s > 0


def _log(x: Array, present: Array) -> Array:
    return jnp.log(jnp.where(present, x, 1.0))


def log_times(demand: Demand, x: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array, Array]:
    """Log stage times g at log shares x, and for the uplink h = -dg/dx and dh/d(-x); all [N, ...]."""
    present = present_stages(demand)
    ratio = demand.snr * jnp.exp(-x[1])
    log1p = jnp.log1p(ratio)
    efficiency = ratio / ((1.0 + ratio) * log1p)
    # 1 - efficiency cancels where the ratio is small; its series there.
    small = 0.02 if ratio.dtype == jnp.float32 else 1e-3
    h = jnp.where(ratio < small, ratio * (0.5 - ratio * (5 / 12 - 0.375 * ratio)), 1.0 - efficiency)
    g = (
        _log(demand.device_s, present[0]) - x[0],
        _log(demand.uplink_s, present[1]) - x[1] - jnp.log(log1p),
        _log(demand.server_s, present[2]) - x[2],
    )
    return g, h, (1.0 - h) * (ratio / (1.0 + ratio) - h)


def _start(demand: Demand, band_share: Array | None = None, server_share: Array | None = None) -> Iterate:
    """Square-root shares, re-weighted once towards each user's slowest stage, on the central path.

    Given shares are taken instead.
    """
    present = present_stages(demand)
    tiny = float(jnp.finfo(demand.rate.dtype).tiny)

    def share(weight: Array, here: Array) -> Array:
        root = jnp.where(here, jnp.sqrt(weight), 0.0)
        total = jnp.sum(root, axis=0, keepdims=True)
        return jnp.where(here, root / jnp.where(total > 0, total, 1.0), 1.0)

    num_users = demand.rate.shape[0]
    work = (demand.device_s, demand.uplink_s / jnp.log1p(num_users * demand.snr), demand.server_s)
    prices = (demand.delay_price, demand.uplink_price, demand.delay_price)
    extra: tuple = (0.0, 0.0, 0.0)
    for _ in range(2):
        weights = tuple((price + more) * s for price, more, s in zip(prices, extra, work, strict=True))
        # Device and server also weigh delay against energy: y³ = weight / (2 energy).
        device, server = (
            jnp.cbrt(weight / jnp.maximum(2.0 * energy, tiny))
            for weight, energy in ((weights[0], demand.device_energy), (weights[2], demand.server_energy))
        )
        part = 0.9 * share(weights[2], present[2]) if server_share is None else server_share
        x = (
            jnp.where(present[0], jnp.log(jnp.clip(device, 1e-6, 0.9)), -1.0),
            jnp.log(jnp.maximum(share(weights[1], present[1]), 1e-12) if band_share is None else band_share),
            jnp.log(jnp.maximum(jnp.where(present[2], jnp.minimum(part, server), 0.9), 1e-12)),
        )
        g, h, _ = log_times(demand, x)
        slowest = jnp.maximum(
            jnp.maximum(jnp.where(present[0], g[0], -20.0), jnp.where(present[1], g[1], -20.0)),
            jnp.where(present[2], g[2], -20.0),
        )
        t = slowest + 0.5
        load = demand.rate * jnp.exp(t)
        knee = jnp.broadcast_to(demand.knee, load.shape)
        # The smaller root of (load - r)(knee - r) = load knee / 100, without cancellation.
        r = 1.98 * load * knee / (load + knee + jnp.sqrt((load - knee) ** 2 + 0.04 * load * knee))
        slope = demand.delay_price * waiting_slope(r)
        extra = tuple(jnp.where(gi >= slowest, slope, 0.0) for gi in g)

    slack = tuple(jnp.where(here, t - gi, 1.0) for gi, here in zip(g, present, strict=True))
    inverse = sum(jnp.where(here, 1.0 / s, 0.0) for s, here in zip(slack, present, strict=True))
    floor = 0.1 * demand.delay_price * jnp.exp(slowest)
    weight = jnp.maximum(slope * jnp.exp(t), floor) / jnp.where(inverse > 0, inverse, 1.0)
    z = tuple(jnp.where(here, weight / s, 0.0) for s, here in zip(slack, present, strict=True))
    times = tuple(jnp.exp(gi) for gi in g)
    uplink_pull = jnp.where(present[1], (demand.uplink_price * times[1] + z[1]) * h, 0.0)
    server_share = jnp.where(present[2], jnp.exp(x[2]), 0.0)
    server_pull = jnp.where(
        present[2], demand.delay_price * times[2] + z[2] - 2.0 * demand.server_energy * server_share**2, 0.0
    )
    server_push = jnp.where(present[2], 0.1 * demand.delay_price * times[2], 0.0)
    return Iterate(
        x=x,
        t=t,
        slack=slack,
        z=z,
        q=jnp.where(present[0], weight / -x[0], 0.0),
        r=r,
        band_price=jnp.sum(uplink_pull, axis=0, keepdims=True),
        server_price=jnp.where(
            jnp.any(present[2], axis=0, keepdims=True),
            jnp.maximum(jnp.sum(server_pull, axis=0, keepdims=True), jnp.sum(server_push, axis=0, keepdims=True)),
            1.0,
        ),
        server_slack=1.0 - 0.999 * jnp.sum(server_share, axis=0, keepdims=True),
    )


def _direction(demand: Demand, point: Iterate, config: SolverConfig, fixed_prices: bool) -> Iterate:
    """The full Newton step towards the central path."""
    present = present_stages(demand)
    dtype = point.t.dtype
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    x, t, slack, z = point.x, point.t, point.slack, point.z
    g, h, h_slope = log_times(demand, x)
    times = tuple(jnp.where(here, jnp.exp(gi), 0.0) for gi, here in zip(g, present, strict=True))
    y = tuple(jnp.where(here, jnp.exp(xi), 0.0) for xi, here in zip(x, present, strict=True))
    theta = jnp.exp(t)
    slopes: tuple = (1.0, h, 1.0)
    gap_to_one = -x[0]

    # Each user's own weight on the central path, so that cheap users do not wait for dear ones.
    pairs = sum(zi * si for zi, si in zip(z, slack, strict=True)) + point.q * gap_to_one
    stages = number_of_stages(demand)
    number = stages + present[0].astype(dtype)
    wait_price = demand.delay_price * waiting_slope(point.r)
    floor = 4.0 * eps * demand.delay_price * theta
    target = jnp.maximum(config.centring * pairs / jnp.maximum(number, 1.0), floor)

    # Rows of the shares: a_i dx_i + w_i h_i dt (+ y_i d price) = c_i + h_i e_i.
    w = tuple(zi / si for zi, si in zip(z, slack, strict=True))
    e = tuple(
        jnp.where(here, target / si - wi * (t - gi - si), 0.0)
        for wi, si, gi, here in zip(w, slack, g, present, strict=True)
    )
    server_push = point.server_price * y[2]
    curvature: tuple = (
        demand.delay_price * times[0] + 4.0 * demand.device_energy * y[0] ** 2 + point.q / gap_to_one,
        demand.uplink_price * times[1] * h**2
        + (demand.uplink_price * times[1] + z[1]) * h_slope
        + point.band_price * y[1],
        demand.delay_price * times[2] + 4.0 * demand.server_energy * y[2] ** 2 + server_push,
    )
    c: tuple = (
        demand.delay_price * times[0] - 2.0 * demand.device_energy * y[0] ** 2 - target / gap_to_one,
        demand.uplink_price * times[1] * h - point.band_price * y[1],
        demand.delay_price * times[2] - 2.0 * demand.server_energy * y[2] ** 2 - server_push,
    )
    curvature = tuple(jnp.where(here, ci, 1.0) for ci, here in zip(curvature, present, strict=True))
    c = tuple(jnp.where(here, ci, 0.0) for ci, here in zip(c, present, strict=True))
    curvature, w = lax.stop_gradient((curvature, w))  # the matrix; see `refine`
    a = tuple(ci + wi * hi**2 for ci, wi, hi in zip(curvature, w, slopes, strict=True))

    # The knee's pair, eliminated.
    load = demand.rate * theta
    above = jnp.maximum(load - point.r, eps * load)
    below = jnp.maximum(demand.knee - point.r, eps)
    pair_sum = above + below
    pair_error = (1.0 - config.centring) * above * below / pair_sum
    wait_curvature = demand.delay_price * (1.0 - point.r) ** -3 * theta

    # Row of t: a_t dt = c_t + Σ b_i d price_i, everything of the form 1 - w h² / a written as curvature / a.
    a_t = theta * wait_price + wait_curvature * (below / pair_sum) * load
    c_t = -theta * wait_price - wait_curvature * pair_error
    for ai, ci, ki, wi, ei, hi in zip(a, c, curvature, w, e, slopes, strict=True):
        a_t += wi * (ki / ai)
        c_t += ei * (ki / ai) - wi * hi * ci / ai
    a_t = jnp.maximum(a_t, tiny)
    band_t, server_t = w[1] * h * y[1] / a[1], w[2] * y[2] / a[2]

    # The two prices.
    right = tuple(ci + hi * ei for ci, hi, ei in zip(c, slopes, e, strict=True))
    m22 = jnp.sum(y[1] ** 2 / a[1] + band_t**2 / a_t, axis=0, keepdims=True)
    m23 = jnp.sum(band_t * server_t / a_t, axis=0, keepdims=True)
    server_target = jnp.maximum(
        config.centring * point.server_price * point.server_slack,
        eps * (jnp.sum(demand.delay_price * times[2], axis=0, keepdims=True) + tiny / eps),
    )
    m33 = (
        jnp.sum(y[2] ** 2 / a[2] + server_t**2 / a_t, axis=0, keepdims=True)
        + point.server_slack / point.server_price
    )
    anyone = jnp.any(present[1], axis=0, keepdims=True)
    d2 = jnp.sum(y[1] * right[1] / a[1] - band_t * c_t / a_t, axis=0, keepdims=True) - (
        1.0 - jnp.sum(y[1], axis=0, keepdims=True)
    )
    d2 = jnp.where(anyone, d2, 0.0)
    m22 = jnp.where(anyone, m22, 1.0)
    d3 = (
        jnp.sum(y[2] * right[2] / a[2] - server_t * c_t / a_t, axis=0, keepdims=True)
        - (1.0 - jnp.sum(y[2], axis=0, keepdims=True))
        + server_target / point.server_price
    )
    determinant = jnp.maximum(m22 * m33 - m23**2, tiny)
    band_price_step = (m33 * d2 - m23 * d3) / determinant
    server_price_step = (m22 * d3 - m23 * d2) / determinant
    if fixed_prices:
        band_price_step, server_price_step = jnp.zeros_like(d2), jnp.zeros_like(d3)

    # Back substitution.
    idle = stages == 0  # a user without any stage would sink for ever
    dt = jnp.where(idle, 0.0, (c_t + band_t * band_price_step + server_t * server_price_step) / a_t)
    pull: tuple = (0.0, y[1] * band_price_step, y[2] * server_price_step)
    dx = tuple(
        jnp.where(here, (ri - wi * hi * dt - pi) / ai, 0.0)
        for ri, wi, hi, pi, ai, here in zip(right, w, slopes, pull, a, present, strict=True)
    )
    dslack = tuple(
        jnp.where(here, dt + hi * dxi + (t - gi - si), 0.0)
        for hi, dxi, gi, si, here in zip(slopes, dx, g, slack, present, strict=True)
    )
    dz = tuple(
        jnp.where(here, (target - zi * (si + dsi)) / si, 0.0)
        for zi, si, dsi, here in zip(z, slack, dslack, present, strict=True)
    )
    dq = jnp.where(present[0], (target + point.q * (dx[0] - gap_to_one)) / gap_to_one, 0.0)
    dr = jnp.where(idle, 0.0, (below / pair_sum) * load * dt + pair_error)
    server_slack_step = (
        server_target - point.server_slack * (point.server_price + server_price_step)
    ) / point.server_price

    return Iterate(
        x=dx,
        t=dt,
        slack=dslack,
        z=dz,
        q=dq,
        r=dr,
        band_price=band_price_step,
        server_price=server_price_step,
        server_slack=server_slack_step,
    )


def _advance(demand: Demand, point: Iterate, step: Iterate, config: SolverConfig, fixed_prices: bool) -> Iterate:
    """As far along a step as the interior allows, with one length for primal and one for dual variables."""
    eps, tiny = float(jnp.finfo(point.t.dtype).eps), float(jnp.finfo(point.t.dtype).tiny)
    load = demand.rate * jnp.exp(point.t)

    def room(value: Array, step: Array) -> Array:
        return jnp.where(step < 0, -config.to_boundary * value / jnp.minimum(step, -tiny), 1e30)

    def cap(step: Array) -> Array:
        return config.max_log_step / jnp.maximum(jnp.abs(step), tiny)

    primal_rooms = [
        *map(room, point.slack, step.slack),
        *map(cap, step.x),
        cap(step.t),
        room(-point.x[0], -step.x[0]),
        room(load - point.r, load * step.t - step.r),
        room(demand.knee - point.r, -step.r),
    ]
    dual_rooms = [*map(room, point.z, step.z), room(point.q, step.q)]
    primal, dual = (jnp.minimum(reduce(jnp.minimum, rooms), 1.0) for rooms in (primal_rooms, dual_rooms))
    if not fixed_prices:  # else users do not meet, and each has its own step
        primal = jnp.minimum(jnp.min(primal, axis=0, keepdims=True), room(point.server_slack, step.server_slack))
        dual = reduce(
            jnp.minimum,
            (
                jnp.min(dual, axis=0, keepdims=True),
                room(point.band_price, step.band_price),
                room(point.server_price, step.server_price),
            ),
        )
    length = Iterate(
        x=(primal,) * 3,
        t=primal,
        slack=(primal,) * 3,
        z=(dual,) * 3,
        q=dual,
        r=primal,
        band_price=dual,
        server_price=dual,
        server_slack=primal,
    )
    # A step that overflowed is not taken: the problem keeps its point.
    sane = jnp.isfinite(step.t) if fixed_prices else jnp.isfinite(jnp.sum(step.t, axis=0, keepdims=True))

    def move(value: Array, part: Array, change: Array) -> Array:
        return jnp.where(sane, value + part * change, value)

    moved = jax.tree.map(move, point, length, step)
    # The load is exponential in t: a linear step may leave r beyond it, or rounding put it there.
    limit = jnp.minimum(demand.rate * jnp.exp(moved.t), demand.knee) * (1.0 - 4.0 * eps)
    moved = moved.replace(
        r=jnp.minimum(moved.r, limit), slack=tuple(jnp.maximum(one, 0.01 * eps) for one in moved.slack)
    )
    if fixed_prices:
        return moved.replace(
            band_price=point.band_price, server_price=point.server_price, server_slack=point.server_slack
        )
    return moved

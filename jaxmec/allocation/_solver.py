"""A primal-dual interior-point method for the slot problem, with a fixed number of iterations.

In the logarithms of the shares and of every user's slowest stage time θ the problem is convex, and the
constraints "device stage at most θ" and "server stage at most θ" are linear. Users meet only in the two shared
budgets, so a Newton system is an arrow: three by three blocks that are eliminated in closed form, and a 2×2
system in the two prices. Nothing branches and nothing searches, so a batch of problems runs in lockstep.

Notation, per user: x = log share, t = log θ, g(x) = log stage time, h = -dg/dx (one for device and server),
σ = slack of g <= t, z = its multiplier, q = multiplier of "device share at most one". The waiting time has the
slope min(f'(λθ), f'(knee)); r <= min(λθ, knee) is the utilisation that produces it, and (λθ - r, knee - r) is
one more complementary pair. Prices: μ of the band (always used up), ν of the server (with slack S).

One iteration (`_direction`) eliminates in turn the stages' rows, the knee's pair and every user's θ; two prices
remain. It never forms a large multiplier times a small difference, which float32 would lose.
"""

from __future__ import annotations

import dataclasses
import math
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from jaxmec.allocation._problem import SlotProblem
from jaxmec.delay import waiting_slope, waiting_time

# Requests per second, and share of the price of delay on the waiting: they hold θ where nothing arrives and where
# nobody minds waiting. Small enough for the objective not to see them, in float64, too.
_STILL = 1e-12
_FIRST_SLACK = 0.5  # of the slowest stage, in log θ, where iterations start
_FIRST_MARGIN = 0.1  # in log share, to the budgets' end
_LEAST_LOG_SHARE = -28.0  # 1e-12, where iterations start
_NO_LOG_TIME = -20.0  # of a stage that a user skips


@dataclasses.dataclass(frozen=True)
class SolverConfig:
    """How the slot problem is solved; static and hashable."""

    iterations: int = 10  # of every problem in float32; float64 starts with eleven more
    tolerance: float | None = None  # certified relative gap that is good enough; 1e-5 in float32, 1e-10 in float64
    rescues: int = 6  # how many times a problem whose gap is larger gets six more iterations
    centring: float = 0.1  # target of an iteration, as a share of the present complementarity
    max_log_step: float = 3.0
    to_boundary: float = 0.95  # share of the way to the boundary that a step may go

    def __post_init__(self) -> None:
        for name, least in (("iterations", 1), ("rescues", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"SolverConfig.{name}: got {getattr(self, name)}; allowed is at least {least}")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"SolverConfig.tolerance: got {self.tolerance}; allowed is above 0, or None")
        for name in ("centring", "to_boundary"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"SolverConfig.{name}: got {getattr(self, name)}; allowed is between 0 and 1")

    def gap_tolerance(self, dtype: jnp.dtype) -> float:
        """The tolerance that holds for a dtype."""
        if self.tolerance is not None:
            return self.tolerance
        return 1e-5 if dtype == jnp.float32 else 1e-10


class Demand(struct.PyTreeNode):
    """A slot problem as the solver sees it; user leaves [N, ...], shared leaves [1, ...], any batch behind."""

    device_s: Array
    uplink_s: Array  # bits over band times ln 2: uplink time is uplink_s / (y log1p(snr / y))
    server_s: Array
    snr: Array
    rate: Array  # λ
    delay_price: Array
    waiting_price: Array  # of a second of M/D/1 waiting
    backlog_price: Array  # of a second of θ
    uplink_price: Array  # of a second of uplink: delay and transmit energy
    device_energy: Array  # price of the device's energy at full speed
    server_energy: Array
    knee: Array
    linear: Array | None = None  # bool: the uplink's rate is its share of a capacity; uplink time is uplink_s / y


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
    scale = 1.0 if problem.waiting_scale is None else problem.waiting_scale
    backlog_price = jnp.zeros_like(requests) if problem.backlog_price is None else problem.backlog_price
    uplink_s = problem.uplink_bits * (math.log(2.0) / problem.bandwidth_hz)
    linear = None
    if problem.capacity_bps is not None:
        linear = problem.capacity_bps > 0
        uplink_s = jnp.where(linear, problem.uplink_bits / jnp.where(linear, problem.capacity_bps, 1.0), uplink_s)
    return Demand(
        device_s=problem.device_work_s,
        uplink_s=uplink_s,
        server_s=problem.server_work_s,
        snr=problem.snr,
        rate=problem.arrival_rate_hz + _STILL,
        delay_price=problem.delay_price,
        waiting_price=problem.delay_price * scale,
        backlog_price=backlog_price * problem.arrival_rate_hz,
        uplink_price=problem.delay_price + device_price * problem.tx_power_w,
        device_energy=device_price * problem.device_power_w * problem.device_work_s,
        server_energy=problem.server_energy_price * problem.server_power_w * requests * problem.server_work_s,
        knee=jnp.expand_dims(problem.knee, 0),
        linear=linear,
    )


def iterate(demand: Demand, point: Iterate, number: int, config: SolverConfig) -> Iterate:
    """Some iterations of all problems, in lockstep."""

    def iteration(_: int, point: Iterate) -> Iterate:
        return _advance(demand, point, _direction(demand, point, config), config)

    return lax.fori_loop(0, number, iteration, point)


def shares(demand: Demand, point: Iterate) -> tuple[Array, ...]:
    """Feasible shares, zero where a stage is skipped."""
    here = present_stages(demand)
    device = jnp.where(here[0], jnp.minimum(jnp.exp(point.x[0]), 1.0), 0.0)
    band = jnp.where(here[1], jnp.exp(point.x[1]), 0.0)
    server = jnp.where(here[2], jnp.exp(point.x[2]), 0.0)
    band_total, server_total = total(band), total(server)
    band = band / jnp.where(band_total > 0, band_total, 1.0)
    server = server / jnp.maximum(server_total, 1.0)
    return device, band, server


def cost(demand: Demand, device: Array, band: Array, server: Array) -> Array:
    """The slot objective of shares [N, ...]: [...]."""
    here = present_stages(demand)
    device, band, server = (
        jnp.where(h & (y > 0), y, 1.0) for h, y in zip(here, (device, band, server), strict=True)
    )
    times = (
        demand.device_s / device,
        demand.uplink_s / (band * spectrum(demand, demand.snr / band)[0]),
        demand.server_s / server,
    )
    slowest = _larger(_larger(times[0], times[1]), times[2])
    own = (
        demand.delay_price * (times[0] + times[2])
        + waiting_cost(demand, slowest)
        + demand.uplink_price * times[1]
        + demand.device_energy * device**2
        + demand.server_energy * server**2
    )
    return total(own)[0]


def waiting_cost(demand: Demand, theta: Array) -> Array:
    """What a slowest time θ costs, [N, ...]: waiting, and requests that stay unfinished."""
    return demand.waiting_price * waiting_time(theta, demand.rate, demand.knee) + demand.backlog_price * theta


def waiting_pull(demand: Demand, theta: Array) -> Array:
    """Its derivative by log θ, [N, ...]."""
    slope = waiting_slope(jnp.minimum(demand.rate * theta, demand.knee))
    return theta * (demand.waiting_price * slope + demand.backlog_price)


def lagrangian(demand: Demand, point: Iterate) -> Array:
    """Objective plus multipliers times constraints, []; without the budgets, which do not depend on the demand."""
    present = present_stages(demand)
    g, _ = log_times(demand, point.x)
    prices = (demand.delay_price, demand.uplink_price, demand.delay_price)
    theta = jnp.exp(point.t)
    cost = jnp.where(number_of_stages(demand) > 0, waiting_cost(demand, theta), 0.0)
    for gi, zi, price, here in zip(g, point.z, prices, present, strict=True):
        cost += jnp.where(here, price * jnp.exp(gi) + zi * (gi - point.t), 0.0)
    cost += jnp.where(present[0], demand.device_energy * jnp.exp(2.0 * point.x[0]), 0.0)
    cost += jnp.where(present[2], demand.server_energy * jnp.exp(2.0 * point.x[2]), 0.0)
    return total(cost)[0]


def number_of_stages(demand: Demand) -> Array:
    """How many stages each user needs: [N, ...]."""
    return reduce(jnp.add, (here.astype(demand.rate.dtype) for here in present_stages(demand)))


def present_stages(demand: Demand) -> tuple[Array, ...]:
    """Which of device, uplink and server each user needs: bool[N, ...]."""
    return demand.device_s > 0, demand.uplink_s > 0, demand.server_s > 0


def _log(x: Array, present: Array) -> Array:
    return jnp.log(jnp.where(present, x, 1.0))


def log_times(demand: Demand, x: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array]:
    """Log stage times g at log shares x, and for the uplink h = -dg/dx; all [N, ...]."""
    present = present_stages(demand)
    nats, h, _ = spectrum(demand, demand.snr * jnp.exp(-x[1]))
    g = (
        _log(demand.device_s, present[0]) - x[0],
        _log(demand.uplink_s, present[1]) - x[1] - jnp.log(nats),
        _log(demand.server_s, present[2]) - x[2],
    )
    return g, h


def spectrum(demand: Demand, ratio: Array) -> tuple[Array, Array, Array]:
    """At snr / share: log1p of it; h = -d log time / d log share; and dh / d(-log share)."""
    nats = jnp.log1p(ratio)
    saturation = ratio / (1.0 + ratio)
    # 1 - efficiency cancels where the ratio is small; its series there.
    small = 0.02 if ratio.dtype == jnp.float32 else 1e-3
    h = jnp.where(ratio < small, ratio * (0.5 - ratio * (5 / 12 - 0.375 * ratio)), 1.0 - saturation / nats)
    h_slope = (1.0 - h) * (saturation - h)
    if demand.linear is None:
        return nats, h, h_slope
    return (
        jnp.where(demand.linear, 1.0, nats),
        jnp.where(demand.linear, 1.0, h),
        jnp.where(demand.linear, 0.0, h_slope),
    )


def start(demand: Demand) -> Iterate:
    """Square-root shares, re-weighted once towards each user's slowest stage, on the central path."""
    no_weight = jnp.zeros_like(demand.rate)
    x, g = _first_shares(demand, (no_weight,) * 3)
    slowest = _slowest(demand, g)
    pull = _first_waiting(demand, slowest + _FIRST_SLACK)[1] / jnp.exp(slowest + _FIRST_SLACK)
    x, g = _first_shares(demand, tuple(jnp.where(gi >= slowest, pull, 0.0) for gi in g))
    return _on_central_path(demand, x, g)


def _first_shares(demand: Demand, extra: tuple[Array, ...]) -> tuple:
    """Log shares and log times that balance each stage by itself, a second of it costing its price and extra."""
    present = present_stages(demand)
    tiny = float(jnp.finfo(demand.rate.dtype).tiny)
    nats, _, _ = spectrum(demand, demand.rate.shape[0] * demand.snr)
    work = (demand.device_s, demand.uplink_s / nats, demand.server_s)
    prices = (demand.delay_price, demand.uplink_price, demand.delay_price)
    weights = tuple((price + more) * s for price, more, s in zip(prices, extra, work, strict=True))

    def log_share(stage: int) -> Array:
        root = jnp.where(present[stage], jnp.sqrt(weights[stage]), 0.0)
        everyone = total(root)
        return _log(root / jnp.where(everyone > 0, everyone, 1.0), present[stage])

    def log_thrifty(stage: int, energy: Array) -> Array:
        """Where delay and energy balance: y³ = weight / (2 energy)."""
        return jnp.log(_larger(weights[stage], tiny) / _larger(2.0 * energy, tiny)) / 3.0

    server = _smaller(log_share(2) - _FIRST_MARGIN, log_thrifty(2, demand.server_energy))
    device = jnp.clip(log_thrifty(0, demand.device_energy), _LEAST_LOG_SHARE / 2, -_FIRST_MARGIN)
    x = (
        jnp.where(present[0], device, -1.0),
        jnp.where(present[1], _larger(log_share(1), _LEAST_LOG_SHARE), 0.0),
        jnp.where(present[2], _larger(server, _LEAST_LOG_SHARE), -_FIRST_MARGIN),
    )
    return x, log_times(demand, x)[0]


def _slowest(demand: Demand, g: tuple[Array, ...]) -> Array:
    """Log time of the slowest stage that a user needs."""
    present = present_stages(demand)
    return reduce(_larger, (jnp.where(here, gi, _NO_LOG_TIME) for gi, here in zip(g, present, strict=True)))


def _first_waiting(demand: Demand, t: Array) -> tuple[Array, Array]:
    """The knee's variable r with its pair at a hundredth of load times knee, and what it pulls at t."""
    load = demand.rate * jnp.exp(t)
    knee = jnp.broadcast_to(demand.knee, load.shape)
    # The smaller root of (load - r)(knee - r) = load knee / 100, without cancellation.
    r = 1.98 * load * knee / (load + knee + jnp.sqrt((load - knee) ** 2 + 0.04 * load * knee))
    return r, jnp.exp(t) * (demand.waiting_price * waiting_slope(r) + demand.backlog_price)


def _on_central_path(demand: Demand, x: tuple[Array, ...], g: tuple[Array, ...]) -> Iterate:
    """Slacks, multipliers and prices for given shares: every user's products are equal, rows nearly balance."""
    present = present_stages(demand)
    slowest = _slowest(demand, g)
    t = slowest + _FIRST_SLACK
    r, pull = _first_waiting(demand, t)
    slack = tuple(jnp.where(here, t - gi, 1.0) for gi, here in zip(g, present, strict=True))
    inverse = sum(jnp.where(here, 1.0 / s, 0.0) for s, here in zip(slack, present, strict=True))
    # Multipliers add up to the pull, or to a tenth of the slowest stage's own where hardly anyone waits.
    least = _FIRST_MARGIN * demand.delay_price * jnp.exp(slowest)
    product = _larger(pull, least) / jnp.where(inverse > 0, inverse, 1.0)
    z = tuple(jnp.where(here, product / s, 0.0) for s, here in zip(slack, present, strict=True))
    _, h = log_times(demand, x)
    band_pull = jnp.where(present[1], (demand.uplink_price * jnp.exp(g[1]) + z[1]) * h, 0.0)
    server_share = jnp.where(present[2], jnp.exp(x[2]), 0.0)
    server_cost = jnp.where(present[2], demand.delay_price * jnp.exp(g[2]), 0.0)
    server_pull = server_cost + z[2] - 2.0 * demand.server_energy * server_share**2
    sends, served = (jnp.any(here, axis=0, keepdims=True) for here in present[1:])
    return Iterate(
        x=x,
        t=t,
        slack=slack,
        z=z,
        q=jnp.where(present[0], product / -x[0], 0.0),
        r=r,
        band_price=jnp.where(sends, total(band_pull), 1.0),
        server_price=jnp.where(served, _larger(total(server_pull), total(_FIRST_MARGIN * server_cost)), 1.0),
        server_slack=1.0 - 0.999 * total(server_share),
    )


class _Local(NamedTuple):
    """What an iteration needs to know of a point; absent stages have share, time and residual zero."""

    present: tuple[Array, ...]
    y: tuple[Array, ...]  # shares
    theta: Array
    pull: tuple[Array, ...]  # price of a stage's time
    energy: tuple[Array, ...]  # price of a stage's energy; none for the uplink's, which is in its pull
    slopes: tuple[Array | float, ...]  # h
    h_slope: Array
    excess: tuple[Array, ...]  # residuals t - g - σ


def _local(demand: Demand, point: Iterate) -> _Local:
    present = present_stages(demand)
    share = tuple(jnp.exp(xi) for xi in point.x)
    theta = jnp.exp(point.t)
    nats, h, h_slope = spectrum(demand, demand.snr / share[1])
    speed = (share[0], share[1] * nats, share[2])
    work = (demand.device_s, demand.uplink_s, demand.server_s)
    prices = (demand.delay_price, demand.uplink_price, demand.delay_price)
    y = tuple(jnp.where(here, yi, 0.0) for yi, here in zip(share, present, strict=True))
    # log(θ / time) at once, so that it has no rounding of large logarithms near one.
    excess = (
        point.t + point.x[0] - _log(work[0], present[0]) - point.slack[0],
        jnp.log(theta * speed[1] / jnp.where(present[1], work[1], 1.0)) - point.slack[1],
        point.t + point.x[2] - _log(work[2], present[2]) - point.slack[2],
    )
    return _Local(
        present=present,
        y=y,
        theta=theta,
        pull=tuple(
            price * (jnp.where(here, amount, 0.0) / over)
            for price, here, amount, over in zip(prices, present, work, speed, strict=True)
        ),
        energy=(demand.device_energy * y[0] ** 2, jnp.zeros_like(theta), demand.server_energy * y[2] ** 2),
        slopes=(1.0, h, 1.0),
        h_slope=h_slope,
        excess=excess,
    )


class _Rows(NamedTuple):
    """The stages' rows, a dx + w h dt (+ y d price) = c + h e, divided by a = k + w h².

    What many others need ends in a division: XLA computes that once and copies what is cheaper into every reader.
    """

    w: tuple[Array, ...]
    e: tuple[Array, ...]
    c: tuple[Array, ...]
    inverse: tuple[Array, ...]  # 1 / a
    freedom: tuple[Array, ...]  # k / a, which is 1 - w h² / a without the cancellation
    own: tuple[Array, ...]  # (c + h e) / a: the step if t and prices stayed


class _Knee(NamedTuple):
    """The knee's pair, eliminated."""

    part: Array  # dr = part load dt + error
    error: Array
    pull: Array  # derivative of the waiting's cost by t
    curvature: Array  # derivative of that by r


class _Prices(NamedTuple):
    """Steps of the prices and of the server's slack, and what they add to the users' rows."""

    band: Array
    server: Array
    slack: Array
    rent: tuple[Array | float, ...]  # taken off the steps of the stages' shares
    dt: Array | float


def _direction(demand: Demand, point: Iterate, config: SolverConfig) -> Iterate:
    """The full Newton step towards the central path."""
    local = _local(demand, point)
    target = _target(demand, point, local, config)
    rows = _share_rows(point, local, target)
    knee = _knee_pair(demand, point, local.theta, config)
    load = demand.rate * local.theta
    # Row of t: a_t dt = c_t + Σ b_i d price_i.
    a_t = knee.pull + knee.curvature * knee.part * load
    c_t = -knee.pull - knee.curvature * knee.error
    for wi, ei, ci, vi, fi, hi in zip(
        rows.w, rows.e, rows.c, rows.inverse, rows.freedom, local.slopes, strict=True
    ):
        a_t += wi * fi
        c_t += ei * fi - wi * hi * ci * vi
    inverse_t = 1.0 / _larger(a_t, float(jnp.finfo(a_t.dtype).tiny))
    own_t = c_t * inverse_t
    prices = _price_steps(point, local, rows, own_t, inverse_t, config)
    idle = number_of_stages(demand) == 0  # a user without any stage would sink for ever
    dt = jnp.where(idle, 0.0, own_t + prices.dt)
    step = _back_substitution(point, local, rows, target, prices, dt)
    return step.replace(r=jnp.where(idle, 0.0, knee.part * load * dt + knee.error))


def _target(demand: Demand, point: Iterate, local: _Local, config: SolverConfig) -> Array:
    """Each user's own weight on the central path, so that cheap users do not wait for dear ones: [N, ...]."""
    pairs = sum(zi * si for zi, si in zip(point.z, point.slack, strict=True)) - point.q * point.x[0]
    number = number_of_stages(demand) + local.present[0].astype(pairs.dtype)
    # In proportion to the work, not to θ: θ itself is nearly free for a user with hardly any requests.
    least = 4.0 * float(jnp.finfo(pairs.dtype).eps) * sum(local.pull)
    return _larger(pairs * (config.centring / jnp.maximum(number, 1.0)), least)


def _share_rows(point: Iterate, local: _Local, target: Array) -> _Rows:
    """Slacks and multipliers eliminated from the rows of the shares."""
    present, pull, energy, slopes = local.present, local.pull, local.energy, local.slopes
    w = tuple(zi / si for zi, si in zip(point.z, point.slack, strict=True))
    e = tuple(
        jnp.where(here, target - zi * ri, 0.0) / si
        for zi, si, ri, here in zip(point.z, point.slack, local.excess, present, strict=True)
    )
    band_rent, server_rent = point.band_price * local.y[1], point.server_price * local.y[2]
    curvature = (
        pull[0] + 4.0 * energy[0] - point.q / point.x[0],
        pull[1] * slopes[1] ** 2 + (pull[1] + point.z[1]) * local.h_slope + band_rent,
        pull[2] + 4.0 * energy[2] + server_rent,
    )
    c = (
        jnp.where(present[0], pull[0] - 2.0 * energy[0] + target / point.x[0], 0.0),
        pull[1] * slopes[1] - band_rent,
        pull[2] - 2.0 * energy[2] - server_rent,
    )
    a = tuple(
        jnp.where(here, ki + wi * hi**2, 1.0)
        for ki, wi, hi, here in zip(curvature, w, slopes, present, strict=True)
    )
    inverse = tuple(1.0 / ai for ai in a)
    own = tuple(ci / ai + hi * ei * vi for ci, ai, hi, ei, vi in zip(c, a, slopes, e, inverse, strict=True))
    return _Rows(w, e, c, inverse, tuple(ki / ai for ki, ai in zip(curvature, a, strict=True)), own)


def _knee_pair(demand: Demand, point: Iterate, theta: Array, config: SolverConfig) -> _Knee:
    """(load - r)(knee - r) = its target, linearised, and the waiting's pull at r."""
    eps = float(jnp.finfo(theta.dtype).eps)
    load = demand.rate * theta
    above = _larger(load - point.r, eps * load)
    below = _larger(demand.knee - point.r, eps)
    part = below / (above + below)
    room = 1.0 / (1.0 - point.r)
    price = (demand.waiting_price + _STILL * demand.delay_price) * theta
    # The slope of the waiting time without the difference that vanishes at small loads.
    pull = 0.5 * price * point.r * (2.0 - point.r) * room**2
    return _Knee(
        part=part,
        error=(1.0 - config.centring) * above * part,
        pull=pull + demand.backlog_price * theta,
        curvature=price * room**3,
    )


def _price_steps(
    point: Iterate, local: _Local, rows: _Rows, own_t: Array, inverse_t: Array, config: SolverConfig
) -> _Prices:
    """The two budgets, once the users are eliminated: a symmetric system of two rows."""
    dtype = own_t.dtype
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    y, anyone = local.y, jnp.any(local.present[1], axis=0, keepdims=True)
    band_rent, server_rent = (y[i] * rows.inverse[i] for i in (1, 2))
    band_t, server_t = (rows.w[i] * local.slopes[i] * y[i] * rows.inverse[i] for i in (1, 2))
    m22 = total(y[1] * band_rent + band_t**2 * inverse_t)
    m23 = total(band_t * server_t * inverse_t)
    m33 = total(y[2] * server_rent + server_t**2 * inverse_t) + point.server_slack / point.server_price
    d2 = total(y[1] * rows.own[1] - band_t * own_t + y[1]) - 1.0
    d3 = total(y[2] * rows.own[2] - server_t * own_t + y[2]) - 1.0
    least = eps * (total(local.pull[2]) + tiny / eps)
    target = _larger(config.centring * point.server_price * point.server_slack, least)
    d3 += target / point.server_price
    d2, m22 = jnp.where(anyone, d2, 0.0), jnp.where(anyone, m22, 1.0)
    server = (m22 * d3 - m23 * d2) / _larger(m22 * m33 - m23**2, tiny)
    band = (d2 - m23 * server) / m22
    return _Prices(
        band=band,
        server=server,
        slack=target / point.server_price - point.server_slack * (1.0 + server / point.server_price),
        rent=(0.0, band_rent * band, server_rent * server),
        dt=(band_t * band + server_t * server) * inverse_t,
    )


def _back_substitution(
    point: Iterate, local: _Local, rows: _Rows, target: Array, prices: _Prices, dt: Array
) -> Iterate:
    """Steps of shares, slacks and multipliers from those of t and the prices."""
    present, slopes = local.present, local.slopes
    dx = tuple(
        jnp.where(here, oi - wi * hi * vi * dt - pi, 0.0)
        for oi, wi, hi, vi, pi, here in zip(
            rows.own, rows.w, slopes, rows.inverse, prices.rent, present, strict=True
        )
    )
    dslack = tuple(
        jnp.where(here, dt + hi * dxi + ri, 0.0)
        for hi, dxi, ri, here in zip(slopes, dx, local.excess, present, strict=True)
    )
    dz = tuple(
        jnp.where(here, (target - zi * dsi) / si - zi, 0.0)
        for zi, si, dsi, here in zip(point.z, point.slack, dslack, present, strict=True)
    )
    dq = -(target + point.q * dx[0]) / point.x[0] - point.q
    return Iterate(
        x=dx,
        t=dt,
        slack=dslack,
        z=dz,
        q=jnp.where(present[0], dq, 0.0),
        r=point.r,
        band_price=prices.band,
        server_price=prices.server,
        server_slack=prices.slack,
    )


def _advance(demand: Demand, point: Iterate, step: Iterate, config: SolverConfig) -> Iterate:
    """As far along a step as the interior allows.

    Each user has a primal and a dual length of its own, and so have the prices and the server's slack: one user at
    its boundary does not hold up the others, and the budgets, which this unbalances, balance in the next step.
    """
    dtype = point.t.dtype
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    load = demand.rate * jnp.exp(point.t)
    cap = config.to_boundary / config.max_log_step

    def length(*used: Array) -> Array:
        """From what a full step would use up of every room there is."""
        most = jnp.full_like(used[0], config.to_boundary)
        return config.to_boundary / reduce(lambda so_far, one: _larger(one, so_far), used, most)

    primal = length(
        *(-change / value for change, value in zip(step.slack, point.slack, strict=True)),
        *(cap * jnp.abs(change) for change in (*step.x, step.t)),
        -step.x[0] / point.x[0],
        (step.r - load * step.t) / _larger(load - point.r, eps * load),
        step.r / _larger(demand.knee - point.r, eps),
    )
    multipliers = ((*step.z, step.q), (*point.z, point.q))
    dual = length(*(-change / _larger(value, tiny) for change, value in zip(*multipliers, strict=True)))
    sane = jnp.isfinite(primal * step.t) & jnp.isfinite(dual)

    def move(value: Array, part: Array, change: Array) -> Array:
        return jnp.where(sane, value + part * change, value)

    t = move(point.t, primal, step.t)
    # The load is exponential in t: a linear step may leave r beyond it, or rounding put it there.
    limit = _smaller(demand.rate * jnp.exp(t), demand.knee) * (1.0 - 4.0 * eps)
    moved = point.replace(
        x=tuple(move(value, primal, change) for value, change in zip(point.x, step.x, strict=True)),
        t=t,
        slack=tuple(
            _larger(move(value, primal, change), 0.01 * eps)
            for value, change in zip(point.slack, step.slack, strict=True)
        ),
        z=tuple(move(value, dual, change) for value, change in zip(point.z, step.z, strict=True)),
        q=move(point.q, dual, step.q),
        r=_smaller(move(point.r, primal, step.r), limit),
    )
    price = length(-step.band_price / point.band_price, -step.server_price / point.server_price)
    price = jnp.where(jnp.isfinite(step.band_price + step.server_price), price, 0.0)
    slack = length(-step.server_slack / point.server_slack)

    def finite(change: Array) -> Array:
        return jnp.where(jnp.isfinite(change), change, 0.0)

    return moved.replace(
        band_price=point.band_price + price * finite(step.band_price),
        server_price=point.server_price + price * finite(step.server_price),
        server_slack=point.server_slack + slack * finite(step.server_slack),
    )


def total(values: Array) -> Array:
    """Sum over users, [N, ...] to [1, ...]."""
    return jnp.sum(values, axis=0, keepdims=True)


def _larger(a: Array, b: Array | float) -> Array:
    """Maximum in one instruction: a NaN in `a` is passed over."""
    return jnp.where(a > b, a, b)


def _smaller(a: Array, b: Array | float) -> Array:
    return jnp.where(a < b, a, b)

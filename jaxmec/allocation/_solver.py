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

_BLOCK = 16  # users whose sum is written out
_STILL = 1e-12  # requests per second; keeps the waiting time's logarithmic slopes finite where nothing arrives


@dataclasses.dataclass(frozen=True)
class SolverConfig:
    """How the slot problem is solved; static and hashable."""

    iterations: int = 10  # of every problem in float32; float64 starts with nine more
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
        rate=problem.arrival_rate_hz + _STILL,
        delay_price=problem.delay_price,
        uplink_price=problem.delay_price + device_price * problem.tx_power_w,
        device_energy=device_price * problem.device_power_w * problem.device_work_s,
        server_energy=problem.server_energy_price * problem.server_power_w * requests * problem.server_work_s,
        knee=jnp.expand_dims(problem.knee, 0),
    )


def iterate(demand: Demand, point: Iterate, number: int, config: SolverConfig) -> Iterate:
    """Some iterations of all problems, in lockstep."""

    def iteration(_: int, point: Iterate) -> Iterate:
        return _advance(demand, point, _direction(demand, point, config, False), config, False)

    return lax.fori_loop(0, number, iteration, point)


def solve_at_prices(demand: Demand, band_price: Array, server_price: Array, config: SolverConfig) -> Iterate:
    """Each user's best shares for itself when band and server have prices per share (above zero, [1, ...])."""
    uplink_s = demand.uplink_price * demand.uplink_s / jnp.log1p(demand.snr)

    def log_root(weight: Array) -> Array:
        return 0.5 * jnp.log(jnp.clip(weight, 1e-12, 0.8))

    point = start(
        demand,
        log_band_share=log_root(uplink_s / band_price),
        log_server_share=log_root(demand.delay_price * demand.server_s / server_price),
    )
    point = point.replace(band_price=band_price, server_price=server_price)

    def iteration(_: int, point: Iterate) -> Iterate:
        return _advance(demand, point, _direction(demand, point, config, True), config, True)

    return lax.fori_loop(0, config.iterations, iteration, point)


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
        demand.uplink_s / (band * jnp.log1p(demand.snr / band)),
        demand.server_s / server,
    )
    slowest = _larger(_larger(times[0], times[1]), times[2])
    own = (
        demand.delay_price * (times[0] + times[2] + waiting_time(slowest, demand.rate, demand.knee))
        + demand.uplink_price * times[1]
        + demand.device_energy * device**2
        + demand.server_energy * server**2
    )
    return total(own)[0]


def waiting_pull(demand: Demand, theta: Array) -> Array:
    """What a relative change of the slowest time θ costs: [N, ...]."""
    return demand.delay_price * theta * waiting_slope(jnp.minimum(demand.rate * theta, demand.knee))


def lagrangian(demand: Demand, point: Iterate) -> Array:
    """Objective plus multipliers times constraints, []; without the budgets, which do not depend on the demand."""
    present = present_stages(demand)
    g, _ = log_times(demand, point.x)
    prices = (demand.delay_price, demand.uplink_price, demand.delay_price)
    theta = jnp.exp(point.t)
    cost = jnp.where(
        number_of_stages(demand) > 0, demand.delay_price * waiting_time(theta, demand.rate, demand.knee), 0.0
    )
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
    nats, h, _ = _spectrum(demand.snr * jnp.exp(-x[1]))
    g = (
        _log(demand.device_s, present[0]) - x[0],
        _log(demand.uplink_s, present[1]) - x[1] - jnp.log(nats),
        _log(demand.server_s, present[2]) - x[2],
    )
    return g, h


def _stages(demand: Demand, point: Iterate) -> tuple:
    """Shares y, θ, stage times, h, its slope, and the residuals t - g - σ; absent stages have y and time zero."""
    present = present_stages(demand)
    y = tuple(jnp.where(here, jnp.exp(xi), 0.0) for xi, here in zip(point.x, present, strict=True))
    theta = jnp.exp(point.t)
    band = jnp.exp(point.x[1])
    nats, h, h_slope = _spectrum(demand.snr / band)
    rate = band * nats
    times = tuple(
        jnp.where(here, work, 0.0) / over
        for here, work, over in zip(
            present,
            (demand.device_s, demand.uplink_s, demand.server_s),
            (jnp.exp(point.x[0]), rate, jnp.exp(point.x[2])),
            strict=True,
        )
    )
    # log(θ / time) at once, so that it has no rounding of large logarithms near one.
    excess = (
        point.t + point.x[0] - _log(demand.device_s, present[0]) - point.slack[0],
        jnp.log(theta * rate / jnp.where(present[1], demand.uplink_s, 1.0)) - point.slack[1],
        point.t + point.x[2] - _log(demand.server_s, present[2]) - point.slack[2],
    )
    return y, theta, times, h, h_slope, excess


def _spectrum(ratio: Array) -> tuple[Array, Array, Array]:
    """At snr / share: log1p of it; h = -d log time / d log share; and dh / d(-log share)."""
    nats = jnp.log1p(ratio)
    saturation = ratio / (1.0 + ratio)
    # 1 - efficiency cancels where the ratio is small; its series there.
    small = 0.02 if ratio.dtype == jnp.float32 else 1e-3
    h = jnp.where(ratio < small, ratio * (0.5 - ratio * (5 / 12 - 0.375 * ratio)), 1.0 - saturation / nats)
    return nats, h, (1.0 - h) * (saturation - h)


def start(demand: Demand, log_band_share: Array | None = None, log_server_share: Array | None = None) -> Iterate:
    """Square-root shares, re-weighted once towards each user's slowest stage, on the central path.

    Given shares are taken instead.
    """
    present = present_stages(demand)
    tiny = float(jnp.finfo(demand.rate.dtype).tiny)

    def log_share(weight: Array, here: Array) -> Array:
        root = jnp.where(here, jnp.sqrt(weight), 0.0)
        all_roots = total(root)
        return jnp.where(here, _log(root / jnp.where(all_roots > 0, all_roots, 1.0), here), 0.0)

    def log_thrifty(weight: Array, energy: Array) -> Array:
        """Where delay and energy balance: y³ = weight / (2 energy)."""
        return jnp.log(_larger(weight, tiny) / _larger(2.0 * energy, tiny)) / 3.0

    num_users = demand.rate.shape[0]
    work = (demand.device_s, demand.uplink_s / jnp.log1p(num_users * demand.snr), demand.server_s)
    prices = (demand.delay_price, demand.uplink_price, demand.delay_price)
    extra: tuple = (0.0, 0.0, 0.0)
    for _ in range(2):
        weights = tuple((price + more) * s for price, more, s in zip(prices, extra, work, strict=True))
        device, server = (
            log_thrifty(weights[0], demand.device_energy),
            log_thrifty(weights[2], demand.server_energy),
        )
        part = log_share(weights[2], present[2]) - 0.1 if log_server_share is None else log_server_share
        x = (
            jnp.where(present[0], jnp.clip(device, -14.0, -0.1), -1.0),
            _larger(log_share(weights[1], present[1]) if log_band_share is None else log_band_share, -28.0),
            jnp.where(present[2], _larger(_smaller(part, server), -28.0), -0.1),
        )
        g, h = log_times(demand, x)
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
        band_price=jnp.where(jnp.any(present[1], axis=0, keepdims=True), total(uplink_pull), 1.0),
        server_price=jnp.where(
            jnp.any(present[2], axis=0, keepdims=True),
            _larger(total(server_pull), total(server_push)),
            1.0,
        ),
        server_slack=1.0 - 0.999 * total(server_share),
    )


def _direction(demand: Demand, point: Iterate, config: SolverConfig, fixed_prices: bool) -> Iterate:
    """The full Newton step towards the central path."""
    present = present_stages(demand)
    dtype = point.t.dtype
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    x, slack, z = point.x, point.slack, point.z
    y, theta, times, h, h_slope, excess = _stages(demand, point)
    slopes: tuple = (1.0, h, 1.0)
    gap_to_one = -x[0]

    # Each user's own weight on the central path, so that cheap users do not wait for dear ones.
    pairs = sum(zi * si for zi, si in zip(z, slack, strict=True)) + point.q * gap_to_one
    stages = number_of_stages(demand)
    number = stages + present[0].astype(dtype)
    pull: tuple = (demand.delay_price * times[0], demand.uplink_price * times[1], demand.delay_price * times[2])
    # In proportion to the work, not to θ: θ itself is nearly free for a user with hardly any requests.
    floor = 4.0 * eps * sum(pull)
    target = _larger(pairs * (config.centring / jnp.maximum(number, 1.0)), floor)

    # Rows of the shares: a_i dx_i + w_i h_i dt (+ y_i d price) = c_i + h_i e_i, divided by a_i. What many
    # others need ends in a division: XLA computes that once and copies what is cheaper into every reader.
    w = tuple(zi / si for zi, si in zip(z, slack, strict=True))
    e = tuple(
        jnp.where(here, target - zi * ri, 0.0) / si
        for zi, si, ri, here in zip(z, slack, excess, present, strict=True)
    )
    energy: tuple = (demand.device_energy * y[0] ** 2, demand.server_energy * y[2] ** 2)
    band_rent, server_rent = point.band_price * y[1], point.server_price * y[2]
    to_one, q_scaled = target / gap_to_one, point.q / gap_to_one
    curvature: tuple = (
        pull[0] + 4.0 * energy[0] + q_scaled,
        pull[1] * h**2 + (pull[1] + z[1]) * h_slope + band_rent,
        pull[2] + 4.0 * energy[1] + server_rent,
    )
    c: tuple = (
        jnp.where(present[0], pull[0] - 2.0 * energy[0] - to_one, 0.0),
        pull[1] * h - band_rent,
        pull[2] - 2.0 * energy[1] - server_rent,
    )
    # The matrix does not take part in differentiation; see `refine`.
    curvature, w = (curvature, w)
    a = tuple(
        (jnp.where(here, ki + wi * hi**2, 1.0))
        for ki, wi, hi, here in zip(curvature, w, slopes, present, strict=True)
    )
    inverse_a = tuple(1.0 / ai for ai in a)
    freedom = tuple(ki / ai for ki, ai in zip(curvature, a, strict=True))
    free = tuple(ci / ai for ci, ai in zip(c, a, strict=True))
    own = tuple(fi + hi * ei * vi for fi, hi, ei, vi in zip(free, slopes, e, inverse_a, strict=True))

    # The knee's pair, eliminated.
    load = demand.rate * theta
    above = _larger(load - point.r, eps * load)
    below = _larger(demand.knee - point.r, eps)
    part = below / (above + below)
    pair_error = above * part - (config.centring * above * part)
    room = 1.0 / (1.0 - point.r)
    # The slope of the waiting time without the difference that vanishes at small loads.
    wait = 0.5 * demand.delay_price * theta * point.r * (2.0 - point.r) * room**2
    wait_curvature = demand.delay_price * theta * room**3

    # Row of t: a_t dt = c_t + Σ b_i d price_i, with 1 - w h² / a written as k / a, in which nothing cancels.
    a_t = wait + wait_curvature * part * load
    c_t = -wait - wait_curvature * pair_error
    for fi, wi, ei, hi, ci in zip(freedom, w, e, slopes, free, strict=True):
        a_t += wi * fi
        c_t += ei * fi - wi * hi * ci
    inverse_t = 1.0 / _larger(a_t, tiny)
    own_t = c_t / (_larger(a_t, tiny))

    idle = stages == 0  # a user without any stage would sink for ever
    if fixed_prices:
        band_step, server_step, server_slack_step = (jnp.zeros_like(point.server_slack),) * 3
        rent: tuple = (0.0, 0.0, 0.0)
        dt = own_t
    else:
        # The two prices.
        band_row, server_row = (((y[i]), (y[i] * inverse_a[i])) for i in (1, 2))
        band_t, server_t = ((w[i] * slopes[i] * y[i] * inverse_a[i]) for i in (1, 2))
        m22 = total(band_row[0] * band_row[1] + band_t**2 * inverse_t)
        m23 = total(band_t * server_t * inverse_t)
        m33 = total(server_row[0] * server_row[1] + server_t**2 * inverse_t)
        d2 = total(band_row[0] * own[1] - band_t * own_t + y[1]) - 1.0
        d3 = total(server_row[0] * own[2] - server_t * own_t + y[2]) - 1.0
        floor = eps * (total((pull[2])) + tiny / eps)
        server_target = _larger(config.centring * point.server_price * point.server_slack, floor)
        m33 += point.server_slack / point.server_price
        d3 += server_target / point.server_price
        anyone = jnp.any(present[1], axis=0, keepdims=True)
        d2, m22 = jnp.where(anyone, d2, 0.0), jnp.where(anyone, m22, 1.0)
        server_step = (m22 * d3 - m23 * d2) / (_larger(m22 * m33 - m23**2, tiny))
        band_step = (d2 - m23 * server_step) / m22
        server_slack_step = server_target / point.server_price - point.server_slack * (
            1.0 + server_step / point.server_price
        )
        rent = (0.0, band_row[1] * band_step, server_row[1] * server_step)
        dt = own_t + (band_t * band_step + server_t * server_step) * inverse_t

    # Back substitution.
    dt = jnp.where(idle, 0.0, dt)
    dx = tuple(
        jnp.where(here, oi - wi * hi * vi * dt - pi, 0.0)
        for oi, wi, hi, vi, pi, here in zip(own, w, slopes, inverse_a, rent, present, strict=True)
    )
    dslack = tuple(
        jnp.where(here, dt + hi * dxi + ri, 0.0)
        for hi, dxi, ri, here in zip(slopes, dx, excess, present, strict=True)
    )
    dz = tuple(
        jnp.where(here, (target - zi * dsi) / si - zi, 0.0)
        for zi, si, dsi, here in zip(z, slack, dslack, present, strict=True)
    )
    return Iterate(
        x=dx,
        t=dt,
        slack=dslack,
        z=dz,
        q=jnp.where(present[0], to_one - point.q + q_scaled * dx[0], 0.0),
        r=jnp.where(idle, 0.0, part * load * dt + pair_error),
        band_price=band_step,
        server_price=server_step,
        server_slack=server_slack_step,
    )


def _advance(demand: Demand, point: Iterate, step: Iterate, config: SolverConfig, fixed_prices: bool) -> Iterate:
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
    if fixed_prices:
        return moved
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
    """Sum over users, [N, ...] to [1, ...].

    Written out, it fuses and runs along the batch; a reduction would run within a problem's few users.
    """
    num_users = values.shape[0]
    if num_users <= _BLOCK:
        return reduce(jnp.add, (values[n : n + 1] for n in range(num_users)))
    whole = num_users // _BLOCK
    blocks = values[: whole * _BLOCK].reshape(whole, _BLOCK, *values.shape[1:])
    sums = total(reduce(jnp.add, (blocks[:, n] for n in range(_BLOCK))))
    return sums if whole * _BLOCK == num_users else sums + total(values[whole * _BLOCK :])


def _larger(a: Array, b: Array | float) -> Array:
    """Maximum in one instruction: a NaN in `a` is passed over."""
    return jnp.where(a > b, a, b)


def _smaller(a: Array, b: Array | float) -> Array:
    return jnp.where(a < b, a, b)

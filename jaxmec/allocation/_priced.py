"""What a user pays at given prices of band and server: the inner problem of the Lagrangian dual.

At given prices users do not meet, and a user's three stages meet only in its slowest time θ. So its best shares
are one root: the waiting time's pull towards a smaller θ balances what the stages save by a larger one.

Notation as in `_solver`: x = log share, t = log θ, g = log stage time, h = -dg/dx, z = multiplier of g <= t.
Leaves of users are [R, ...], shared ones [1, ...], where a row is a user or one of its cuts.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxmec.allocation import _solver
from jaxmec.allocation._certificate import user_bounds
from jaxmec.allocation._solver import Demand, Iterate

_LEAST_LOG_SHARE = -30.0
_NO_TIME = -60.0  # logarithm of a stage that is skipped
_STAGE_STEPS = 4  # of Newton's method for one stage: it starts near, and slopes lie between 1 and 3
_FURTHER_STEPS = 10  # of the search for θ in float64, whose certificate asks for ever closer guesses
_INVERSE_STEPS = 2  # of Newton's method per step in θ, for the band share that sends in that time

Stages = tuple[Array, Array, Array]  # of device, uplink, server


class Priced(NamedTuple):
    """What every row costs at given prices, and what it uses, each [R, ...]."""

    cost: Array  # least cost plus rent, certified from below
    band: Array  # share of the band that it takes: the cost's derivative by the band's price
    server: Array


def priced_costs(demand: Demand, band_price: Array, server_price: Array, steps: int) -> Priced:
    """Each row's least cost plus rent over its shares, each in (0, 1].

    Args:
      demand: rows [R, ...].
      band_price: [1, ...] per share, at least zero.
      server_price: [1, ...] likewise.
      steps: of the search for θ; float64 takes `_FURTHER_STEPS` more.
    """
    further = 0 if demand.rate.dtype == jnp.float32 else _FURTHER_STEPS
    point = _best_point(demand, band_price, server_price, steps + further)
    here = _solver.present_stages(demand)
    band, server = (jnp.where(here[i], jnp.exp(point.x[i]), 0.0) for i in (1, 2))
    return Priced(user_bounds(demand, point), band, server)


def _best_point(demand: Demand, band_price: Array, server_price: Array, steps: int) -> Iterate:
    """Each row's best shares with their multipliers; the leaves that the certificate does not read are zero."""
    tiny = float(jnp.finfo(demand.rate.dtype).tiny)
    zero = jnp.zeros_like(demand.device_s)
    rents = (zero, zero + jnp.maximum(band_price, tiny), zero + jnp.maximum(server_price, tiny))
    here = _solver.present_stages(demand)
    alone = _alone(demand, rents)
    t, band_x, slowest = _slowest_time(demand, rents, alone, steps)

    in_time = _in_time(demand, t, band_x)
    x = (_slower(alone[0], in_time[0]), _slower(alone[1], in_time[1]), _slower(alone[2], in_time[2]))
    wanted, _ = _waiting_pull(demand, t)
    savings, _ = _savings(demand, rents, x, t)
    asked = [jnp.where(h & (one > 0), one, 0.0) for one, h in zip(savings, here, strict=True)]
    # What the others do not take is the slowest stage's: it has all there is, or θ is not exact.
    rest = jnp.maximum(wanted - sum(asked), 0.0)
    asked = [one + jnp.where(slowest == i, rest, 0.0) for i, one in enumerate(asked)]
    scale = wanted / jnp.maximum(sum(asked), tiny)
    z = (asked[0] * scale, asked[1] * scale, asked[2] * scale)
    return Iterate(
        x=_settled(demand, rents, x, z),
        t=t,
        slack=(zero, zero, zero),
        z=z,
        q=zero,
        r=zero,
        band_price=rents[1],
        server_price=rents[2],
        server_slack=zero,
    )


def _alone(demand: Demand, rents: Stages) -> Stages:
    """Log shares that each stage would take if nobody waited."""
    tiny = float(jnp.finfo(demand.rate.dtype).tiny)

    def log(value: Array) -> Array:
        return jnp.log(jnp.maximum(value, tiny))

    device = (log(demand.delay_price * demand.device_s) - log(2.0 * demand.device_energy)) / 3.0

    # 2 E y³ + ν y² = price work: in logarithms convex and increasing, and this start lies above.
    gain, energy, rent = log(demand.delay_price * demand.server_s), log(2.0 * demand.server_energy), log(rents[2])

    def step(_: int, x: Array) -> Array:
        cubic, square = energy + 3.0 * x, rent + 2.0 * x
        both = jnp.logaddexp(cubic, square)
        return x - (both - gain) / (2.0 + jnp.exp(cubic - both))

    server = lax.fori_loop(0, _STAGE_STEPS, step, jnp.minimum((gain - energy) / 3.0, (gain - rent) / 2.0))
    unloaded = log(demand.uplink_price * demand.uplink_s / _solver.spectrum(demand, demand.snr)[0])
    band = _settled_band(demand, rents[1], _as_share(0.5 * (unloaded - log(rents[1]))), jnp.zeros_like(gain))
    return _as_share(device), band, _as_share(server)


def _slowest_time(demand: Demand, rents: Stages, alone: Stages, steps: int) -> tuple[Array, Array, Array]:
    """Slowest time t of the best shares, the log band share that sends in that time, and the slowest stage.

    Newton's method inside a bracket. Its variable is the log odds of the utilisation λθ, continued past the knee:
    in it the waiting time's pull is nearly a power, however close to saturation.
    """
    here = _solver.present_stages(demand)
    dtype = demand.rate.dtype
    still, tiny = 64.0 * float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    zero = jnp.zeros_like(alone[0])
    (least, full), (most, slow) = _slowest(demand, (zero, zero, zero)), _slowest(demand, alone)

    def step(_: int, state: tuple) -> tuple:
        low, high, odds, band, last = state
        t = _from_odds(demand, odds)
        band = _band_in_time(demand, t, band)
        savings, slopes = _savings(demand, rents, _in_time(demand, t, band), t)
        pull, pull_slope = _waiting_pull(demand, t)
        asked = [h & (one > 0) for one, h in zip(savings, here, strict=True)]
        saving = sum(jnp.where(a, one, 0.0) for one, a in zip(savings, asked, strict=True)) + tiny
        saving_slope = sum(jnp.where(a, one, 0.0) for one, a in zip(slopes, asked, strict=True))
        low, high = jnp.where(pull < saving, odds, low), jnp.where(pull < saving, high, odds)

        def trusted(move: Array) -> Array:
            """Inside the bracket, and not as long as the last: two points could take turns."""
            inside = (odds + move >= low) & (odds + move <= high)
            return inside & ((jnp.abs(move) < 0.7 * last) | (jnp.abs(move) < still))

        # Far below the root both sides are powers of θ; near the end of the stages' savings they are not.
        spread = 1.0 - jnp.minimum(demand.rate * jnp.exp(t), demand.knee)
        by_log = jnp.log(saving / pull) / (pull_slope / pull + saving_slope / saving) / spread
        plain = (saving - pull) / (pull_slope + saving_slope) / spread
        halfway = 0.5 * (low + high) - odds
        move = jnp.where(trusted(by_log), by_log, jnp.where(trusted(plain), plain, halfway))
        return low, high, odds + move, band, jnp.abs(move)

    least_odds = _to_odds(demand, least)
    start = (least_odds, _to_odds(demand, most), least_odds, zero, jnp.full_like(least, jnp.inf))
    _, high, odds, band, _ = lax.fori_loop(0, steps, step, start)
    at_full = high <= least_odds  # some stage has a whole budget to itself and would still be faster
    t = jnp.where(at_full, least, _from_odds(demand, odds))
    return t, _band_in_time(demand, t, band), jnp.where(at_full, full, slow)


def _slowest(demand: Demand, x: Stages) -> tuple[Array, Array]:
    """Slowest time t at log shares, and which stage it is."""
    g, _ = _solver.log_times(demand, x)
    times = [jnp.where(h, one, _NO_TIME) for one, h in zip(g, _solver.present_stages(demand), strict=True)]
    slowest = jnp.where((times[0] >= times[1]) & (times[0] >= times[2]), 0, jnp.where(times[1] >= times[2], 1, 2))
    return jnp.maximum(jnp.maximum(times[0], times[1]), times[2]), slowest


def _to_odds(demand: Demand, t: Array) -> Array:
    log_load, log_knee = t + jnp.log(demand.rate), jnp.log(demand.knee)
    below = jnp.minimum(log_load, log_knee)
    return below - jnp.log1p(-jnp.exp(below)) + jnp.maximum(log_load - log_knee, 0.0) / (1.0 - demand.knee)


def _from_odds(demand: Demand, odds: Array) -> Array:
    below = jnp.minimum(odds, jnp.log(demand.knee) - jnp.log1p(-demand.knee))
    return (odds - below) * (1.0 - demand.knee) - jax.nn.softplus(-below) - jnp.log(demand.rate)


def _in_time(demand: Demand, t: Array, band_x: Array) -> Stages:
    """Log shares at which every stage takes exp(t), the uplink's as given."""
    here = _solver.present_stages(demand)
    device, server = (
        jnp.log(jnp.where(h, work, 1.0)) - t
        for h, work in ((here[0], demand.device_s), (here[2], demand.server_s))
    )
    return device, band_x, server


def _band_in_time(demand: Demand, t: Array, x: Array) -> Array:
    for _ in range(_INVERSE_STEPS):
        g, h, _ = _uplink(demand, x)
        x = _as_share(x + (g - t) / h)
    return x


def _uplink(demand: Demand, x: Array) -> tuple[Array, Array, Array]:
    """Log uplink time at a log share; h = -d of it / dx; and dh / d(-x)."""
    g, h = _solver.log_times(demand, (x, x, x))
    return g[1], h, _solver.spectrum(demand, demand.snr * jnp.exp(-x))[2]


def _waiting_pull(demand: Demand, t: Array) -> tuple[Array, Array]:
    """Derivative by t of what waiting and backlog cost, above zero, and the derivative of that."""
    theta = jnp.exp(t)
    load = demand.rate * theta
    r = jnp.minimum(load, demand.knee)
    pull = jnp.maximum(_solver.waiting_pull(demand, theta), float(jnp.finfo(t.dtype).tiny))
    return pull, pull + jnp.where(load < demand.knee, demand.waiting_price * theta * load / (1.0 - r) ** 3, 0.0)


def _savings(demand: Demand, rents: Stages, x: Stages, t: Array) -> tuple[Stages, Stages]:
    """What each stage, taking exp(t) at log shares x, would save per unit of t; and minus its derivative by t."""
    _, h, h_slope = _uplink(demand, x[1])
    theta = jnp.exp(t)
    own, sending = demand.delay_price * theta, demand.uplink_price * theta
    device, server = demand.device_energy * jnp.exp(2.0 * x[0]), demand.server_energy * jnp.exp(2.0 * x[2])
    band_rent, server_rent = rents[1] * jnp.exp(x[1]) / h, rents[2] * jnp.exp(x[2])
    savings = (2.0 * device - own, band_rent - sending, 2.0 * server + server_rent - own)
    slopes = (
        4.0 * device + own,
        band_rent * (1.0 + h_slope / h) / h + sending,
        4.0 * server + server_rent + own,
    )
    return savings, slopes


def _settled(demand: Demand, rents: Stages, x: Stages, z: Stages) -> Stages:
    """Log shares moved to the minimum of each stage's part of the Lagrangian."""
    g, _ = _solver.log_times(demand, x)

    def newton(stage: int, energy: Array) -> Array:
        time, burn = demand.delay_price * jnp.exp(g[stage]), energy * jnp.exp(2.0 * x[stage])
        rent = rents[stage] * jnp.exp(x[stage])
        step = (time + z[stage] - 2.0 * burn - rent) / (time + 4.0 * burn + rent)
        return _as_share(x[stage] + jnp.clip(step, -0.5, 0.5))

    band = _settled_band(demand, rents[1], x[1], z[1])
    return newton(0, demand.device_energy), band, newton(2, demand.server_energy)


def _settled_band(demand: Demand, rent: Array, x: Array, z: Array) -> Array:
    """The log share at which (price time + z) h = rent share, by Newton's method in logarithms from a guess."""

    def step(_: int, x: Array) -> Array:
        g, h, h_slope = _uplink(demand, x)
        time = demand.uplink_price * jnp.exp(g)
        error = jnp.log((time + z) * h / rent) - x
        return _as_share(x + error / (time / (time + z) * h + h_slope / h + 1.0))

    return lax.fori_loop(0, _STAGE_STEPS, step, x)


def _slower(alone: Array, in_time: Array) -> Array:
    """The larger log share of the two, at most zero."""
    return jnp.minimum(jnp.maximum(alone, in_time), 0.0)


def _as_share(x: Array) -> Array:
    return jnp.clip(x, _LEAST_LOG_SHARE, 0.0)

"""End-to-end delay of requests that pass device, uplink and server one after the other.

Arrivals are Poisson of rate λ, service at each stage takes a fixed time s_i, order is first come first served,
buffers are unlimited. Then all waiting in the series equals the waiting before its slowest stage alone, an
M/D/1 queue with service time θ = max s_i:

    D = Σ s_i + λ θ² / (2 (1 - λ θ)),

exact for any order of the stages. Source: H. D. Friedman, "Reduction Methods for Tandem Queuing Systems",
Operations Research 13(1):121-131 (1965).

Arrivals that are not Poisson get a factor on the waiting time, `waiting_scale` = c_a² + c_s² with c_s = 0 for
fixed service and c_a the coefficient of variation of the times between arrivals: 1 is exact for Poisson arrivals,
0 for clocked ones below λ θ = 1, anything else an approximation. Source: J. F. C. Kingman, "The single server
queue in heavy traffic", Mathematical Proceedings of the Cambridge Philosophical Society 57(4):902-904 (1961). The
reduction to the slowest stage holds for any arrivals.

Past a utilisation λ θ = `knee` the waiting time continues along its tangent: convex, finite and increasing, so
that an overloaded slot has a large delay and a useful gradient instead of an infinite one.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def serial_delay(
    stage_times: Array, arrival_rate_hz: Array, knee: Array | float, waiting_scale: Array | float = 1.0
) -> Array:
    """Mean end-to-end delay.

    Args:
      stage_times: service times, s, [..., 3]; absent stages take zero seconds.
      arrival_rate_hz: requests per second, [...].
      knee: utilisation in (0, 1) past which the waiting time is linear.
      waiting_scale: factor on the waiting time, [...] or []: 1 for Poisson arrivals, 0 for clocked ones, above 1
        for bursts; the squared coefficient of variation of the times between arrivals.

    Returns:
      Seconds, [...].
    """
    slowest = jnp.max(stage_times, axis=-1)
    return jnp.sum(stage_times, axis=-1) + waiting_time(slowest, arrival_rate_hz, knee, waiting_scale)


def independent_delay(
    stage_times: Array, arrival_rate_hz: Array, knee: Array | float, waiting_scale: Array | float = 1.0
) -> Array:
    """Mean delay if every stage saw Poisson arrivals of its own: three M/D/1 queues, added.

    Widespread and wrong for a series: departures of a stage are spaced by its service time, so later stages
    wait less, and three equal stages are overestimated threefold. For comparison only. Arguments as for
    `serial_delay`.
    """
    scale = waiting_scale if jnp.ndim(waiting_scale) == 0 else jnp.expand_dims(waiting_scale, -1)
    waiting = waiting_time(stage_times, jnp.expand_dims(arrival_rate_hz, -1), knee, scale)
    return jnp.sum(stage_times + waiting, axis=-1)


def waiting_time(
    service_s: Array, arrival_rate_hz: Array, knee: Array | float, waiting_scale: Array | float = 1.0
) -> Array:
    """Scale times the mean M/D/1 waiting time λ s² / (2 (1 - λ s)), s; past λ s = knee it follows its tangent."""
    utilisation = arrival_rate_hz * service_s
    below = jnp.minimum(utilisation, knee)
    at_knee = 0.5 * service_s * below / (1.0 - below)
    # Past the knee, in units of 1/λ: f(k) + f'(k) (ρ - k), divided by ρ so that it multiplies service_s.
    slope = waiting_slope(knee)
    safe = jnp.where(utilisation > knee, utilisation, 1.0)
    tangent = service_s * (slope + (0.5 * knee**2 / (1.0 - knee) - slope * knee) / safe)
    return waiting_scale * jnp.where(utilisation > knee, tangent, at_knee)


def waiting_slope(utilisation: Array | float) -> Array | float:
    """Derivative of the M/D/1 waiting time by the service time: ((1 - ρ)⁻² - 1) / 2, dimensionless."""
    return 0.5 * ((1.0 - utilisation) ** -2 - 1.0)

"""Requests through device, uplink and server one after the other, first come first served.

A stage begins a request when the request is there and the stage is free (D. V. Lindley, "The theory of queues with a
single server", Mathematical Proceedings of the Cambridge Philosophical Society 48(2) (1952)):

    departure_i = max(departure_{i-1}, free_i) + service_i,        free_i <- departure_i.

Every request passes all three stages in order, in no time where its cut skips one. So a user's requests leave every
stage in the order in which they came, and one that skips a stage waits for those before it that do not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

UNROLL = 4  # requests per step of the loop, whose operations a CPU then runs at once


def serve(arrival_s: Array, count: Array, stage_times: Array, backlog_s: Array) -> tuple[Array, Array]:
    """Serve the requests of one slot.

    Args:
      arrival_s: [R, N] since the slot began, ascending.
      count: int32[N] how many of them there are.
      stage_times: service times, s: [N, 3]; a request keeps those of the slot in which it arrived.
      backlog_s: [N, 3] time after the slot's start at which each stage has finished what arrived before.

    Returns:
      departure_s [R, N, 3] from every stage, since the slot began; without meaning past `count`;
      free_s [N, 3] when each stage has finished them all.
    """
    services = _stages(stage_times)

    def request(free: tuple[Array, ...], one: tuple[Array, Array]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        arrival, number = one
        departures, departure = [], arrival
        for stage_free, service in zip(free, services, strict=True):
            departure = jnp.maximum(departure, stage_free) + service
            departures.append(departure)
        exists = number < count
        after = (jnp.where(exists, new, old) for new, old in zip(departures, free, strict=True))
        return tuple(after), tuple(departures)

    numbers = jnp.arange(arrival_s.shape[0], dtype=count.dtype)
    free, departures = jax.lax.scan(request, _stages(backlog_s), (arrival_s, numbers), unroll=UNROLL)
    return jnp.stack(departures, axis=-1), jnp.stack(free, axis=-1)


def _stages(values: Array) -> tuple[Array, ...]:
    """[N, 3] as three of [N]."""
    return values[:, 0], values[:, 1], values[:, 2]

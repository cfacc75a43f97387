"""Requests through device, uplink and server one after the other, first come first served.

A stage begins a request when the request is there and the stage is free (D. V. Lindley, "The theory of queues with a
single server", Mathematical Proceedings of the Cambridge Philosophical Society 48(2) (1952)):

    departure_i = max(departure_{i-1}, free_i) + service_i,        free_i <- departure_i.

Every request passes all three stages in order, in no time where its cut skips one. So a user's requests leave every
stage in the order in which they came, and one that skips a stage waits for those before it that do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.batching import batch_last

_RAREST = 1e-6  # expected requests of a user that has none


class Served(struct.PyTreeNode):
    """The requests of one slot. R is the most that a user has room for."""

    count: Array  # int32[N] served
    overflow: Array  # int32[N] beyond R, not served
    total_s: Array  # [N] sum of their end-to-end delays
    max_s: Array  # [N] the largest, zero without requests
    late: Array  # int32[N] that took longer than the deadline
    free_s: Array  # [N, 3] after the slot's start when each stage has finished every request so far
    wait: Array  # [N] from the slot's end to the next request, in expected requests
    arrival_s: Array | None  # [R, N] of each request after the slot's start, where asked for
    departure_s: Array | None  # [R, N, 3] from each stage; what lies past `count` has no meaning


class Slot(struct.PyTreeNode):
    """What the requests of one slot meet."""

    drawn: Any  # by the process of requests
    expected: Array  # [N] requests
    slot_s: Array  # []
    stage_times: Array  # [N, 3] s
    backlog_s: Array  # [N, 3] after the slot's start until each stage has finished what came before
    deadline_s: Array  # [N]
    return_s: Array | None = None  # [N] from the last stage back to the user; None: 0


def serve(intervals: Callable[[Any], Array], slot: Slot, record: bool = False) -> Served:
    """Serve the requests of one slot.

    Args:
      intervals: those of the process, see `RequestArrivals.intervals`.
      slot: what they meet.
      record: whether to keep every request's times.

    Returns:
      Requests that come past the most are not drawn; their number is one and as many as are expected after it.
    """
    return batch_last(_serve, slot.expected.size, intervals=intervals, record=record)(slot)


def follow(arrival_s: Array, stage_times: Array, free_s: Array) -> Array:
    """Departures from every stage, with nothing else: [R, ..., 3].

    Args:
      arrival_s: [R, ...] ascending.
      stage_times: service times, s, of each request: [R, ..., 3].
      free_s: [..., 3] when each stage is free for the first of them.
    """

    def request(free: Array, one: tuple[Array, Array]) -> tuple[Array, Array]:
        arrival, services = one
        stages = range(services.shape[-1])
        departures = _through(arrival, [services[..., i] for i in stages], [free[..., i] for i in stages])
        departure = jnp.stack(departures, axis=-1)
        return departure, departure

    return jax.lax.scan(request, free_s, (arrival_s, stage_times))[1]


def _through(arrival: Array, services: Sequence[Array], free: Sequence[Array]) -> list[Array]:
    """When one request leaves each stage."""
    departures, departure = [], arrival
    for service, stage_free in zip(services, free, strict=True):
        departure = jnp.maximum(departure, stage_free) + service
        departures.append(departure)
    return departures


def _serve(slot: Slot, intervals: Callable[[Any], Array], record: bool) -> Served:
    """As `serve`, with any batch as the last axis."""
    between = intervals(slot.drawn)
    seconds = jnp.expand_dims(slot.slot_s, 0) / jnp.maximum(slot.expected, _RAREST)
    services = [slot.stage_times[:, i] for i in range(3)]
    way_back = 0.0 if slot.return_s is None else slot.return_s

    def request(carry: tuple, interval: Array) -> tuple[tuple, Any]:
        time, following, count, total, longest, late, *free = carry
        time = time + interval
        exists = time < slot.expected
        arrival = time * seconds
        departures = _through(arrival, services, free)
        delay = jnp.where(exists, departures[-1] - arrival + way_back, 0.0)
        after = (
            time,
            jnp.minimum(following, jnp.where(exists, jnp.inf, time)),
            count + exists,
            total + delay,
            jnp.maximum(longest, delay),
            late + (delay > slot.deadline_s),
            *(jnp.where(exists, new, old) for new, old in zip(departures, free, strict=True)),
        )
        return after, (arrival, jnp.stack(departures, axis=1)) if record else None

    zero, none = jnp.zeros_like(slot.expected), jnp.zeros_like(slot.expected, jnp.int32)
    start = zero, zero + jnp.inf, none, zero, zero, none, *(slot.backlog_s[:, i] for i in range(3))
    end, kept = jax.lax.scan(request, start, between[:-1])
    time, following, count, total, longest, late, *free = end

    time = time + between[-1]
    beyond = time < slot.expected
    overflow = jnp.where(beyond, 1 + jnp.floor(slot.expected - time), 0.0)
    following = jnp.where(beyond, time + overflow, jnp.minimum(following, time))
    arrival, departure = kept if record else (None, None)
    return Served(
        count=count,
        overflow=overflow.astype(jnp.int32),
        total_s=total,
        max_s=longest,
        late=late,
        free_s=jnp.stack(free, axis=1),
        wait=following - slot.expected,
        arrival_s=arrival,
        departure_s=departure,
    )

"""The formula of `jaxmec.delay` against simulated requests, and beside two rules that it is often replaced by."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmec.delay import independent_delay, serial_delay, waiting_time
from jaxmec.evaluation.statistics import mean_and_interval
from jaxmec.requests import Bursty, Frames, Poisson, RequestArrivals, mean_delays

SERVICES_S = (0.02, 0.03, 0.05)  # of device, uplink and server
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SLOTS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
CHANGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
BURSTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # requests per burst, at four times the mean rate
NOMINAL_HZ = 10.0  # by which the number of slots is chosen, so that most cases share a compilation
NO_KNEE = 0.9999  # all loads are below it: what is tested is the formula, not its tangent


@dataclasses.dataclass(frozen=True)
class Point:
    """A case: what requests met, and what was said of it, mean delays in seconds."""

    study: str
    case: str
    x: float
    simulated_s: float
    half_width_s: float  # of the 95 % interval
    formula_s: float
    scaled_s: float  # the formula with its waiting times the squared variation of intervals (Kingman 1961)
    independent_s: float
    slower_later_s: float


def slower_later_delay(stage_times: Array, arrival_rate_hz: Array, knee: Array | float) -> Array:
    """Mean delay if a stage makes requests wait that is slower than all before it, each as an M/D/1 queue.

    A plausible rule, and wrong: where a later stage is slower, the queue in front of it replaces the earlier one.
    Arguments as for `jaxmec.delay.serial_delay`.
    """
    before = jnp.concatenate([jnp.zeros_like(stage_times[..., :1]), stage_times[..., :-1]], axis=-1)
    slowest_before = jax.lax.cummax(before, axis=before.ndim - 1)
    waits = waiting_time(stage_times, jnp.expand_dims(arrival_rate_hz, -1), knee)
    return jnp.sum(stage_times + jnp.where(stage_times > slowest_before, waits, 0.0), axis=-1)


def points(users: int, requests: int, seed: int = 0) -> Iterator[Point]:
    """Every case of every study: so many independent users, each with about so many requests."""
    keys = (jax.random.fold_in(jax.random.key(seed), number) for number in itertools.count())
    for study in (_loads, _orders, _slot_lengths, _cut_changes, _bursts):
        yield from study(keys, users, requests)


def _loads(keys: Iterator[Array], users: int, requests: int) -> Iterator[Point]:
    for load in LOADS:
        rate_hz = load / max(SERVICES_S)
        # The closer to one, the longer queues remember.
        longer = 1 if load < 0.9 else 4 if load < 0.99 else 20
        shape = _slots(requests * longer, 1.0), users
        yield _point("load", f"{load:g}", load, next(keys), Poisson(), *_steady(shape, rate_hz, SERVICES_S), 1.0)


def _orders(keys: Iterator[Array], users: int, requests: int) -> Iterator[Point]:
    for number, order in enumerate(itertools.permutations(SERVICES_S)):
        case = "/".join(f"{1000 * service:g}" for service in order)
        steady = _steady((_slots(requests, 1.0), users), 10.0, order)
        yield _point("order", case, number, next(keys), Poisson(), *steady, 1.0)


def _slot_lengths(keys: Iterator[Array], users: int, requests: int) -> Iterator[Point]:
    """The rate of every slot is drawn from 4 to 16 requests per second: loads of 0.2 to 0.8."""
    for slot_s in SLOTS_S:
        shape = _slots(requests, slot_s), users
        rates_hz = jax.random.uniform(next(keys), shape, minval=4.0, maxval=16.0)
        times = jnp.broadcast_to(jnp.asarray(SERVICES_S), (*shape, 3))
        yield _point("slot length", f"{slot_s:g} s", slot_s, next(keys), Poisson(), rates_hz, times, slot_s)


def _cut_changes(keys: Iterator[Array], users: int, requests: int) -> Iterator[Point]:
    """Between all on the device, 80 ms, and all on the server, 50 and 30 ms."""
    cuts = jnp.asarray([[0.08, 0.0, 0.0], [0.0, 0.05, 0.03]])
    for change in CHANGES:
        shape = _slots(requests, 1.0), users
        changes = jax.random.bernoulli(next(keys), change, shape)
        first = jax.random.bernoulli(next(keys), 0.5, (1, users))
        cut = (first + jnp.cumsum(changes, axis=0)) % 2
        steady = jnp.full(shape, 8.0), cuts[cut]
        yield _point("cut changes", f"{change:g} per slot", change, next(keys), Poisson(), *steady, 1.0)


def _bursts(keys: Iterator[Array], users: int, requests: int) -> Iterator[Point]:
    """By squared coefficient of variation of the intervals between requests, at load 0.5."""
    processes: list[tuple[str, float, RequestArrivals]] = [
        ("frames", 0.0, Frames(jnp.asarray(0.1))),
        ("Poisson", 1.0, Poisson()),
    ]
    for length in BURSTS:
        bursty = Bursty(jnp.asarray(4.0), jnp.asarray(length))
        processes.append((f"bursts of {length:g}", float(bursty.squared_variation()), bursty))
    for case, variation, process in processes:
        steady = _steady((_slots(4 * requests, 1.0), users), 10.0, SERVICES_S)
        yield _point("burstiness", case, variation, next(keys), process, *steady, 1.0, variation)


def _slots(requests: int, slot_s: float) -> int:
    return max(round(requests / (NOMINAL_HZ * slot_s)), 10)


def _steady(shape: tuple[int, int], rate_hz: float, services_s: tuple[float, ...]) -> tuple[Array, Array]:
    return jnp.full(shape, rate_hz), jnp.broadcast_to(jnp.asarray(services_s), (*shape, 3))


def _point(
    study: str,
    case: str,
    x: float,
    key: Array,
    process: RequestArrivals,
    rates_hz: Array,
    stage_times: Array,
    slot_s: float,
    squared_variation: float = 1.0,
) -> Point:
    """Simulate rates [T, U] and stage times [T, U, 3]; formulas are averaged over requests."""
    room = 32  # doubled, so that few sizes are compiled
    while room < process.most(float(jnp.max(rates_hz)) * slot_s, 1e-7):
        room *= 2
    delays_s = np.asarray(mean_delays(room, key, process, rates_hz, stage_times, jnp.asarray(slot_s)), float)
    simulated_s, half_width_s = mean_and_interval(delays_s)

    def said(rule: Callable[[Array, Array, float], Array]) -> float:
        delay_s = np.asarray(rule(stage_times, rates_hz, NO_KNEE), float)
        return float(np.average(delay_s, weights=np.asarray(rates_hz)))

    formula_s, service_s = said(serial_delay), said(lambda times, *_: jnp.sum(times, axis=-1))
    return Point(
        study=study,
        case=case,
        x=x,
        simulated_s=simulated_s,
        half_width_s=half_width_s,
        formula_s=formula_s,
        scaled_s=formula_s + (squared_variation - 1.0) * (formula_s - service_s),
        independent_s=said(independent_delay),
        slower_later_s=said(slower_later_delay),
    )

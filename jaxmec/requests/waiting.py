"""How long requests wait at a constant rate and constant service times, and the factor that tells the formula of it.

The formula of `jaxmec.delay` takes a factor on its waiting time, exact for no process but Poisson's: how much longer
than Poisson's the requests of another process wait depends on the load. `fit_waiting_scale` finds the factor for the
loads that matter, and tells by how much it is wrong at each.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmec.requests.protocol import RequestArrivals
from jaxmec.requests.queue import Slot, serve

LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
EXPECTED = 32.0  # requests per slot; how requests are cut into slots changes nothing
UNLIKELY = 1e-7  # that a slot has more requests than there is room for
LEFT_OUT = 0.1  # share of the slots, at the start


@dataclasses.dataclass(frozen=True)
class WaitingFit:
    """The factor and its error. Times are in service times of the slowest stage."""

    scale: float
    load: np.ndarray  # [L] utilisation of the slowest stage
    waiting: np.ndarray  # [L] mean waiting time, simulated
    half_width: np.ndarray  # [L] of its 95 % interval
    fitted: np.ndarray  # [L] scale times the waiting time of Poisson requests
    poisson: np.ndarray  # [L] that time

    @property
    def delay_error(self) -> np.ndarray:
        """[L] what the formula with the factor says of waiting and service, over what was simulated, minus one."""
        return (1.0 + self.fitted) / (1.0 + self.waiting) - 1.0


def fit_waiting_scale(
    key: Array,
    process: RequestArrivals,
    load: Sequence[float] = LOADS,
    num_users: int = 256,
    num_requests: int = 4096,
) -> WaitingFit:
    """The factor by which requests of a process wait longer than Poisson ones.

    Queues with one stage are simulated: by Friedman's reduction others add no waiting. The factor is that of least
    squared error of the delay, waiting and service, relative, over the loads.

    Args:
      key: random key.
      process: of the requests.
      load: [L] utilisations of the slowest stage, each in (0, 1).
      num_users: independent users per load; intervals are over them.
      num_requests: of each user, about.

    Raises:
      ValueError: for a load outside (0, 1), or fewer than two users.
    """
    loads = np.asarray(load, float)
    if not ((loads > 0) & (loads < 1)).all() or not len(loads):
        raise ValueError(f"load: got {list(load)}; allowed are numbers between 0 and 1")
    if num_users < 2:
        raise ValueError(f"num_users: got {num_users}; allowed are at least 2")
    slots = max(round(num_requests / EXPECTED), 10)
    shape = slots, len(loads) * num_users
    times = jnp.zeros((*shape, 3)).at[..., 0].set(jnp.repeat(jnp.asarray(loads, float), num_users))
    room = process.most(EXPECTED, UNLIKELY)
    # At rate one a second is an expected request, and the load is the service time.
    delays = mean_delays(room, key, process, jnp.ones(shape), times, jnp.asarray(EXPECTED))
    waiting = np.asarray(delays, float).reshape(len(loads), num_users) / loads[:, None] - 1.0
    mean, error = waiting.mean(axis=1), waiting.std(axis=1, ddof=1) / math.sqrt(num_users)
    poisson = loads / (2.0 * (1.0 - loads))
    weight = 1.0 / (1.0 + mean) ** 2
    scale = float(np.sum(weight * poisson * mean) / np.sum(weight * poisson**2))
    return WaitingFit(max(scale, 0.0), loads, mean, 1.96 * error, max(scale, 0.0) * poisson, poisson)


@partial(jax.jit, static_argnums=0)
def mean_delays(
    room: int, key: Array, process: RequestArrivals, rates_hz: Array, stage_times: Array, slot_s: Array
) -> Array:
    """Mean delay of every user's requests [U], s, over all but the first tenth of the slots.

    Args:
      room: the most requests that a slot has room for.
      key: random key.
      process: of the requests.
      rates_hz: [T, U] of T slots and U independent users.
      stage_times: [T, U, 3] s.
      slot_s: [] length of a slot.
    """
    slots, users = rates_hz.shape
    key_init, key_run = jax.random.split(key)

    def slot(carry: tuple, of: tuple) -> tuple[tuple, None]:
        state, backlog_s, count, total_s = carry
        number, key, rate_hz, times = of
        drawn = process.draw(key, state, room)
        served = serve(process.intervals, Slot(drawn, rate_hz * slot_s, slot_s, times, backlog_s, rate_hz))
        counts = number >= int(LEFT_OUT * slots)
        return (
            process.step(state, drawn, served.count, served.wait),
            jnp.maximum(served.free_s - slot_s, 0.0),
            count + jnp.where(counts, served.count, 0),
            total_s + jnp.where(counts, served.total_s, 0.0),
        ), None

    nothing = jnp.zeros((users, 3)), jnp.zeros(users, jnp.int32), jnp.zeros(users)
    start = process.init(key_init, users), *nothing
    along = jnp.arange(slots), jax.random.split(key_run, slots), rates_hz, stage_times
    (_, _, count, total_s), _ = jax.lax.scan(slot, start, along)
    return total_s / count

"""What an arrival process of requests is, and what a scenario says of one.

Time is counted in expected requests: at rate λ, u of it pass in u / λ seconds. A process so has rate one, whatever the
workload does to the rate between slots, and a burst or a clock goes on from one slot to the next.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from flax import struct
from jax import Array
from scipy.special import pdtrc


class Arrived(struct.PyTreeNode):
    """The requests of a slot. R is the most that a slot has room for."""

    time: Array  # [R, N] since the slot began, in expected requests; ascending
    count: Array  # int32[N] how many of them fall into the slot
    overflow: Array  # int32[N] how many more there would have been


class RequestArrivals(Protocol):
    """When requests come. A frozen pytree: its numbers are leaves, its kind is its type.

    The state is any pytree of arrays; only the process reads it. Every method works under jit, vmap and grad.
    """

    def init(self, key: Array, num_users: int) -> Any:
        """The state at the start of a first slot, stationary: seen by somebody who knows nothing of the past."""
        ...

    def draw(self, key: Array, state: Any, expected: Array, max_requests: int) -> tuple[Any, Arrived]:
        """The requests of one slot, and the state at the start of the next.

        Args:
          key: random key.
          state: at the slot's start.
          expected: [N] requests that the slot brings on average, rate times length.
          max_requests: R.
        """
        ...

    def most(self, expected: float, probability: float) -> int:
        """How many requests a slot of so many expected ones exceeds with at most this probability, roughly."""
        ...


@dataclasses.dataclass(frozen=True)
class RequestSettings:
    """What a scenario says of its requests; the users' rates stand with the users."""

    def process(self, folder: Path) -> RequestArrivals:
        """The process that these settings describe; paths are relative to the folder.

        Raises:
          ConfigError: naming the field, its value and what is allowed.
        """
        raise NotImplementedError


class Stretch(NamedTuple):
    """What `cut_at` makes of a slot."""

    arrived: Arrived
    index: Array  # int32[N] of the first request after the slot, R if none was drawn
    wait: Array  # [N] until that one, from the slot's end; not above zero if none was drawn


def cut_at(time: Array, expected: Array) -> Stretch:
    """Divide requests at times [R + 1, N] into those of the slot and the first one after it.

    Requests beyond the last are not drawn: their number is the last one and as many as are expected after it.
    """
    count = jnp.sum(time < expected, axis=0, dtype=jnp.int32)
    most = time.shape[0] - 1
    left = expected - time[-1]
    overflow = jnp.where(left > 0, 1 + jnp.floor(left).astype(jnp.int32), 0)
    index = jnp.minimum(count, most)
    return Stretch(Arrived(time[:-1], index, overflow), index, at_index(time, index) - expected)


def at_index(values: Array, index: Array) -> Array:
    """Row index[n] of column n of values [R + 1, N]: [N]."""
    rows = jnp.arange(values.shape[0], dtype=index.dtype)[:, None]
    return jnp.sum(jnp.where(rows == index, values, 0), axis=0)


def poisson_most(expected: float, probability: float) -> int:
    """The smallest number that a Poisson variable exceeds with at most this probability."""
    most = math.floor(expected)
    while pdtrc(most, expected) > probability:
        most += 1
    return most

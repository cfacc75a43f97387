"""What an arrival process of requests is, and what a scenario says of one.

Time is counted in expected requests: at rate λ, u of it pass in u / λ seconds. A process so has rate one, whatever the
workload does to the rate between slots, and a burst or a clock goes on from one slot to the next.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, Protocol

from jax import Array
from scipy.special import pdtrc


class RequestArrivals(Protocol):
    """When requests come. A frozen pytree: its numbers are leaves, its kind is its type.

    A slot takes three steps: `draw` what is random, turn it into `intervals` between requests, and `step` on, once it
    is known how many requests fell into the slot. The state is any pytree of arrays; only the process reads it.
    """

    def init(self, key: Array, num_users: int) -> Any:
        """The state at the start of a first slot, stationary: seen by somebody who knows nothing of the past."""
        ...

    def draw(self, key: Array, state: Any, max_requests: int) -> Any:
        """All that the intervals of a slot's requests are made of: a pytree of arrays."""
        ...

    @staticmethod
    def intervals(drawn: Any) -> Array:
        """From the slot's start to the first request, from that to the second, ...: [max_requests + 1, N].

        Leaves of `drawn`, and so the intervals, may have one more axis at their end, a batch.
        """
        ...

    def step(self, state: Any, drawn: Any, count: Array, wait: Array) -> Any:
        """The state at the start of the next slot.

        Args:
          state: at this slot's start.
          drawn: in this slot.
          count: int32[N] requests in this slot, at most `max_requests`.
          wait: [N] from the next slot's start to the next request, above zero.
        """
        ...

    def most(self, expected: float, probability: float) -> int:
        """How many requests a slot of so many expected ones exceeds with about this probability, at most."""
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


def poisson_most(expected: float, probability: float) -> int:
    """The smallest number that a Poisson variable exceeds with at most this probability."""
    most = math.floor(expected)
    while pdtrc(most, expected) > probability:
        most += 1
    return most

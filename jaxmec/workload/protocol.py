"""What an arrival process is, and what a scenario says of one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jax import Array


class Arrivals(Protocol):
    """How arrival rates move. A frozen pytree: its numbers are leaves, its kind is its type.

    The state is any pytree of arrays; only the process reads it. Every method works under jit, vmap and grad.
    """

    def init(self, key: Array) -> Any:
        """The state in an episode's first slot, stationary."""
        ...

    def step(self, key: Array, state: Any) -> Any:
        """The state one slot later, of the same structure, shapes and dtypes."""
        ...

    def rate_hz(self, state: Any) -> Array:
        """Arrival rate of every user in this slot, requests per second: [N]."""
        ...

    def peak_hz(self) -> Array:
        """The highest rate that each user can have: [N]."""
        ...


@dataclasses.dataclass(frozen=True)
class ArrivalSettings:
    """What a scenario says of its arrivals; the users' ranges of rates stand with the users."""

    def process(self, low_hz: np.ndarray, high_hz: np.ndarray, slot_s: float, folder: Path) -> Arrivals:
        """The process that these settings describe.

        Args:
          low_hz: [N] lower ends of the users' ranges, requests per second.
          high_hz: [N] upper ends.
          slot_s: length of a slot, s.
          folder: where the scenario's file lies; paths are relative to it.

        Raises:
          ConfigError: naming the field, its value and what is allowed.
        """
        raise NotImplementedError

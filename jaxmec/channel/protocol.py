"""What a channel is, and what the radio section of a scenario says whatever the channel."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jax import Array

from jaxmec.config import number


class Channel(Protocol):
    """How the power gain of every user's uplink moves. A frozen pytree: its numbers are leaves, its kind is its type.

    The state is any pytree of arrays; only the channel reads it. Every method works under jit, vmap and grad.
    """

    def init(self, key: Array, distance_m: Array) -> Any:
        """Place the users and start their channels.

        Args:
          key: random key.
          distance_m: [N, 2] inner and outer radius, m, of the ring around the antenna that each user starts in.

        Returns:
          The state in an episode's first slot, stationary.
        """
        ...

    def step(self, key: Array, state: Any) -> Any:
        """The state one slot later, of the same structure, shapes and dtypes."""
        ...

    def gain(self, state: Any) -> Array:
        """Power gain of every user's uplink in this slot, linear: [N]."""
        ...

    def gain_limits(self, distance_m: Array) -> tuple[Array, Array]:
        """Lowest and highest power gain that each user can meet, its ring as for `init`: [N] and [N]."""
        ...


@runtime_checkable
class CapacityChannel(Protocol):
    """A channel that knows what the whole band carries and no gain: a share y of the band carries y times that."""

    def init(self, key: Array, distance_m: Array) -> Any:
        """See `Channel`."""
        ...

    def step(self, key: Array, state: Any) -> Any:
        """See `Channel`."""
        ...

    def capacity_bps(self, state: Any) -> Array:
        """What the whole band would carry for every user in this slot, above zero: [N]."""
        ...


@dataclasses.dataclass(frozen=True)
class Radio:
    """The shared uplink. A channel's settings add fields of their own."""

    bandwidth_hz: float = number(at_least=1e3, at_most=1e12)  # W, shared by all users
    noise_dbm_per_hz: float = number(-174.0, at_least=-250, at_most=-50)  # density of thermal noise
    noise_figure_db: float = number(0.0, at_least=0, at_most=60)  # of the receiver

    @property
    def noise_w_per_hz(self) -> float:
        """Noise density at the receiver, its noise figure included."""
        return 10 ** ((self.noise_dbm_per_hz + self.noise_figure_db - 30) / 10)

    def channel(
        self, distance_m: np.ndarray, tx_power_w: np.ndarray, slot_s: float, folder: Path
    ) -> Channel | CapacityChannel:
        """The channel that these settings describe.

        Args:
          distance_m: [N, 2] inner and outer radius of every user's ring, m.
          tx_power_w: [N] transmit power of every user.
          slot_s: length of a slot, s.
          folder: where the scenario's file lies; paths are relative to it.

        Raises:
          ConfigError: naming the field, its value and what is allowed.
        """
        raise NotImplementedError

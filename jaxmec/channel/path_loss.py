"""What a path-loss law is, and the plainest: free space at one metre, continued with an exponent.

Sources: H. T. Friis, "A Note on a Simple Transmission Formula", Proc. IRE 34 (1946); T. S. Rappaport, "Wireless
Communications", 2nd ed. (2002), ch. 4 (log-distance path loss, log-normal shadowing).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from jaxmec.config import default_float, number

SPEED_OF_LIGHT_M_S = 299_792_458.0


class PathLoss(Protocol):
    """Mean loss over distance, in and out of line of sight. A frozen pytree; every method works under jit, vmap, grad.

    Distances are horizontal, in m. Arguments and results are of one shape, that of the users.
    """

    def loss_db(self, distance_m: Array, line_of_sight: Array) -> Array:
        """Median path loss, dB."""
        ...

    def shadowing_db(self, line_of_sight: Array) -> Array:
        """Standard deviation of the log-normal shadowing around it, dB."""
        ...

    def line_of_sight_probability(self, distance_m: Array) -> Array:
        """Probability that nothing stands between a user and the antenna."""
        ...


@dataclasses.dataclass(frozen=True)
class PathLossSettings:
    """What a scenario says of its path loss; the carrier stands with the radio, the distances with the users."""

    def path_loss(self, carrier_hz: float, distance_m: np.ndarray) -> PathLoss:
        """The law that these settings describe.

        Args:
          carrier_hz: carrier frequency.
          distance_m: [N, 2] least and largest distance of every user.

        Raises:
          ConfigError: where the law does not hold, naming the field, its value and what is allowed.
        """
        raise NotImplementedError


class LogDistance(struct.PyTreeNode):
    """The law; it is the same in line of sight and out of it, and everybody counts as in it."""

    carrier_hz: Array  # []
    exponent: Array  # []
    deviation_db: Array  # [] of the shadowing

    def loss_db(self, distance_m: Array, line_of_sight: Array) -> Array:
        """See `PathLoss`."""
        at_one_metre = 20.0 * jnp.log10(4.0 * math.pi * self.carrier_hz / SPEED_OF_LIGHT_M_S)
        return at_one_metre + 10.0 * self.exponent * jnp.log10(distance_m)

    def shadowing_db(self, line_of_sight: Array) -> Array:
        """See `PathLoss`."""
        return jnp.broadcast_to(self.deviation_db, line_of_sight.shape)

    def line_of_sight_probability(self, distance_m: Array) -> Array:
        """See `PathLoss`."""
        return jnp.ones_like(distance_m)


@dataclasses.dataclass(frozen=True)
class LogDistanceSettings(PathLossSettings):
    """Exponent and shadowing."""

    path_loss_exponent: float = number(3.0, at_least=0, at_most=10)  # of distance
    shadowing_db: float = number(4.0, at_least=0, at_most=30)  # standard deviation

    def path_loss(self, carrier_hz: float, distance_m: np.ndarray) -> LogDistance:
        """See `PathLossSettings`."""
        return LogDistance(
            carrier_hz=default_float(carrier_hz),
            exponent=default_float(self.path_loss_exponent),
            deviation_db=default_float(self.shadowing_db),
        )


def mean_gain(law: PathLoss, distance_m: Array, line_of_sight: Array, shadowing: Array) -> Array:
    """Linear power gain of path loss and shadowing.

    Args:
      law: the path-loss law.
      distance_m: [N] horizontal distance to the antenna.
      line_of_sight: bool[N].
      shadowing: [N] standard normal draws.
    """
    loss_db = law.loss_db(distance_m, line_of_sight) - law.shadowing_db(line_of_sight) * shadowing
    return 10.0 ** (-loss_db / 10.0)

"""Urban path loss of 3GPP TR 38.901, outdoors: street canyon of a micro cell (UMi) and macro cell (UMa).

Source: 3GPP TR 38.901 V16.1.0, "Study on channel model for frequencies from 0.5 to 100 GHz": path loss and shadowing
of table 7.4.1-1, probability of line of sight of table 7.4.2-1. Penetration into buildings is left out, and so are
users of a macro cell above 13 m, for whom the height of the surroundings is drawn at random: here it is 1 m.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from jaxmec.channel.gauss_markov import StandingRadio
from jaxmec.channel.path_loss import PathLossSettings
from jaxmec.config import ConfigError, default_float, number

CARRIER_HZ = (0.5e9, 100e9)
DISTANCE_M = (10.0, 5000.0)  # horizontal
SURROUNDINGS_M = 1.0  # effective height of what reflects, h_E
LIGHT_M_S = 3e8  # as the table has it
RICIAN_K_DB = 9.0  # table 7.5-6, mean of both environments in line of sight


@dataclasses.dataclass(frozen=True)
class Environment:
    """An environment's constants: f carrier in GHz, d distance of the antennas in m, h user's height in m."""

    antenna_height_m: float
    user_height_m: tuple[float, float]  # where the law holds
    near_db: tuple[float, float]  # in line of sight: a + b log10 d + 20 log10 f before the breakpoint
    breakpoint_db: float  # a + 40 log10 d + 20 log10 f - c log10(d_BP² + height difference²) beyond it
    hidden_db: tuple[float, float, float, float]  # out of sight: a + b log10 d + c log10 f - e (h - 1.5)
    shadowing_db: tuple[float, float]  # standard deviation in line of sight, and out of it
    sight_m: float  # the line of sight's probability decays over this distance


ENVIRONMENTS = {
    "umi": Environment(
        antenna_height_m=10.0,
        user_height_m=(1.5, 22.5),
        near_db=(32.4, 21.0),
        breakpoint_db=9.5,
        hidden_db=(22.4, 35.3, 21.3, 0.3),
        shadowing_db=(4.0, 7.82),
        sight_m=36.0,
    ),
    "uma": Environment(
        antenna_height_m=25.0,
        user_height_m=(1.5, 13.0),
        near_db=(28.0, 22.0),
        breakpoint_db=9.0,
        hidden_db=(13.54, 39.08, 20.0, 0.6),
        shadowing_db=(4.0, 6.0),
        sight_m=63.0,
    ),
}


class UrbanPathLoss(struct.PyTreeNode):
    """The law of an environment; see `PathLoss`."""

    carrier_hz: Array  # []
    antenna_height_m: Array  # []
    user_height_m: Array  # []
    environment: Environment = struct.field(pytree_node=False)

    @property
    def breakpoint_m(self) -> Array:
        """[] horizontal distance, d'_BP, beyond which the ground's reflection takes from the line of sight."""
        effective_m2 = (self.antenna_height_m - SURROUNDINGS_M) * (self.user_height_m - SURROUNDINGS_M)
        return 4.0 * effective_m2 * self.carrier_hz / LIGHT_M_S

    def loss_db(self, distance_m: Array, line_of_sight: Array) -> Array:
        """See `PathLoss`. Out of sight the loss is never below that in line of sight."""
        e, rise_m = self.environment, self.antenna_height_m - self.user_height_m
        log_distance = 0.5 * jnp.log10(distance_m**2 + rise_m**2)
        log_carrier = jnp.log10(self.carrier_hz / 1e9)
        near = e.near_db[0] + e.near_db[1] * log_distance
        far = e.near_db[0] + 40.0 * log_distance - e.breakpoint_db * jnp.log10(self.breakpoint_m**2 + rise_m**2)
        visible = jnp.where(distance_m <= self.breakpoint_m, near, far) + 20.0 * log_carrier
        at_zero, slope, of_carrier, of_height = e.hidden_db
        hidden = at_zero + slope * log_distance + of_carrier * log_carrier - of_height * (self.user_height_m - 1.5)
        return jnp.where(line_of_sight, visible, jnp.maximum(visible, hidden))

    def shadowing_db(self, line_of_sight: Array) -> Array:
        """See `PathLoss`."""
        return jnp.where(line_of_sight, *self.environment.shadowing_db)

    def line_of_sight_probability(self, distance_m: Array) -> Array:
        """See `PathLoss`; one up to 18 m."""
        near = 18.0 / jnp.maximum(distance_m, 18.0)
        return near + jnp.exp(-distance_m / self.environment.sight_m) * (1.0 - near)


@dataclasses.dataclass(frozen=True)
class UrbanPathLossSettings(PathLossSettings):
    """Environment and heights."""

    environment: Literal["umi", "uma"] = "umi"  # street canyon or macro cell
    antenna_height_m: float | None = number(None, above=SURROUNDINGS_M, at_most=1e3)
    """10 m in umi and 25 m in uma if absent."""
    user_height_m: float = number(1.5, at_least=1.5, at_most=22.5)  # of the antenna

    def __post_init__(self) -> None:
        low, high = ENVIRONMENTS[self.environment].user_height_m
        if not low <= self.user_height_m <= high:
            raise ConfigError(
                f"radio: user_height_m: got {self.user_height_m}; allowed is {low} to {high} m in {self.environment!r}"
            )

    def path_loss(self, carrier_hz: float, distance_m: np.ndarray) -> UrbanPathLoss:
        """See `PathLossSettings`."""
        if not CARRIER_HZ[0] <= carrier_hz <= CARRIER_HZ[1]:
            raise ConfigError(
                f"radio.carrier_hz: got {carrier_hz:g}; TR 38.901 allows {CARRIER_HZ[0]:g} to {CARRIER_HZ[1]:g} Hz"
            )
        for ring in np.asarray(distance_m):
            if not (DISTANCE_M[0] <= ring).all() or not (ring <= DISTANCE_M[1]).all():
                raise ConfigError(
                    f"users.distance_m: got {ring.tolist()}; "
                    f"TR 38.901 allows {DISTANCE_M[0]:g} to {DISTANCE_M[1]:g} m"
                )
        environment = ENVIRONMENTS[self.environment]
        height_m = environment.antenna_height_m if self.antenna_height_m is None else self.antenna_height_m
        return UrbanPathLoss(
            carrier_hz=default_float(carrier_hz),
            antenna_height_m=default_float(height_m),
            user_height_m=default_float(self.user_height_m),
            environment=environment,
        )


@dataclasses.dataclass(frozen=True)
class UrbanRadio(UrbanPathLossSettings, StandingRadio):
    """A band whose users stand in a city and have the path loss of TR 38.901."""

    rician_k: float = number(10 ** (RICIAN_K_DB / 10), at_least=0, at_most=1e6)  # of users in line of sight

"""Users that move around the antenna, with what their way does to the channel.

Path loss and line of sight follow the position, shadowing and the view change over distances walked, and the fading
decorrelates with the Doppler shift. A field that has decorrelated does not come back when its user does: shadowing is
remembered along a way, not tied to a place.

Sources: M. Gudmundson, "Correlation model for shadow fading in mobile radio systems", Electronics Letters 27 (1991);
3GPP TR 38.901 V16.1.0, table 7.5-6 (correlation distances of shadowing) and table 7.6.3.1-2 (of line of sight).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.scipy.stats import norm

from jaxmec.channel.fading import Fading, FadingRadio, doppler_correlation, gain_limits, safe_sqrt
from jaxmec.channel.movement import MOVEMENTS, Movement, MovementSettings
from jaxmec.channel.path_loss import LogDistanceSettings, PathLoss, PathLossSettings, mean_gain
from jaxmec.channel.tr38901 import UrbanPathLossSettings
from jaxmec.config import default_float, kind, number

PATH_LOSSES: dict[str, type[PathLossSettings]] = {
    "log_distance": LogDistanceSettings,
    "tr38901": UrbanPathLossSettings,
}


class MobilityState(struct.PyTreeNode):
    """Where the users and their channels stand."""

    movement: Any  # of the movement, with position_m [2, N]
    ring_m: Array  # [N, 2] distance that counts for whoever is nearer, and radius of the disc
    shadowing: Array  # [N] standard normal
    view: Array  # [N] standard normal; the lower, the farther a user sees the antenna
    line_of_sight: Array  # bool[N]
    mean_gain: Array  # [N] power gain of path loss and shadowing
    fading: Array  # see `Fading`


class Mobility(struct.PyTreeNode):
    """The channel."""

    movement: Movement
    path_loss: PathLoss
    fading: Fading
    carrier_hz: Array  # []
    shadowing_distance_m: Array  # [2] over which shadowing decorrelates, in line of sight and out of it
    view_distance_m: Array  # [] over which line of sight does

    def init(self, key: Array, distance_m: Array) -> MobilityState:
        """Users in the discs of their outer radii, stationary; see `Channel`."""
        key_movement, key_shadowing, key_view, key_fading = jax.random.split(key, 4)
        num_users = distance_m.shape[0]
        return self._state(
            movement=self.movement.init(key_movement, distance_m[:, 1]),
            ring_m=distance_m,
            shadowing=jax.random.normal(key_shadowing, (num_users,)),
            view=jax.random.normal(key_view, (num_users,)),
            fading=self.fading.init(key_fading, num_users),
        )

    def step(self, key: Array, state: MobilityState) -> MobilityState:
        """Move, and let shadowing, view and fading forget what the way calls for."""
        key_movement, key_shadowing, key_view, key_fading = jax.random.split(key, 4)
        movement = self.movement.step(key_movement, state.movement, state.ring_m[:, 1])
        way = movement.position_m - state.movement.position_m
        moved_m = safe_sqrt(jnp.sum(way**2, axis=0))
        visible_m, hidden_m = self.shadowing_distance_m
        shadowing_m = jnp.where(state.line_of_sight, visible_m, hidden_m)
        return self._state(
            movement=movement,
            ring_m=state.ring_m,
            shadowing=_forget(key_shadowing, state.shadowing, moved_m / shadowing_m),
            view=_forget(key_view, state.view, moved_m / self.view_distance_m),
            fading=self.fading.step(key_fading, state.fading, doppler_correlation(moved_m, self.carrier_hz)),
        )

    def gain(self, state: MobilityState) -> Array:
        """Power gain [N]: mean gain times fading."""
        return state.mean_gain * self.fading.gain(state.fading, state.line_of_sight)

    def gain_limits(self, distance_m: Array) -> tuple[Array, Array]:
        """See `Channel`."""
        return gain_limits(self.path_loss, self.fading, distance_m)

    def _state(self, movement: Any, ring_m: Array, shadowing: Array, view: Array, fading: Array) -> MobilityState:
        """The state with what follows from position, view and shadowing."""
        distance_m = jnp.sqrt(jnp.maximum(jnp.sum(movement.position_m**2, axis=0), ring_m[:, 0] ** 2))
        line_of_sight = norm.cdf(view) <= self.path_loss.line_of_sight_probability(distance_m)
        gain = mean_gain(self.path_loss, distance_m, line_of_sight, shadowing)
        return MobilityState(movement, ring_m, shadowing, view, line_of_sight, gain, fading)


@dataclasses.dataclass(frozen=True)
class MobilityRadio(FadingRadio):
    """A band whose users move. Distances of decorrelation are those of a street canyon (UMi)."""

    path_loss: PathLossSettings = kind(PATH_LOSSES, "log_distance")  # the law
    movement: MovementSettings = kind(MOVEMENTS, "random_waypoint")  # how users move
    shadowing_distance_m: tuple[float, float] = number((10.0, 13.0), at_least=1e-2, at_most=1e6)
    """In and out of line of sight."""
    view_distance_m: float = number(50.0, at_least=1e-2, at_most=1e6)  # decorrelation of line of sight

    def channel(self, distance_m: np.ndarray, tx_power_w: np.ndarray, slot_s: float, folder: Path) -> Mobility:
        """See `Radio`."""
        return Mobility(
            movement=self.movement.movement(slot_s, distance_m[:, 1]),
            path_loss=self.path_loss.path_loss(self.carrier_hz, distance_m),
            fading=self.fading(),
            carrier_hz=default_float(self.carrier_hz),
            shadowing_distance_m=default_float(self.shadowing_distance_m),
            view_distance_m=default_float(self.view_distance_m),
        )


def _forget(key: Array, field: Array, distance: Array) -> Array:
    """A standard normal field [N] after distances [N] in units of its decorrelation distance: ρ = exp(-distance)."""
    return jnp.exp(-distance) * field + safe_sqrt(-jnp.expm1(-2.0 * distance)) * jax.random.normal(
        key, field.shape
    )

"""Users that stand: path loss and shadowing drawn once per episode, Gauss-Markov fading from slot to slot.

`GaussMarkov` takes any path-loss law; the settings here give it the log-distance law.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from jaxmec.channel.fading import Fading, FadingRadio, gain_limits
from jaxmec.channel.path_loss import LogDistanceSettings, PathLoss, PathLossSettings, mean_gain
from jaxmec.config import default_float, number


class GaussMarkovState(struct.PyTreeNode):
    """Where the channels stand."""

    mean_gain: Array  # [N] power gain of path loss and shadowing
    line_of_sight: Array  # bool[N]
    fading: Array  # see `Fading`


class GaussMarkov(struct.PyTreeNode):
    """The channel."""

    path_loss: PathLoss
    fading: Fading
    fading_correlation: Array  # [] of the complex amplitude, from one slot to the next, in [0, 1]

    def init(self, key: Array, distance_m: Array) -> GaussMarkovState:
        """Users uniform over the areas of their rings; see `Channel`."""
        key_place, key_shadowing, key_fading = jax.random.split(key, 3)
        num_users = distance_m.shape[0]
        inner, outer = distance_m[:, 0], distance_m[:, 1]
        area = jax.random.uniform(key_place, (num_users,))
        placed_m = jnp.sqrt(inner**2 + area * (outer**2 - inner**2))
        level = jax.random.uniform(jax.random.fold_in(key_place, 1), (num_users,))
        line_of_sight = level < self.path_loss.line_of_sight_probability(placed_m)
        shadowing = jax.random.normal(key_shadowing, (num_users,))
        return GaussMarkovState(
            mean_gain=mean_gain(self.path_loss, placed_m, line_of_sight, shadowing),
            line_of_sight=line_of_sight,
            fading=self.fading.init(key_fading, num_users),
        )

    def step(self, key: Array, state: GaussMarkovState) -> GaussMarkovState:
        """The fading moves, the users do not."""
        return state.replace(fading=self.fading.step(key, state.fading, self.fading_correlation))

    def gain(self, state: GaussMarkovState) -> Array:
        """Power gain [N]: mean gain times fading."""
        return state.mean_gain * self.fading.gain(state.fading, state.line_of_sight)

    def gain_limits(self, distance_m: Array) -> tuple[Array, Array]:
        """See `Channel`."""
        return gain_limits(self.path_loss, self.fading, distance_m)


@dataclasses.dataclass(frozen=True)
class StandingRadio(PathLossSettings, FadingRadio):
    """A band whose users stand. Settings of a path-loss law, mixed in before it, make it whole."""

    fading_correlation: float = number(0.9, at_least=0, at_most=1)  # of the amplitude from slot to slot

    def channel(self, distance_m: np.ndarray, tx_power_w: np.ndarray, slot_s: float, folder: Path) -> GaussMarkov:
        """See `Radio`."""
        law = self.path_loss(self.carrier_hz, distance_m)
        return GaussMarkov(law, self.fading(), default_float(self.fading_correlation))


@dataclasses.dataclass(frozen=True)
class GaussMarkovRadio(LogDistanceSettings, StandingRadio):
    """A band whose users have log-distance path loss, shadowing and Gauss-Markov fading."""

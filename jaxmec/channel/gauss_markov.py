"""Path loss, log-normal shadowing and Gauss-Markov fading.

The mean power gain of a user is Friis free space at one metre, continued with a path-loss exponent and
multiplied by log-normal shadowing; it is drawn once per episode. On it rides small-scale fading, one value
per slot: the mean power of `diversity` independent Rician branches, each a first-order Gauss-Markov process.
A slot that is long and a band that is wide average over many coherence cells, and `diversity` is their
effective number; 1 gives flat Rayleigh or Rician fading.

Sources: H. T. Friis, "A Note on a Simple Transmission Formula", Proc. IRE 34 (1946); T. S. Rappaport,
"Wireless Communications", 2nd ed. (2002), ch. 4 (path loss, shadowing) and ch. 5 (Rician fading).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.channel.protocol import Radio
from jaxmec.config import default_float, number

SPEED_OF_LIGHT_M_S = 299_792_458.0


class GaussMarkovState(struct.PyTreeNode):
    """Where the channels stand."""

    mean_gain: Array  # [N] power gain of path loss and shadowing
    fading: Array  # [2 * diversity * N] scattered amplitudes, see `GaussMarkov.draw_fading`


class GaussMarkov(struct.PyTreeNode):
    """The channel; every leaf is a float scalar."""

    carrier_hz: Array
    path_loss_exponent: Array
    shadowing_db: Array  # standard deviation
    fading_correlation: Array  # of the complex amplitude, from one slot to the next, in [0, 1]
    rician_k: Array  # power of the line-of-sight path over the scattered power; 0 is Rayleigh
    fading_floor: Array  # lower limit of the fading's power gain (interleaving and retransmission)
    diversity: int = struct.field(pytree_node=False, default=1)  # independent branches

    def init(self, key: Array, distance_m: Array) -> GaussMarkovState:
        """Users uniform over the areas of their rings; see `Channel`."""
        key_place, key_shadowing, key_fading = jax.random.split(key, 3)
        num_users = distance_m.shape[0]
        inner, outer = distance_m[:, 0], distance_m[:, 1]
        area = jax.random.uniform(key_place, (num_users,))
        placed_m = jnp.sqrt(inner**2 + area * (outer**2 - inner**2))
        shadowing = jax.random.normal(key_shadowing, (num_users,))
        return GaussMarkovState(self.mean_gain(placed_m, shadowing), self.draw_fading(key_fading, num_users))

    def step(self, key: Array, state: GaussMarkovState) -> GaussMarkovState:
        """One slot of h' = ρ h + sqrt(1 - ρ²) w, which keeps the fading's power at one."""
        num_users = state.mean_gain.shape[0]
        rho = self.fading_correlation
        fading = rho * state.fading + _sqrt(1.0 - rho**2) * self.draw_fading(key, num_users)
        return state.replace(fading=fading)

    def gain(self, state: GaussMarkovState) -> Array:
        """Power gain [N]: mean gain times fading."""
        return state.mean_gain * self.fading_gain(state.fading, state.mean_gain.shape[0])

    def mean_gain(self, distance_m: Array, shadowing: Array) -> Array:
        """Power gain of path loss and shadowing.

        Args:
          distance_m: distance from the user to the server's antenna, m, any shape, at least 1 m.
          shadowing: standard normal draws, of the same shape.

        Returns:
          Linear power gain, of the same shape.
        """
        amplitude = SPEED_OF_LIGHT_M_S / (4.0 * math.pi * self.carrier_hz)
        path = amplitude**2 * distance_m ** (-self.path_loss_exponent)
        return path * 10.0 ** (self.shadowing_db * shadowing / 10.0)

    def draw_fading(self, key: Array, num_users: int) -> Array:
        """Stationary scattered amplitudes of unit mean power.

        Returns:
          [2 * diversity * N], real parts before imaginary ones, and in each branch after branch. All in one row:
          XLA then vectorises the draw along it, four times faster on a CPU than along the users of a branch.
        """
        return jax.random.normal(key, (2 * self.diversity * num_users,)) * math.sqrt(0.5)

    def fading_gain(self, fading: Array, num_users: int) -> Array:
        """Power gain [N] of the fading: the mean over its branches, at least `fading_floor`."""
        k = self.rician_k
        line_of_sight, scattered = _sqrt(k / (1.0 + k)), jnp.sqrt(1.0 / (1.0 + k))
        real, imaginary = scattered * fading.reshape(2, -1, num_users)
        power = (line_of_sight + real) ** 2 + imaginary**2
        return jnp.maximum(jnp.mean(power, axis=0), self.fading_floor)


@dataclasses.dataclass(frozen=True)
class GaussMarkovRadio(Radio):
    """A band whose users have path loss, shadowing and Gauss-Markov fading."""

    carrier_hz: float = number(3.5e9, above=0)
    path_loss_exponent: float = number(3.0, at_least=0)
    shadowing_db: float = number(4.0, at_least=0)
    fading_correlation: float = number(0.9, at_least=0, at_most=1)
    fading_diversity: int = number(4, at_least=1)
    fading_floor_db: float = number(-20.0, at_most=0)
    rician_k: float = number(0.0, at_least=0)

    def channel(self) -> GaussMarkov:
        """The channel of these settings."""
        return GaussMarkov(
            carrier_hz=default_float(self.carrier_hz),
            path_loss_exponent=default_float(self.path_loss_exponent),
            shadowing_db=default_float(self.shadowing_db),
            fading_correlation=default_float(self.fading_correlation),
            rician_k=default_float(self.rician_k),
            fading_floor=default_float(10 ** (self.fading_floor_db / 10)),
            diversity=self.fading_diversity,
        )


def _sqrt(x: Array) -> Array:
    """Square root whose gradient at zero is zero: Rayleigh (k = 0) and frozen (ρ = 1) fading are ordinary."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)

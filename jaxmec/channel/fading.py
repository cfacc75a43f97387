"""Small-scale fading of a slot: the mean power of independent Rician branches, each a Gauss-Markov process.

A slot that is long and a band that is wide average over many coherence cells, and `diversity` is their effective
number; 1 gives flat Rayleigh or Rician fading.

Sources: T. S. Rappaport, "Wireless Communications", 2nd ed. (2002), ch. 5 (Rician fading); W. C. Jakes, "Microwave
Mobile Communications" (1974), ch. 1 (correlation under Doppler shift); M. Abramowitz and I. A. Stegun, "Handbook of
Mathematical Functions" (1964), 9.4.1 and 9.4.3 (Bessel function).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.channel.path_loss import SPEED_OF_LIGHT_M_S, PathLoss, mean_gain
from jaxmec.channel.protocol import Radio
from jaxmec.config import default_float, number

LARGEST_NORMAL = 6.0  # standard deviations; a float32 draw is never as far from zero


class Fading(struct.PyTreeNode):
    """The fading; its state is an array of scattered amplitudes, see `init`."""

    rician_k: Array  # [] power of the line-of-sight path over the scattered power, of users in line of sight
    floor: Array  # [] lower limit of the power gain (interleaving and retransmission)
    diversity: int = struct.field(pytree_node=False, default=1)  # independent branches

    def init(self, key: Array, num_users: int) -> Array:
        """Stationary scattered amplitudes of unit mean power.

        Returns:
          [2 * diversity * N], real parts before imaginary ones, and in each branch after branch. All in one row:
          XLA then vectorises the draw along it, four times faster on a CPU than along the users of a branch.
        """
        return jax.random.normal(key, (2 * self.diversity * num_users,)) * math.sqrt(0.5)

    def step(self, key: Array, fading: Array, correlation: Array) -> Array:
        """One slot of h' = ρ h + sqrt(1 - ρ²) w, which keeps the mean power at one.

        Args:
          key: random key.
          fading: [2 * diversity * N].
          correlation: ρ in [0, 1] of the complex amplitude, [] of all users or [N] of each.
        """
        rho = jnp.tile(correlation, fading.size // jnp.size(correlation))
        return rho * fading + safe_sqrt(1.0 - rho**2) * self.init(key, fading.size // (2 * self.diversity))

    def gain(self, fading: Array, line_of_sight: Array) -> Array:
        """Power gain [N]: the mean over the branches, at least `floor`.

        Args:
          fading: [2 * diversity * N].
          line_of_sight: bool[N]; a user without has no line-of-sight path, so its fading is Rayleigh.
        """
        k = jnp.where(line_of_sight, self.rician_k, 0.0)[None, :]
        direct, scattered = safe_sqrt(k / (1.0 + k)), jnp.sqrt(1.0 / (1.0 + k))
        real, imaginary = fading.reshape(2, -1, line_of_sight.size)
        power = (direct + scattered * real) ** 2 + (scattered * imaginary) ** 2
        return jnp.maximum(jnp.mean(power, axis=0), self.floor)


@dataclasses.dataclass(frozen=True)
class FadingRadio(Radio):
    """A band whose users fade around what path loss and shadowing leave them."""

    carrier_hz: float = number(3.5e9, at_least=1e6, at_most=1e12)  # of the band
    fading_diversity: int = number(4, at_least=1, at_most=1000)  # independent branches that a slot averages over
    fading_floor_db: float = number(-20.0, at_least=-60, at_most=0)  # least power gain over the mean
    rician_k: float = number(0.0, at_least=0, at_most=1e6)  # steady over scattered power; 0 is Rayleigh

    def fading(self) -> Fading:
        """The fading of these settings."""
        return Fading(
            rician_k=default_float(self.rician_k),
            floor=default_float(10 ** (self.fading_floor_db / 10)),
            diversity=self.fading_diversity,
        )


def doppler_correlation(moved_m: Array, carrier_hz: Array) -> Array:
    """Correlation of the complex amplitude over a slot in which a user moved `moved_m`, of its shape, in [0, 1].

    Jakes' J0(2π f_D τ) with the Doppler shift f_D = v f_c / c, so f_D τ is the way in wavelengths. Where J0 is
    negative, beyond 0.38 wavelengths, a first-order process has no such correlation, and zero is taken.
    """
    return jnp.maximum(bessel_j0(2.0 * math.pi * moved_m * carrier_hz / SPEED_OF_LIGHT_M_S), 0.0)


def bessel_j0(x: Array) -> Array:
    """Bessel function of the first kind of order zero, at x >= 0; absolute error below 1e-7 and rounding."""
    near = jnp.minimum(x, 3.0) / 3.0
    small = _polynomial(near**2, (1.0, -2.2499997, 1.2656208, -0.3163866, 0.0444479, -0.0039444, 0.0002100))
    far = jnp.maximum(x, 3.0)
    ratio = 3.0 / far
    amplitude = _polynomial(
        ratio, (0.79788456, -0.00000077, -0.00552740, -0.00009512, 0.00137237, -0.00072805, 0.00014476)
    )
    phase = far + _polynomial(
        ratio, (-0.78539816, -0.04166397, -0.00003954, 0.00262573, -0.00054125, -0.00029333, 0.00013558)
    )
    return jnp.where(x <= 3.0, small, amplitude * jnp.cos(phase) / jnp.sqrt(far))


def gain_limits(path_loss: PathLoss, fading: Fading, distance_m: Array) -> tuple[Array, Array]:
    """Power gain [N] farthest off and out of sight, and nearest and in sight, with the worst and the best draws."""
    nearest_m, farthest_m = distance_m[:, 0], distance_m[:, 1]
    visible, draws = jnp.ones(nearest_m.shape, bool), jnp.full(nearest_m.shape, LARGEST_NORMAL)
    lowest = mean_gain(path_loss, farthest_m, ~visible, -draws) * fading.floor
    highest = mean_gain(path_loss, nearest_m, visible, draws) * (1.0 + LARGEST_NORMAL) ** 2
    return lowest, highest


def safe_sqrt(x: Array) -> Array:
    """Square root whose gradient at zero is zero: Rayleigh (k = 0) and frozen (ρ = 1) fading are ordinary."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Horner's rule, lowest order first."""
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value

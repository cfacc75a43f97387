"""Radio channel of the uplink: path loss, log-normal shadowing, Gauss-Markov fading.

The mean power gain of a user is Friis free space at one metre, continued with a path-loss exponent and
multiplied by log-normal shadowing; it is drawn once per episode. On it rides small-scale fading, one value
per slot: the mean power of `diversity` independent Rician branches, each a first-order Gauss-Markov process.
A slot that is long and a band that is wide average over many coherence cells, and `diversity` is their
effective number; 1 gives flat Rayleigh or Rician fading.

Sources: H. T. Friis, "A Note on a Simple Transmission Formula", Proc. IRE 34 (1946); T. S. Rappaport,
"Wireless Communications", 2nd ed. (2002), ch. 4 (path loss, shadowing) and ch. 5 (Rician fading).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

SPEED_OF_LIGHT_M_S = 299_792_458.0


class ChannelParams(struct.PyTreeNode):
    """Constants of the channel; every leaf is a float scalar."""

    carrier_hz: Array
    path_loss_exponent: Array
    shadowing_db: Array  # standard deviation
    fading_correlation: Array  # of the complex amplitude, from one slot to the next, in [0, 1]
    rician_k: Array  # power of the line-of-sight path over the scattered power; 0 is Rayleigh
    fading_floor: Array  # lower limit of the fading's power gain (interleaving and retransmission)
    noise_w_per_hz: Array  # density at the receiver, its noise figure included


def mean_gain(distance_m: Array, shadowing: Array, params: ChannelParams) -> Array:
    """Power gain of path loss and shadowing.

    Args:
      distance_m: distance from the user to the server's antenna, m, any shape, at least 1 m.
      shadowing: standard normal draws, of the same shape.
      params: the channel's constants.

    Returns:
      Linear power gain, of the same shape.
    """
    amplitude = SPEED_OF_LIGHT_M_S / (4.0 * math.pi * params.carrier_hz)
    path = amplitude**2 * distance_m ** (-params.path_loss_exponent)
    return path * 10.0 ** (params.shadowing_db * shadowing / 10.0)


def draw_fading(key: Array, num_users: int, diversity: int) -> Array:
    """Stationary scattered amplitudes of unit mean power.

    Returns:
      [2 * diversity * N], real parts before imaginary ones, and in each branch after branch. All in one row: XLA
      then vectorises the draw along it, four times faster on a CPU than along the users of a branch.
    """
    return jax.random.normal(key, (2 * diversity * num_users,)) * math.sqrt(0.5)


def step_fading(fading: Array, innovation: Array, params: ChannelParams) -> Array:
    """One slot of the Gauss-Markov process h' = ρ h + sqrt(1 - ρ²) w, which keeps the power at one.

    Args:
      fading: amplitudes as `draw_fading` gives.
      innovation: independent stationary amplitudes of the same shape.
      params: the channel's constants.
    """
    rho = params.fading_correlation
    return rho * fading + _sqrt(1.0 - rho**2) * innovation


def fading_gain(fading: Array, num_users: int, params: ChannelParams) -> Array:
    """Power gain [N] of the fading: the mean over its branches, at least `fading_floor`."""
    k = params.rician_k
    line_of_sight, scattered = _sqrt(k / (1.0 + k)), jnp.sqrt(1.0 / (1.0 + k))
    real, imaginary = scattered * fading.reshape(2, -1, num_users)
    power = (line_of_sight + real) ** 2 + imaginary**2
    return jnp.maximum(jnp.mean(power, axis=0), params.fading_floor)


def snr(gain: Array, tx_power_w: Array, bandwidth_hz: Array, params: ChannelParams) -> Array:
    """Received power over the noise in the whole band, p g / (N0 W), of the gain's shape."""
    return tx_power_w * gain / (params.noise_w_per_hz * bandwidth_hz)


def uplink_rate(share: Array, snr: Array, bandwidth_hz: Array) -> Array:
    """Shannon rate of a share of the band, bit/s: W y log2(1 + snr / y); zero at share zero.

    The transmit power is concentrated in the user's own part of the band, hence `snr / y`.
    """
    safe = jnp.where(share > 0, share, 1.0)
    return jnp.where(share > 0, bandwidth_hz * safe * jnp.log1p(snr / safe) / math.log(2.0), 0.0)


def _sqrt(x: Array) -> Array:
    """Square root whose gradient at zero is zero: Rayleigh (k = 0) and frozen (ρ = 1) fading are ordinary."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)

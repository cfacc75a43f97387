"""The link budget: from a power gain to a signal-to-noise ratio, and from that to the rate of a share of the band."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array


def snr(gain: Array, tx_power_w: Array, bandwidth_hz: Array, noise_w_per_hz: Array) -> Array:
    """Received power over the noise in the whole band, p g / (N0 W), of the gain's shape."""
    return tx_power_w * gain / (noise_w_per_hz * bandwidth_hz)


def uplink_rate(share: Array, snr: Array, bandwidth_hz: Array) -> Array:
    """Shannon rate of a share of the band, bit/s: W y log2(1 + snr / y); zero at share zero.

    The transmit power is concentrated in the user's own part of the band, hence `snr / y`.
    """
    safe = jnp.where(share > 0, share, 1.0)
    return jnp.where(share > 0, bandwidth_hz * safe * jnp.log1p(snr / safe) / math.log(2.0), 0.0)

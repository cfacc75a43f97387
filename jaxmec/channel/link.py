"""From the channel to what the slot problem knows of a link: signal-to-noise ratio or capacity, and rates of shares."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxmec.channel.protocol import CapacityChannel, Channel


def quality(
    channel: Channel | CapacityChannel, state: Any, tx_power_w: Array, bandwidth_hz: Array, noise_w_per_hz: Array
) -> tuple[Array, Array | None]:
    """How good every user's uplink is, as `jaxmec.allocation.SlotProblem` takes it.

    Args:
      channel: of either kind.
      state: its state.
      tx_power_w: [N].
      bandwidth_hz: [].
      noise_w_per_hz: [] density at the receiver.

    Returns:
      Signal-to-noise ratio [N] in the whole band and None; or ones, and the capacity [N] of the band, bit/s.
    """
    if isinstance(channel, CapacityChannel):
        capacity_bps = channel.capacity_bps(state)
        return jnp.ones_like(capacity_bps), capacity_bps
    return snr(channel.gain(state), tx_power_w, bandwidth_hz, noise_w_per_hz), None


def snr(gain: Array, tx_power_w: Array, bandwidth_hz: Array, noise_w_per_hz: Array) -> Array:
    """Received power over the noise in the whole band, p g / (N0 W), of the gain's shape."""
    return tx_power_w * gain / (noise_w_per_hz * bandwidth_hz)


def uplink_rate(share: Array, snr: Array, bandwidth_hz: Array) -> Array:
    """Shannon rate of a share of the band, bit/s: W y log2(1 + snr / y); zero at share zero.

    The transmit power is concentrated in the user's own part of the band, hence `snr / y`.
    """
    safe = jnp.where(share > 0, share, 1.0)
    return jnp.where(share > 0, bandwidth_hz * safe * jnp.log1p(snr / safe) / math.log(2.0), 0.0)

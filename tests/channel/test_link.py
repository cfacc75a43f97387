"""The link budget and Shannon's rate, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec import channel


@pytest.mark.parametrize(("bandwidth_hz", "snr_db"), [(20e6, 20.67), (5e6, 26.69)])
def test_snr_of_the_default_link_budget(bandwidth_hz, snr_db):
    # 23.01 dBm - 103.33 dB + 174 dBm/Hz = 93.68 dBHz; less 73.01 dBHz of 20 MHz, or 66.99 dBHz of 5 MHz
    gain = jnp.array([10**-10.333])
    value = channel.snr(gain, jnp.array([0.2]), jnp.asarray(bandwidth_hz), jnp.asarray(10**-20.4))
    assert np.isclose(10 * np.log10(value[0]), snr_db, atol=0.02)


def test_uplink_rate_is_shannon_with_the_power_in_the_users_part_of_the_band():
    # y = 1/4, snr 3: 10e6 / 4 * log2(1 + 12) = 9.2511e6; share 0 carries nothing
    rate = channel.uplink_rate(jnp.array([0.25, 0.0]), jnp.array([3.0, 3.0]), jnp.asarray(10e6))
    np.testing.assert_allclose(rate, [9.2511e6, 0.0], rtol=1e-4)

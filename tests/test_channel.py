"""Channel: closed forms by hand, statistics by simulation with confidence intervals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec import channel


def make(**changes):
    constants = {
        "carrier_hz": 3.5e9,
        "path_loss_exponent": 3.0,
        "shadowing_db": 4.0,
        "fading_correlation": 0.9,
        "rician_k": 0.0,
        "fading_floor": 0.0,
        "noise_w_per_hz": 10 ** (-20.4),
    }
    return channel.ChannelParams(**{k: jnp.asarray(v, float) for k, v in (constants | changes).items()})


def test_mean_gain_is_friis_at_one_metre_and_falls_with_the_exponent():
    # 20 log10(4 pi 3.5e9 / c) = 43.33 dB at 1 m; 30 dB more for each decade at exponent 3
    gain = channel.mean_gain(jnp.array([1.0, 10.0, 100.0]), jnp.zeros(3), make())
    np.testing.assert_allclose(10 * np.log10(gain), [-43.33, -73.33, -103.33], atol=0.01)


def test_shadowing_is_in_decibel():
    gain = channel.mean_gain(jnp.array([50.0, 50.0]), jnp.array([0.0, 1.5]), make())
    assert np.isclose(10 * np.log10(gain[1] / gain[0]), 6.0, atol=1e-4)


def test_snr_of_the_default_link_budget():
    # 23.01 dBm - 103.33 dB + 174 dBm/Hz - 73.01 dBHz = 20.67 dB
    params = make()
    gain = channel.mean_gain(jnp.array([100.0]), jnp.zeros(1), params)
    value = channel.snr(gain, jnp.array([0.2]), jnp.asarray(20e6), params)
    assert np.isclose(10 * np.log10(value[0]), 20.67, atol=0.02)


@pytest.mark.parametrize(("rician_k", "diversity"), [(0.0, 1), (3.0, 1), (0.0, 4)])
def test_fading_power_has_mean_one_and_the_variance_of_its_distribution(key, rician_k, diversity):
    params = make(rician_k=rician_k)
    fading = channel.draw_fading(key, 200_000, diversity)
    power = np.asarray(channel.fading_gain(fading, 200_000, params))
    # Rician power has variance (1 + 2K) / (1 + K)²; a mean of L branches divides it by L
    variance = (1 + 2 * rician_k) / (1 + rician_k) ** 2 / diversity
    half_width = 4 * np.sqrt(variance / len(power))
    assert abs(power.mean() - 1.0) < half_width
    assert np.isclose(power.var(), variance, rtol=0.05)


def test_fading_is_stationary_with_the_correlation_it_is_given(key):
    params = make(fading_correlation=0.9)
    start_key, step_key = jax.random.split(key)
    before = channel.draw_fading(start_key, 100_000, 1)
    after = channel.step_fading(before, channel.draw_fading(step_key, 100_000, 1), params)
    assert np.isclose(np.mean(np.square(after)), 0.5, rtol=0.02)
    assert np.isclose(np.mean(before * after) / np.mean(before**2), 0.9, atol=0.01)


def test_fading_floor_bounds_the_power_from_below(key):
    power = channel.fading_gain(channel.draw_fading(key, 10_000, 1), 10_000, make(fading_floor=0.1))
    assert np.isclose(power.min(), 0.1)


def test_uplink_rate_is_shannon_with_the_power_in_the_users_part_of_the_band():
    # y = 1/4, snr 3: 10e6 / 4 * log2(1 + 12) = 9.2511e6; share 0 carries nothing
    rate = channel.uplink_rate(jnp.array([0.25, 0.0]), jnp.array([3.0, 3.0]), jnp.asarray(10e6))
    np.testing.assert_allclose(rate, [9.2511e6, 0.0], rtol=1e-4)


def test_gradients_are_finite_for_rayleigh_and_for_frozen_fading(key):
    fading = channel.draw_fading(key, 4, 2)

    def power(rician_k, correlation):
        params = make().replace(rician_k=rician_k, fading_correlation=correlation)
        return channel.fading_gain(channel.step_fading(fading, fading, params), 4, params).sum()

    assert np.isfinite(jax.grad(power, argnums=(0, 1))(0.0, 1.0)).all()

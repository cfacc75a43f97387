"""Path loss, shadowing and fading: closed forms by hand, statistics by simulation with confidence intervals."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.channel import Fading, GaussMarkov, GaussMarkovRadio, LogDistance, mean_gain


def make(
    diversity=1,
    path_loss_exponent=3.0,
    shadowing_db=4.0,
    fading_correlation=0.9,
    rician_k=0.0,
    fading_floor=0.0,
):
    law = LogDistance(jnp.asarray(3.5e9), jnp.asarray(path_loss_exponent), jnp.asarray(shadowing_db))
    fading = Fading(jnp.asarray(rician_k), jnp.asarray(fading_floor), diversity=diversity)
    return GaussMarkov(law, fading, jnp.asarray(fading_correlation))


def in_sight(num_users):
    return jnp.ones(num_users, bool)


def ring(inner_m, outer_m, num_users):
    return jnp.broadcast_to(jnp.array([inner_m, outer_m]), (num_users, 2))


def test_mean_gain_is_friis_at_one_metre_and_falls_with_the_exponent():
    # 20 log10(4 pi 3.5e9 / c) = 43.33 dB at 1 m; 30 dB more for each decade at exponent 3
    gain = mean_gain(make().path_loss, jnp.array([1.0, 10.0, 100.0]), in_sight(3), jnp.zeros(3))
    np.testing.assert_allclose(10 * np.log10(gain), [-43.33, -73.33, -103.33], atol=0.01)


def test_shadowing_is_in_decibel():
    gain = mean_gain(make().path_loss, jnp.array([50.0, 50.0]), in_sight(2), jnp.array([0.0, 1.5]))
    assert np.isclose(10 * np.log10(gain[1] / gain[0]), 6.0, atol=1e-4)


@pytest.mark.parametrize(("rician_k", "diversity"), [(0.0, 1), (3.0, 1), (0.0, 4)])
def test_fading_power_has_mean_one_and_the_variance_of_its_distribution(key, rician_k, diversity):
    fading = make(diversity, rician_k=rician_k).fading
    power = np.asarray(fading.gain(fading.init(key, 200_000), in_sight(200_000)))
    # Rician power has variance (1 + 2K) / (1 + K)²; a mean of L branches divides it by L
    variance = (1 + 2 * rician_k) / (1 + rician_k) ** 2 / diversity
    half_width = 4 * np.sqrt(variance / len(power))
    assert abs(power.mean() - 1.0) < half_width
    assert np.isclose(power.var(), variance, rtol=0.05)


def test_a_user_out_of_sight_has_no_direct_path(key):
    fading = make(rician_k=3.0).fading
    power = np.asarray(fading.gain(fading.init(key, 200_000), jnp.zeros(200_000, bool)))
    assert np.isclose(power.var(), 1.0, rtol=0.05)  # Rayleigh; 7/16 with the direct path


def test_fading_is_stationary_with_the_correlation_it_is_given_and_the_mean_gain_stays(key):
    channel = make(fading_correlation=0.9)
    start_key, step_key = jax.random.split(key)
    before = channel.init(start_key, ring(50.0, 150.0, 100_000))
    after = channel.step(step_key, before)
    assert np.isclose(np.mean(np.square(after.fading)), 0.5, rtol=0.02)
    assert np.isclose(np.mean(before.fading * after.fading) / np.mean(before.fading**2), 0.9, atol=0.01)
    np.testing.assert_array_equal(before.mean_gain, after.mean_gain)


def test_users_are_uniform_over_the_areas_of_their_rings(key):
    # Without shadowing and with exponent 1, distance is in proportion to 1 / gain; the share of a ring of 50-150 m
    # that lies within 100 m is (100² - 50²) / (150² - 50²) = 3/8.
    channel = make(shadowing_db=0.0, path_loss_exponent=1.0)
    gain = channel.init(key, ring(50.0, 150.0, 20_000)).mean_gain
    at_one_metre = mean_gain(channel.path_loss, jnp.ones(1), in_sight(1), jnp.zeros(1))
    distance_m = np.asarray(at_one_metre / gain)
    assert distance_m.min() > 50 * (1 - 1e-5)
    assert distance_m.max() < 150 * (1 + 1e-5)
    assert abs((distance_m < 100).mean() - 3 / 8) < 4 * np.sqrt(3 / 8 * 5 / 8 / 20_000)


def test_fading_floor_bounds_the_power_from_below(key):
    fading = make(fading_floor=0.1).fading
    assert np.isclose(fading.gain(fading.init(key, 10_000), in_sight(10_000)).min(), 0.1)


def test_gain_is_mean_gain_times_fading(key):
    channel = make(diversity=3)
    state = channel.init(key, ring(50.0, 150.0, 5))
    amplitudes = np.asarray(state.fading, np.float64).reshape(2, 3, 5)  # real and imaginary, branches, users
    by_hand = np.asarray(state.mean_gain, np.float64) * (amplitudes**2).sum(axis=0).mean(axis=0)
    np.testing.assert_allclose(channel.gain(state), by_hand, rtol=1e-5)


def test_gradients_are_finite_for_rayleigh_and_for_frozen_fading(key):
    state = make(diversity=2).init(key, ring(50.0, 150.0, 4))

    def gain(rician_k, correlation):
        channel = make(diversity=2, rician_k=rician_k, fading_correlation=correlation)
        return channel.gain(channel.step(key, state)).sum()

    assert np.isfinite(jax.grad(gain, argnums=(0, 1))(0.0, 1.0)).all()


def test_settings_are_in_decibel_and_the_channel_in_plain_numbers():
    radio = GaussMarkovRadio(bandwidth_hz=1e6, fading_floor_db=-20.0, fading_diversity=3)
    channel = radio.channel(np.array([[50.0, 150.0]]), np.array([0.2]), 1.0, Path())
    assert np.isclose(channel.fading.floor, 0.01)
    assert channel.fading.diversity == 3
    noise = GaussMarkovRadio(bandwidth_hz=1e6, noise_dbm_per_hz=-170.0, noise_figure_db=6.0).noise_w_per_hz
    assert np.isclose(noise, 10 ** ((-164 - 30) / 10))

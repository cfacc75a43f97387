"""Movement and what it does to the channel: stationary distributions and correlations, with confidence intervals."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

import jaxmec
from jaxmec.channel import (
    MOVEMENTS,
    PATH_LOSSES,
    LogDistance,
    MobilityRadio,
    UrbanPathLoss,
    bessel_j0,
    doppler_correlation,
)
from jaxmec.channel.movement import GaussMarkovMovementSettings, RandomWaypointSettings
from jaxmec.channel.tr38901 import UrbanPathLossSettings
from jaxmec.config import ConfigError

OPTIMISED = True
RADIUS_M = 100.0
NUM_USERS = 20_000


@jax.jit
def start_and_end(key, movement, num_slots):
    key_init, key_run = jax.random.split(key)
    radius_m = jnp.full(NUM_USERS, RADIUS_M)
    start = movement.init(key_init, radius_m)

    def slot(index, state):
        return movement.step(jax.random.fold_in(key_run, index), state, radius_m)

    return start, jax.lax.fori_loop(0, num_slots, slot, start)


def walk(key, settings, num_slots, slot_s=1.0):
    """The movement's state before and after num_slots."""
    return start_and_end(key, settings.movement(slot_s, np.array([RADIUS_M])), num_slots)


def relative_distance(state):
    return np.linalg.norm(np.asarray(state.position_m, np.float64), axis=0) / RADIUS_M


def waypoint_distance_cdf():
    """Distribution of the distance of a moving random-waypoint user from the centre of the unit disc.

    Density over the area in proportion to (1 - r²) ∫ sqrt(1 - r² cos² φ) dφ over 0..π: E. Hyytiä, P. Lassila, J.
    Virtamo, "Spatial Node Distribution of the Random Waypoint Mobility Model", IEEE Trans. Mobile Computing 5 (2006).
    The integral is twice the complete elliptic one of the second kind.
    """
    r = np.linspace(0, 1, 2001)
    mass = integrate.cumulative_trapezoid(r * (1 - r**2) * special.ellipe(r**2), r, initial=0)
    return lambda x: np.interp(x, r, mass / mass[-1])


@pytest.mark.parametrize("num_slots", [0, 300])
def test_random_waypoint_is_stationary_with_the_known_distribution(key, num_slots):
    settings = RandomWaypointSettings(speed_m_s=(0.5, 2.0), pause_s=(0.0, 0.0))
    start, end = walk(key, settings, num_slots)
    state = end if num_slots else start
    assert stats.kstest(relative_distance(state), waypoint_distance_cdf()).pvalue > 1e-3
    # A moving user's speed has a density in proportion to 1 / speed: log-uniform.
    level = np.log(np.asarray(state.speed_m_s) / 0.5) / np.log(4.0)
    assert stats.kstest(level, "uniform").pvalue > 1e-3


def test_random_waypoint_pauses_for_its_share_of_the_time(key):
    settings = RandomWaypointSettings(speed_m_s=(1.0, 1.0), pause_s=(20.0, 60.0))
    # A way is 128 R / (45 π) = 90.54 m on average, walked in 90.54 s; pauses take 40 s.
    share = 40.0 / (40.0 + 90.54)
    for state in walk(key, settings, 200):
        pausing = (np.asarray(state.pause_s) > 0).mean()
        assert abs(pausing - share) < 4 * np.sqrt(share * (1 - share) / NUM_USERS)
        # What is left of a pause that one steps into: mean E[p²] / (2 E[p]), with E[p²] = 40² + 40² / 12.
        left_s = np.asarray(state.pause_s)[np.asarray(state.pause_s) > 0]
        assert abs(left_s.mean() - (1600 + 1600 / 12) / 80) < 4 * left_s.std() / np.sqrt(len(left_s))


def test_random_waypoint_walks_at_its_speed_and_fits_several_legs_into_a_slot(key):
    settings = RandomWaypointSettings(speed_m_s=(2.0, 2.0), pause_s=(0.0, 0.0))
    start, end = walk(key, settings, 1)
    straight = np.linalg.norm(np.asarray(start.waypoint_m - start.position_m), axis=0) > 2.0
    moved = np.linalg.norm(np.asarray(end.position_m - start.position_m), axis=0)
    np.testing.assert_allclose(moved[straight], 2.0, rtol=1e-3)
    assert (moved[~straight] < 2.0 + 1e-4).all()
    # In slots of 20 s, 40 m, many arrive and turn; nobody rests, so the distribution stays what it was.
    _, late = walk(key, settings, 50, slot_s=20.0)
    assert stats.kstest(relative_distance(late), waypoint_distance_cdf()).pvalue > 1e-3


def test_gauss_markov_movement_is_uniform_with_rayleigh_speeds(key):
    settings = GaussMarkovMovementSettings(speed_m_s=5.0, memory_s=10.0)
    for state in walk(key, settings, 200):
        assert stats.kstest(relative_distance(state) ** 2, "uniform").pvalue > 1e-3
        speed = np.linalg.norm(np.asarray(state.velocity_m_s), axis=0)
        assert stats.kstest(speed, "rayleigh", args=(0, 5.0 * np.sqrt(2 / np.pi))).pvalue > 1e-3


def test_gauss_markov_velocity_forgets_over_its_memory(key):
    # Far from the edge nothing is reflected: the correlation after 5 s is exp(-5 / 10).
    settings = GaussMarkovMovementSettings(speed_m_s=0.5, memory_s=10.0)
    start, end = walk(key, settings, 5)
    inside = relative_distance(start) < 0.8
    before, after = (np.asarray(s.velocity_m_s)[:, inside].ravel() for s in (start, end))
    r = np.corrcoef(before, after)[0, 1]
    assert abs(np.arctanh(r) - np.arctanh(np.exp(-0.5))) < 4 / np.sqrt(len(before))


def test_a_reflection_is_that_of_a_billiard_ball():
    # From the centre towards (1, 0) at 30 m/s for 5 s: 100 m out and 50 m back.
    movement = GaussMarkovMovementSettings(speed_m_s=10.0, memory_s=1e12).movement(5.0, np.array([RADIUS_M]))
    state = movement.init(jax.random.key(0), jnp.full(2, RADIUS_M)).replace(
        position_m=jnp.array([[0.0, 0.0], [0.0, 60.0]]), velocity_m_s=jnp.array([[30.0, 30.0], [0.0, 0.0]])
    )
    after = movement.replace(memory=jnp.asarray(1.0)).step(jax.random.key(1), state, jnp.full(2, RADIUS_M))
    np.testing.assert_allclose(after.position_m[:, 0], [50.0, 0.0], atol=1e-3)
    np.testing.assert_allclose(after.velocity_m_s[:, 0], [-30.0, 0.0], atol=1e-3)
    # From (0, 60): hits (80, 60) after 80 m; the normal is (.8, .6), so (1, 0) turns into (1 - 2 · .64, -2 · .48).
    np.testing.assert_allclose(after.position_m[:, 1], [80 - 0.28 * 70, 60 - 0.96 * 70], atol=1e-3)


def test_bessel_function_is_scipys():
    with jax.enable_x64(True):
        x = np.concatenate([np.linspace(0, 12, 500), np.geomspace(12, 1e4, 500)])
        np.testing.assert_allclose(bessel_j0(jnp.asarray(x)), special.j0(x), atol=1e-7)


def test_doppler_correlation_of_a_pedestrian():
    # 1 m/s at 3.5 GHz is a Doppler shift of 11.67 Hz; over 10 ms J0(2π · 0.1167) = J0(0.7336) = 0.8699;
    # over 50 ms J0(3.668) < 0, where a first-order process has no correlation left.
    value = doppler_correlation(jnp.array([0.0, 0.01, 0.05]), jnp.asarray(3.5e9))
    np.testing.assert_allclose(value, [1.0, 0.86990, 0.0], atol=1e-4)


def mobile(slot_s=1.0, **settings):
    radio = MobilityRadio(bandwidth_hz=20e6, fading_diversity=1, **settings)
    return radio.channel(np.array([[10.0, RADIUS_M]]), np.array([0.2]), slot_s, Path())


@jax.jit
def before_and_after(key, channel):
    key_init, key_step = jax.random.split(key)
    start = channel.init(key_init, jnp.broadcast_to(jnp.array([10.0, RADIUS_M]), (NUM_USERS, 2)))
    return start, channel.step(key_step, start)


def one_slot(key, channel):
    """The channel's states before and after a slot, and how far each user went [N]."""
    start, end = before_and_after(key, channel)
    return start, end, np.linalg.norm(np.asarray(end.movement.position_m - start.movement.position_m), axis=0)


@pytest.mark.parametrize("slot_s", [0.002, 0.01, 0.02])
def test_fading_decorrelates_as_jakes_says(key, slot_s):
    # 30 km/h at 3.5 GHz: 97.3 Hz
    speed = 30 / 3.6
    movement = RandomWaypointSettings(speed_m_s=(speed, speed), pause_s=(0.0, 0.0))
    start, end, _ = one_slot(key, mobile(slot_s, movement=movement))
    expected = max(special.j0(2 * np.pi * speed * 3.5e9 / 299_792_458 * slot_s), 0.0)
    before, after = np.asarray(start.fading), np.asarray(end.fading)
    r = np.corrcoef(before, after)[0, 1]
    assert abs(np.arctanh(r) - np.arctanh(expected)) < 4 / np.sqrt(len(before))
    assert abs(np.mean(after**2) - 0.5) < 4 * np.sqrt(0.5 / len(after))


@pytest.mark.parametrize("slot_s", [1.0, 10.0])
def test_shadowing_decorrelates_over_its_distance(key, slot_s):
    movement = RandomWaypointSettings(speed_m_s=(2.0, 2.0), pause_s=(0.0, 0.0))
    start, end, moved_m = one_slot(key, mobile(slot_s, movement=movement, shadowing_distance_m=(15.0, 15.0)))
    straight = moved_m > 2.0 * slot_s * (1 - 1e-3)  # others turned on their way
    before, after = (np.asarray(state.shadowing)[straight] for state in (start, end))
    r = np.corrcoef(before, after)[0, 1]
    assert abs(np.arctanh(r) - np.arctanh(np.exp(-2.0 * slot_s / 15.0))) < 4 / np.sqrt(len(before))
    assert abs(after.var() - 1.0) < 4 * np.sqrt(2 / len(after))


def test_who_stands_keeps_channel_and_place(key):
    channel = mobile(movement=RandomWaypointSettings(pause_s=(50.0, 60.0)))
    start, end, moved_m = one_slot(key, channel)
    still = moved_m == 0
    assert 0.1 < still.mean() < 0.9
    for name in ("fading", "shadowing", "view"):
        before, after = np.asarray(getattr(start, name)), np.asarray(getattr(end, name))
        assert (before[-NUM_USERS:] == after[-NUM_USERS:])[still].all()
        assert (before[-NUM_USERS:] != after[-NUM_USERS:])[~still].mean() > 0.99
    np.testing.assert_allclose(end.mean_gain[still], start.mean_gain[still], rtol=1e-5)


def test_line_of_sight_is_met_with_its_probability_and_lasts(key):
    channel = mobile(path_loss=UrbanPathLossSettings())
    start, end, _ = one_slot(key, channel)
    for state in (start, end):
        distance_m = np.maximum(np.linalg.norm(np.asarray(state.movement.position_m), axis=0), 10.0)
        p = np.asarray(channel.path_loss.line_of_sight_probability(jnp.asarray(distance_m)))
        excess = np.asarray(state.line_of_sight) - p
        assert abs(excess.mean()) < 4 * np.sqrt((p * (1 - p)).mean() / NUM_USERS)
    # Half a metre of 50 m on average: views correlated by exp(-.01) differ in sign for arccos(.99) / π = 4.5 %.
    assert (np.asarray(start.line_of_sight) != np.asarray(end.line_of_sight)).mean() < 0.06


def test_distance_counts_from_the_inner_radius_on(key):
    channel = mobile(path_loss=UrbanPathLossSettings())
    state = jax.jit(channel.init)(key, jnp.array([[30.0, 100.0]] * 3))
    movement = state.movement.replace(
        position_m=jnp.array([[0.0, 0.0, 30.0], [0.0, 20.0, 0.0]]), pause_s=jnp.full(3, 9.0)
    )
    state = state.replace(movement=movement, view=jnp.full(3, -9.0), shadowing=jnp.zeros(3))
    # In sight at 30 m and at 3.5 GHz: d_3D = sqrt(30² + 8.5²) = 31.181; 32.4 + 21 · 1.49389 + 10.881 = 74.653 dB
    after = jax.jit(channel.step)(key, state)
    np.testing.assert_allclose(-10 * np.log10(after.mean_gain), 74.653, atol=2e-3)


@pytest.mark.parametrize(
    ("movement", "path_loss", "law"),
    [("random_waypoint", "log_distance", LogDistance), ("gauss_markov", "tr38901", UrbanPathLoss)],
)
def test_state_keeps_its_types_and_gradients_are_finite(key, movement, path_loss, law):
    channel = mobile(movement=MOVEMENTS[movement](), path_loss=PATH_LOSSES[path_loss]())
    assert isinstance(channel.path_loss, law)

    def log_gain(channel):
        state = channel.init(key, jnp.array([[10.0, 100.0], [20.0, 50.0]]))
        after = channel.step(key, state)
        return jnp.log(channel.gain(after)).sum(), (state, after)

    gradient, (state, after) = jax.jit(jax.grad(log_gain, has_aux=True))(channel)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_mobile_scenario_steps_and_its_users_walk(key):
    env, params = jaxmec.make("mobile", num_users=2)
    _, state = env.reset(key, params)
    obs, after, reward, _, info = jax.jit(env.step_env)(key, state, jnp.zeros(2, jnp.int32), params)
    assert np.isfinite(obs).all()
    assert np.isfinite(reward)
    assert (np.asarray(info["delay_s"]) > 0).all()
    # A second at up to 1.2 m/s
    way = np.linalg.norm(np.asarray(after.channel.movement.position_m - state.channel.movement.position_m), axis=0)
    assert (way <= 1.2 + 1e-4).all()
    gain = params.channel.gain(state.channel)
    # 0.2 W over -169 dBm/Hz of 12 MHz: 23.01 - (-169 + 70.79) = 121.22 dB
    snr_db = 10 * np.log10(np.asarray(env.slot_problem(state, jnp.zeros(2, jnp.int32), params).snr))
    np.testing.assert_allclose(snr_db, 10 * np.log10(gain) + 121.22, atol=1e-2)


def test_speeds_that_cross_the_cell_in_a_slot_are_named():
    with pytest.raises(ConfigError, match=r"radio.movement.speed_m_s: got 30, 150 m in a slot of 5 s; .* 100 m"):
        RandomWaypointSettings(speed_m_s=(10.0, 30.0)).movement(5.0, np.array([RADIUS_M]))
    with pytest.raises(ConfigError, match=r"movement: pause_s: got \[5, 1\]; allowed is \[low, high\]"):
        RandomWaypointSettings(pause_s=(5, 1))

"""Arrival processes of requests: against simulations of another kind, by hand, and by their moments."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest, poisson

from jaxmec.config import ConfigError
from jaxmec.requests import REQUESTS, Bursty, Frames, Poisson, Replay, Slot, serve
from jaxmec.requests.bursty import BurstySettings
from jaxmec.requests.replay import ReplaySettings

RECORDED = [0.5, 2.0, 0.0, 1.5]


@pytest.fixture(scope="module")
def times():
    """Requests of 20 users over 400 slots of 2.5 expected requests each, in expected requests."""

    def run(process, slots=400, users=20, expected=2.5, room=24):
        @jax.jit
        def play(key):
            key_init, key_run = jax.random.split(key)
            zeros = jnp.zeros((users, 3))

            def slot(state, key):
                drawn = process.draw(key, state, room)
                met = Slot(drawn, jnp.full(users, expected), jnp.asarray(expected), zeros, zeros, jnp.ones(users))
                served = serve(process.intervals, met, record=True)
                return process.step(state, drawn, served.count, served.wait), (served.count, served.arrival_s)

            return jax.lax.scan(slot, process.init(key_init, users), jax.random.split(key_run, slots))[1]

        counts, arrivals = (np.asarray(x) for x in play(jax.random.key(7)))
        starts = expected * np.arange(slots)
        return counts, [
            np.concatenate([start + arrivals[t, : counts[t, n], n] for t, start in enumerate(starts)])
            for n in range(users)
        ]

    return run


def test_poisson_requests_are_exponentially_spaced_and_their_numbers_poisson(times):
    counts, users = times(Poisson())
    gaps = np.concatenate([np.diff(time) for time in users])
    assert kstest(gaps, "expon").pvalue > 0.01
    share = np.bincount(counts.reshape(-1), minlength=12)[:12] / counts.size
    expected = poisson.pmf(np.arange(12), 2.5)
    assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected / counts.size) + 1e-9)


def test_frames_follow_the_clock(times):
    _, users = times(Frames(jnp.asarray(0.0)))
    for time in users:
        np.testing.assert_allclose(np.diff(time), 1.0, atol=1e-3)
    _, users = times(Frames(jnp.asarray(0.4)))
    for time in users:
        lags = (time - time[0]) - np.arange(len(time))  # of the first frame's
        assert 0.35 < np.ptp(lags) <= 0.401
        assert np.all(np.diff(time) > 0)
    first = np.array([time[0] for time in times(Frames(jnp.asarray(1.0)), slots=4, users=4000)[1]])
    # Somebody who comes at any time waits E[X²] / 2 E[X] for the next frame, X the interval: here 1 + 2 / 12.
    assert first.mean() == pytest.approx((1.0 + 2.0 / 12.0) / 2.0, abs=4 * first.std() / math.sqrt(4000))


def on_off_counts(rng, peak, burst_requests, window, number):
    """Requests in windows of a process that is switched on and off, simulated as such."""
    end, counts = peak / burst_requests, []
    begin = end / (peak - 1.0)
    for _ in range(number):
        is_on, left, total = rng.random() < 1.0 / peak, window, 0
        while left > 0:
            stay = min(rng.exponential(1.0 / (end if is_on else begin)), left)
            total += rng.poisson(peak * stay) if is_on else 0
            is_on, left = not is_on, left - stay
        counts.append(total)
    return np.array(counts)


def test_bursts_are_those_of_a_process_that_is_switched_on_and_off(times):
    process = Bursty(jnp.asarray(4.0), jnp.asarray(8.0))
    counts, users = times(process, users=60)
    gaps = np.concatenate([np.diff(time) for time in users])
    assert gaps.mean() == pytest.approx(1.0, abs=4 * gaps.std() / math.sqrt(len(gaps)))
    by_hand = 1.0 + 2.0 * 8.0 * 0.75**2
    assert float(process.squared_variation()) == pytest.approx(by_hand)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(by_hand, rel=0.08)
    # Over ten slots at once: mean and variance of the numbers, from independent stretches.
    mine = counts.reshape(40, 10, 60).sum(axis=1)[::2].reshape(-1)
    theirs = on_off_counts(np.random.default_rng(0), 4.0, 8.0, 25.0, 3000)
    assert mine.mean() == pytest.approx(25.0, abs=4 * mine.std() / math.sqrt(len(mine)))
    assert mine.var() == pytest.approx(theirs.var(), rel=0.2)
    first = np.array([time[0] for time in times(process, slots=8, users=4000)[1] if len(time)])
    assert first.mean() > 3.0  # (1 + c²) / 2 = 5, cut at the end of what was simulated


def test_a_replayed_trace_has_the_intervals_of_the_trace(times):
    process = Replay(jnp.asarray(RECORDED))
    _, users = times(process, slots=40)
    for time in users:
        gaps = np.diff(time)
        shifts = [np.resize(np.roll(RECORDED, shift), len(gaps)) for shift in range(4)]
        assert min(np.abs(gaps - shift).max() for shift in shifts) < 1e-3
    assert len({round(float(time[0]), 4) for time in users}) > 15  # everybody starts elsewhere


@pytest.mark.parametrize(
    ("process", "expected", "most"),
    [
        (Poisson(), 3.0, 7),  # P(more than 7) = 1.19 %, and 0.38 % for 8
        (Frames(jnp.asarray(0.0)), 2.5, 3),
        (Frames(jnp.asarray(0.5)), 2.5, 4),
        (Bursty(jnp.asarray(2.0), jnp.asarray(5.0)), 1.5, 7),
        (Replay(jnp.asarray(RECORDED)), 1.6, 3),  # 0.0 and 1.5 after the one at 2.0
    ],
)
def test_most_is_what_a_slot_hardly_exceeds(process, expected, most):
    assert process.most(expected, 0.012) == most


def test_requests_without_room_are_counted():
    expected = jnp.asarray([0.0, 5.0])
    process = Frames(jnp.asarray(0.0))
    drawn = process.draw(jax.random.key(0), process.init(jax.random.key(1), 2), 2)
    zeros = jnp.zeros((2, 3))
    served = serve(process.intervals, Slot(drawn, expected, jnp.asarray(1.0), zeros, zeros, jnp.ones(2)))
    assert served.count.tolist() == [0, 2]
    assert served.overflow.tolist() == [0, 3]
    assert float(served.wait[1]) == pytest.approx(float(drawn[0][1]), abs=1e-5)  # the clock went on


def test_settings_name_what_is_wrong(tmp_path):
    assert set(REQUESTS) == {"poisson", "frames", "bursty", "trace"}
    with pytest.raises(ConfigError, match="trace_file: got None"):
        ReplaySettings()
    (tmp_path / "one.csv").write_text("time\n1.0\n1.0\n")
    with pytest.raises(ConfigError, match="one time"):
        ReplaySettings("one.csv").process(tmp_path)
    (tmp_path / "two.csv").write_text("time\n1.0\n2.0\n4.0\n")
    np.testing.assert_allclose(ReplaySettings("two.csv").process(tmp_path).recorded, [2 / 3, 4 / 3], rtol=1e-6)
    assert BurstySettings(peak=3.0).process(tmp_path).peak == 3.0

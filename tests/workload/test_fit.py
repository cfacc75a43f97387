"""A Markov arrival process fitted to requests: it finds what it was made with, and tells its error."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxmec.workload import MarkovSettings, fit_markov, load_request_times
from jaxmec.workload.fit import process_dispersion

TRACES = Path(os.environ.get("JAXMEC_TRACES", Path(__file__).parents[3] / "shared/data/traces"))


def simulate(low_hz, high_hz, stay_probability, num_slots, slot_s, seed=0):
    """Request times of the process itself, by a chain in NumPy."""
    random = np.random.default_rng(seed)
    state, states = 0, []
    for level in random.random(num_slots):
        states.append(state)
        state = state if level < stay_probability[state] else 1 - state
    counts = random.poisson(np.where(states, high_hz, low_hz) * slot_s)
    return np.sort(np.repeat(np.arange(num_slots), counts) + random.random(counts.sum())) * slot_s


def test_the_fit_finds_the_process_that_made_the_trace():
    times_s = simulate(1.0, 12.0, (0.97, 0.9), 4000, 0.5)
    fit = fit_markov(times_s, 0.5, iterations=40)
    # Some 920 slots at 12 Hz · 0.5 s and 3,080 at 1 Hz · 0.5 s; a slot is told apart almost surely. Four deviations:
    assert abs(fit.high_hz - 12.0) < 4 * np.sqrt(12.0 / (920 * 0.5))
    assert abs(fit.low_hz - 1.0) < 4 * np.sqrt(1.0 / (3080 * 0.5)) * 1.5
    for found, made, slots in zip(fit.stay_probability, (0.97, 0.9), (3080, 920), strict=True):
        assert abs(found - made) < 4 * np.sqrt(made * (1 - made) / slots) * 1.5
    assert np.isclose(fit.high_share, 0.03 / (0.03 + 0.1), atol=0.07)
    assert np.isclose(fit.mean_hz, len(times_s) / times_s[-1], rtol=0.02)
    assert fit.log_likelihood > fit.poisson_log_likelihood + 0.5
    # Twenty windows or more: a variance over k windows has a relative deviation near sqrt(2 / k).
    windows = 2000 / fit.window_s
    assert (abs(fit.dispersion_error) < 4 * np.sqrt(2 / windows)).all()


def test_dispersion_of_the_process_by_hand():
    # Rates 1 and 3 with staying .8 and .8 in slots of one second: mean 2, variance 1, correlation .6.
    # One slot: 1 + 1/2; two: 1 + 1/2 (1 + 2 · 1/2 · .6) = 1.8; three: 1 + 1/2 (1 + 2 (2/3 · .6 + 1/3 · .36)) = 2.02
    value = process_dispersion(np.array([1.0, 3.0]), np.array([0.8, 0.8]), np.array([1, 2, 3]))
    np.testing.assert_allclose(value, [1.5, 1.8, 2.02])


def test_requests_that_are_poisson_have_no_second_rate_worth_having():
    random = np.random.default_rng(0)
    fit = fit_markov(np.sort(random.uniform(0, 2000, 8000)), 1.0, iterations=40)
    assert fit.log_likelihood - fit.poisson_log_likelihood < 5 / 2000  # a few nats for three numbers more
    assert (abs(fit.fitted_dispersion - 1) < 0.25).all()


def test_the_process_of_the_fit_runs_with_its_share_of_high_slots(key):
    settings = MarkovSettings(stay_probability=(0.97, 0.9))
    process = settings.process(np.zeros(20_000), np.ones(20_000), 1.0, Path())
    start = process.init(key)
    state = jax.jit(
        lambda s: jax.lax.fori_loop(0, 30, lambda i, s: process.step(jax.random.fold_in(key, i), s), s)
    )(start)
    share = 0.03 / 0.13
    for high in (start, state):
        assert abs(np.asarray(high).mean() - share) < 4 * np.sqrt(share * (1 - share) / 20_000)
    after = process.step(jax.random.fold_in(key, 99), state)
    stays = np.asarray(after == state)
    for rate, made in ((0, 0.97), (1, 0.9)):
        there = stays[np.asarray(state) == rate]
        assert abs(there.mean() - made) < 4 * np.sqrt(made * (1 - made) / len(there))


@pytest.mark.parametrize(
    ("times_s", "arguments", "message"),
    [
        (np.arange(10.0), {"slot_s": 1.0}, "slot_s: got 1, 9 slots; allowed are 20 to 10,000,000"),
        (np.array([0.0, 1e14]), {"slot_s": 1.0}, r"slot_s: got 1, 1e\+14 slots"),
        (np.arange(100.0) + 0.5, {"slot_s": 1.0}, "times_s: every slot has as many requests"),
        (np.array([0.0, 0.1, 30.0, 99.5]), {"slot_s": 1.0, "window_s": [10.0]}, "window_s: got 10; .* 20 windows"),
    ],
)
def test_what_cannot_be_fitted_is_named(times_s, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_markov(times_s, **arguments)


@pytest.mark.skipif(not TRACES.exists(), reason="measured traces are not here")
def test_measured_bursts_are_told_apart_from_a_near_poisson_log():
    code, conv = (
        fit_markov(load_request_times(TRACES / f"arrivals/AzureLLMInferenceTrace_{name}.csv"), 1.0, iterations=40)
        for name in ("code", "conv")
    )
    # Variance over mean of the requests per second, computed apart: 13.2 and 1.39
    np.testing.assert_allclose([code.dispersion[0], conv.dispersion[0]], [13.19, 1.39], atol=0.01)
    assert code.log_likelihood > code.poisson_log_likelihood + 3
    assert code.high_hz / code.low_hz > 100 * conv.high_hz / conv.low_hz

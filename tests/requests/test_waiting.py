"""The factor on the waiting time: where it is known by theory."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.requests import Bursty, Frames, Poisson, fit_waiting_scale

SMALL = {"num_users": 128, "num_requests": 2048}


def test_poisson_requests_need_no_factor(key):
    fit = fit_waiting_scale(key, Poisson(), (0.3, 0.5, 0.7), **SMALL)
    assert fit.scale == pytest.approx(1.0, abs=0.03)
    # M/D/1: ρ / 2 (1 - ρ) service times
    np.testing.assert_allclose(fit.poisson, [0.3 / 1.4, 0.5, 0.7 / 0.6])
    assert (abs(fit.waiting - fit.poisson) < 2 * fit.half_width).all()


def test_frames_that_cannot_meet_do_not_wait(key):
    # A tenth of a period late at most: no two frames are less than 0.9 periods apart.
    fit = fit_waiting_scale(key, Frames(jnp.asarray(0.1)), (0.2, 0.8), **SMALL)
    assert fit.scale == pytest.approx(0.0, abs=1e-4)
    np.testing.assert_allclose(fit.delay_error, 0.0, atol=1e-4)


def test_a_single_load_is_met_and_the_others_are_told(key):
    # Interrupted Poisson requests are renewals H2/D/1: with bursts of one at four times the rate c² = 2.125, and the
    # waiting of GI/D/1 by Lindley's recursion on intervals of the mixture's own law.
    bursty = Bursty(jnp.asarray(4.0), jnp.asarray(1.0))
    fit = fit_waiting_scale(key, bursty, (0.5,), **SMALL)
    assert fit.delay_error[0] == pytest.approx(0.0, abs=1e-6)
    mixture, rng = bursty.mixture(), np.random.default_rng(0)
    wait, total, users, requests = np.zeros(2000), 0.0, 2000, 2000
    for number in range(requests):
        rate = np.where(rng.random(users) < float(mixture.probability), float(mixture.fast), float(mixture.slow))
        wait = np.maximum(wait + 0.5 - rng.exponential(1.0 / rate), 0.0)
        total += wait.mean() if number >= 200 else 0.0
    expected = total / (requests - 200) / 0.5
    assert fit.waiting[0] == pytest.approx(expected, abs=2 * fit.half_width[0] + 0.01)
    several = fit_waiting_scale(key, bursty, (0.2, 0.8), **SMALL)
    assert abs(several.delay_error).max() > 0.01


def test_loads_that_cannot_be_are_named(key):
    with pytest.raises(ValueError, match=r"load: got \[0.5, 1.0\]; allowed are numbers between 0 and 1"):
        fit_waiting_scale(key, Poisson(), [0.5, 1.0])
    with pytest.raises(ValueError, match="num_users: got 1; allowed are at least 2"):
        fit_waiting_scale(key, Poisson(), num_users=1)

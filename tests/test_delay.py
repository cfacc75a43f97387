"""End-to-end delay: by hand, and against a simulated series of queues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.delay import independent_delay, serial_delay


def simulate_waiting(stages, rate_hz, requests, seed):
    """Mean waiting in a series of first-come-first-served queues, by Lindley's recursion, one value per batch."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate_hz, requests))
    free = np.zeros(len(stages))
    waits = np.empty(requests)
    for i, arrival in enumerate(arrivals):
        now = arrival
        for k, service in enumerate(stages):
            now = free[k] = max(now, free[k]) + service
        waits[i] = now - arrival - sum(stages)
    return waits[requests // 10 :].reshape(20, -1).mean(axis=1)


@pytest.mark.parametrize("stages", [(0.02, 0.03, 0.05), (0.05, 0.03, 0.02), (0.04, 0.04, 0.04)])
def test_serial_delay_is_that_of_a_simulated_series(stages):
    waits = simulate_waiting(stages, 10.0, 200_000, seed=0)
    waiting = serial_delay(jnp.asarray(stages), 10.0, 0.9) - sum(stages)
    half_width = 3.5 * waits.std(ddof=1) / np.sqrt(len(waits))
    assert abs(waits.mean() - waiting) < half_width
    assert independent_delay(jnp.asarray(stages), 10.0, 0.9) - sum(stages) > waits.mean() + half_width


def test_delays_by_hand():
    # .1 + 10 * .05² / (2 * .5); the sum adds 10 * .02² / 1.6 and 10 * .03² / 1.4
    stages = jnp.array([0.02, 0.03, 0.05])
    assert np.isclose(serial_delay(stages, 10.0, 0.9), 0.125, rtol=1e-6)
    assert np.isclose(independent_delay(stages, 10.0, 0.9), 0.125 + 0.0025 + 0.0064286, rtol=1e-5)


def test_past_the_knee_the_delay_goes_on_along_its_tangent():
    # at ρ = .9 the waiting time is .9² / .2 = 4.05 and its slope (1 / .01 - 1) / 2 = 49.5
    stages = jnp.array([[0.9, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    delay = serial_delay(stages, jnp.ones(3), 0.9)
    np.testing.assert_allclose(delay, [0.9 + 4.05, 1.0 + 4.05 + 4.95, 2.0 + 4.05 + 54.45], rtol=1e-5)


def test_gradient_is_continuous_at_the_knee_and_finite_everywhere():
    def delay(service):
        return serial_delay(jnp.stack([service, 0.5 * service, 0.0 * service]), 1.0, 0.9)

    slopes = [float(jax.grad(delay)(s)) for s in (0.0, 0.9 - 1e-4, 0.9 + 1e-4, 50.0)]
    np.testing.assert_allclose(slopes, [1.5, 51.0, 51.0, 51.0], rtol=5e-3)

"""Virtual queues and their prices, by hand."""

import jax.numpy as jnp
import numpy as np

from jaxmec import lyapunov


def test_queue_grows_by_the_excess_and_never_below_zero():
    queue = lyapunov.step_queue(jnp.array([0.5, 0.5, 2.0]), jnp.array([0.3, 0.0, 0.1]), jnp.array([0.1, 0.1, 0.1]))
    np.testing.assert_allclose(queue, [2.5, 0.0, 2.0], rtol=1e-6)


def test_queue_bounds_the_mean_excess():
    # Summing the recursion: mean(e/budget) - 1 <= (Z_T - Z_0) / T for any sequence of energies.
    rng = np.random.default_rng(0)
    energy, queue = rng.exponential(1.2, 500), jnp.zeros(())
    for e in energy:
        queue = lyapunov.step_queue(queue, jnp.asarray(e), jnp.asarray(1.0))
    assert energy.mean() - 1.0 <= float(queue) / 500 + 1e-5


def test_prices_and_drift_plus_penalty_by_hand():
    prices = lyapunov.slot_prices(
        tradeoff=jnp.asarray(10.0),
        delay_weight=jnp.array([1.0, 2.0]),
        device_queue=jnp.array([3.0, 0.0]),
        device_budget_j=jnp.array([0.15, 0.25]),
        server_queue=jnp.asarray(4.0),
        server_budget_j=jnp.asarray(8.0),
    )
    np.testing.assert_allclose(prices.delay, [10.0, 20.0])
    np.testing.assert_allclose(prices.energy, [20.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(prices.server_energy, 0.5)
    # 10 * .1 + 20 * .2 + 3 (.3/.15 - 1) + 0 + 4 (2/8 - 1) = 1 + 4 + 3 - 3
    value = lyapunov.drift_plus_penalty(
        prices,
        delay_s=jnp.array([0.1, 0.2]),
        device_energy_j=jnp.array([0.3, 0.9]),
        device_queue=jnp.array([3.0, 0.0]),
        server_energy_j=jnp.asarray(2.0),
        server_queue=jnp.asarray(4.0),
    )
    assert np.isclose(value, 5.0, rtol=1e-6)

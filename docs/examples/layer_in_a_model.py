"""The allocation layer inside another model: a forecast that is trained for the decision that follows it.

    python docs/examples/layer_in_a_model.py

A small network sees six numbers and forecasts the arrival rates of four users; band and server are shared out for
the forecast, and what counts is the objective at the true rates. It is trained once by squared error and once through
the layer, which tells it where errors cost. The data has noise that no network can forecast.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxmec.allocation import SlotProblem, allocate, objective

USERS = 4
ONES = jnp.ones(USERS)


def problem(rate_hz):
    """Four users of one network at different signal-to-noise ratios."""
    return SlotProblem(
        device_work_s=0.02 * ONES,
        uplink_bits=8e5 * ONES,
        server_work_s=0.03 * ONES,
        arrival_rate_hz=rate_hz,
        device_power_w=4.0 * ONES,
        tx_power_w=0.2 * ONES,
        snr=jnp.array([3.0, 10.0, 30.0, 100.0]),
        delay_price=ONES,
        energy_price=0.1 * ONES,
        bandwidth_hz=jnp.asarray(4e6),
        server_power_w=jnp.asarray(200.0),
        server_energy_price=jnp.asarray(1e-3),
        slot_s=jnp.asarray(1.0),
        knee=jnp.asarray(0.9),
    )


class Forecast(nn.Module):
    """Rates [4] above zero from six numbers, by few units: it has to choose what to get right."""

    @nn.compact
    def __call__(self, x):
        return 0.05 + nn.softplus(nn.Dense(USERS)(nn.tanh(nn.Dense(3)(x))))


def draw(key, size):
    """Inputs [size, 6] and rates [size, 4]: products of inputs, with noise."""
    key_x, key_noise = jax.random.split(key)
    x = jax.random.normal(key_x, (size, 6))
    level = jnp.stack([x[:, 0] * x[:, 1], x[:, 2], x[:, 3] * x[:, 4], x[:, 5]], axis=1)
    return x, 5.0 * jax.nn.sigmoid(1.5 * level + 0.3 * jax.random.normal(key_noise, level.shape))


def decided(forecast_hz, rate_hz):
    """Objective at the true rates of the shares that the forecast was given."""
    shares = allocate(problem(forecast_hz))
    return objective(problem(rate_hz), shares.device_share, shares.bandwidth_share, shares.server_share)


def main(steps: int = 1500, batch: int = 128, held_out: int = 2048) -> dict[str, float]:
    """Train both ways, and print mean objectives at held-out data over those with the rates known."""
    model, optimiser = Forecast(), optax.adam(5e-3)

    def squared(forecast_hz, rate_hz):
        return jnp.sum((forecast_hz - rate_hz) ** 2)

    x, rate_hz = draw(jax.random.key(1), held_out)
    judge = jax.jit(lambda forecast_hz: jax.vmap(decided)(forecast_hz, rate_hz).mean())
    best = judge(rate_hz)
    found = {}
    for name, loss in (("squared error", squared), ("through the layer", decided)):

        def mean_loss(weights, x, rate_hz, loss=loss):
            return jax.vmap(loss)(model.apply(weights, x), rate_hz).mean()

        def step(carry, key, mean_loss=mean_loss):
            weights, slow = carry
            slope = jax.grad(mean_loss)(weights, *draw(key, batch))
            changes, slow = optimiser.update(slope, slow)
            return (optax.apply_updates(weights, changes), slow), None

        weights = model.init(jax.random.key(0), x[0])
        keys = jax.random.split(jax.random.key(2), steps)
        (weights, _), _ = jax.jit(lambda carry, keys, step=step: jax.lax.scan(step, carry, keys))(
            (weights, optimiser.init(weights)), keys
        )
        found[name] = float(judge(model.apply(weights, x)) / best)
        print(f"{name:20} objective {found[name]:.4f} of the best with known rates")
    return found


if __name__ == "__main__":
    main()

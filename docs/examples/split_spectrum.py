"""How should an operator split a fixed spectrum between two cells?

Two cells with a server each, four users in one and ten in the other, share 20 MHz. Inside a cell, the allocation
layer shares out band and server exactly; between the cells, gradient descent through the layer finds the split.
The gradient of a cell's cost by its bandwidth is the envelope theorem's, so a step costs little more than a
solve. A grid search checks the answer.

python docs/examples/split_spectrum.py        # writes docs/examples/split_spectrum.png
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax import Array

from jaxmec.allocation import SlotProblem, allocate

TOTAL_HZ = 20e6
STEPS = 30
RATE = 1.0  # of descent in the split's logit, per relative change of cost


def cell(num_users: int, median_snr: float, seed: int) -> SlotProblem:
    """Users that send a 100 kB image each and have it recognised by their cell's server."""
    rng = np.random.default_rng(seed)

    def user(value: float, spread: float = 0.0) -> Array:
        return jnp.asarray(value * np.exp(spread * rng.standard_normal(num_users)), jnp.float32)

    return SlotProblem(
        device_work_s=user(0.005),
        uplink_bits=user(8e5, 0.3),
        server_work_s=user(0.004, 0.3),
        arrival_rate_hz=user(1.0, 0.3),
        device_power_w=user(4.0),
        tx_power_w=user(0.2),
        snr=user(median_snr, 1.0),
        delay_price=user(1.0),
        energy_price=user(0.5),
        bandwidth_hz=jnp.float32(1.0),
        server_power_w=jnp.float32(200.0),
        server_energy_price=jnp.float32(1e-3),
        slot_s=jnp.float32(1.0),
        knee=jnp.float32(0.9),
    )


FEW, MANY = cell(4, 20.0, seed=0), cell(10, 60.0, seed=1)


def costs(share: Array) -> tuple[Array, Array]:
    """Slot objectives of both cells when the first has this share of the spectrum."""
    # A cell's snr is over its own band: the same power over less noise.
    first, second = (
        allocate(users.replace(bandwidth_hz=part * TOTAL_HZ, snr=users.snr / part)).objective
        for users, part in ((FEW, share), (MANY, 1.0 - share))
    )
    return first, second


def descend(logit: Array) -> tuple[Array, Array]:
    """Shares and costs along gradient descent on the logarithm of the total cost, [STEPS] each."""

    def log_cost(logit: Array) -> Array:
        return jnp.log(sum(costs(jax.nn.sigmoid(logit))))

    def step(logit: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        value, slope = jax.value_and_grad(log_cost)(logit)
        return logit - RATE * slope, (jax.nn.sigmoid(logit), jnp.exp(value))

    return jax.lax.scan(step, logit, None, length=STEPS)[1]


def main() -> None:
    """Descend, search the grid, compare, draw."""
    shares, along = (np.asarray(x) for x in jax.jit(descend)(jnp.float32(1.5)))
    grid = np.linspace(0.05, 0.95, 901, dtype=np.float32)
    few, many = (np.asarray(x) for x in jax.jit(jax.vmap(costs))(grid))
    best = int(np.argmin(few + many))
    print(f"gradient descent: {shares[-1]:.4f} of the spectrum to the small cell, cost {along[-1]:.5f}")
    print(f"grid of {grid.size}:      {grid[best]:.4f}, cost {few[best] + many[best]:.5f}")
    if along[-1] > (few + many)[best] * (1 + 1e-5):
        raise SystemExit("gradient descent missed the grid's optimum")

    fig, axes = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    megahertz = TOTAL_HZ / 1e6
    axes.plot(grid * megahertz, few + many, color="black", label="both cells")
    axes.plot(grid * megahertz, few, color="C0", linestyle="--", label="4 users")
    axes.plot(grid * megahertz, many, color="C1", linestyle="--", label="10 users")
    axes.plot(shares * megahertz, along, "o", color="C3", markersize=4, label="gradient descent")
    axes.plot(grid[best] * megahertz, (few + many)[best], "*", color="C2", markersize=13, label="grid search")
    axes.set(
        xlabel="spectrum of the cell with 4 users, MHz",
        ylabel="slot objective",
        xlim=(0, megahertz),
        ylim=(0, 3.0 * (few + many)[best]),
    )
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    fig.savefig(Path(__file__).with_suffix(".png"), dpi=200)


if __name__ == "__main__":
    main()

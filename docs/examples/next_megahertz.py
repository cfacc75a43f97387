"""Where should an operator spend the next megahertz? Derivatives through 50 slots of three cells.

    python docs/examples/next_megahertz.py

Three cells of four users each stand at different distances from their antennas and share 24 MHz. A cell's cost is its
mean reward over 50 slots: seconds of delay, and energy over budget at constant prices, per user. One reverse pass
through the rollouts says what a further megahertz is worth in every cell, and band moves until it is worth the same in
all of them. Differences check the derivatives, and a grid search checks the split.

Cuts are whole numbers: a derivative holds them as they were played, and so do the differences that check it. The grid
lets them follow the band.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import jaxmec
from jaxmec.lyapunov import FixedMultipliers
from jaxmec.policies import make_policy
from jaxmec.rollout import rollout

DISTANCES_M = np.array([[20.0, 60.0], [50.0, 150.0], [120.0, 250.0]])  # nearest and farthest user of each cell
TOTAL_MHZ = 24.0
PRICE_S = 0.1  # of an energy budget, in seconds of mean delay
STEPS = 8
DIFFERENCE_MHZ = 1e-4
GRID_MHZ = 0.5 * np.arange(1, 47)


def make_costs(num_systems: int, num_slots: int):
    """costs(mhz [3], chosen_mhz [3]) -> [3], s per user, with the cuts that the closed form plays at `chosen_mhz`.

    Users, channels and requests are the same at any split.
    """
    env, params = jaxmec.make("coinfer4")
    env = dataclasses.replace(env, constraints=FixedMultipliers())
    closed_form = make_policy("closed_form", env)
    prices = {
        "device_energy": jnp.full(env.num_users, PRICE_S / env.num_users),
        "server_energy": jnp.full(1, PRICE_S),
    }
    keys = jax.random.split(jax.random.key(0), num_systems)

    def cell(mhz, chosen_mhz, ring_m):
        at_ring = params.replace(distance_m=jnp.broadcast_to(ring_m, params.distance_m.shape))
        own, chosen = (at_ring.replace(bandwidth_hz=1e6 * band) for band in (mhz, chosen_mhz))

        def policy(key, state, _):
            return closed_form(key, state, chosen)

        def system(key):
            key_reset, key_run = jax.random.split(key)
            state = env.priced(env.reset(key_reset, own)[1], prices, own)
            rewards = rollout(env, policy, key_run, state, own, num_slots, lambda slot: slot.reward)[1]
            return -rewards.mean()

        return jax.vmap(system)(keys).mean()

    return lambda mhz, chosen_mhz: jax.vmap(cell)(mhz, chosen_mhz, jnp.asarray(DISTANCES_M))


def best_of_grid(costs_at: np.ndarray) -> tuple[np.ndarray, float]:
    """The best split of costs_at [grid, 3], MHz [3], and its cost: cells do not touch one another."""
    first, second = np.indices((len(GRID_MHZ),) * 2)
    third = round(TOTAL_MHZ / GRID_MHZ[0]) - 3 - first - second
    total = costs_at[first, 0] + costs_at[second, 1] + costs_at[np.maximum(third, 0), 2]
    total[third < 0] = np.inf
    best = np.unravel_index(total.argmin(), total.shape)
    return GRID_MHZ[[*best, third[best]]], total[best]


def main(num_systems: int = 16, num_slots: int = 50) -> None:
    """Move band by its worth, check both ways, print."""
    costs = make_costs(num_systems, num_slots)

    @jax.jit
    def cost_and_worth(mhz, chosen_mhz):
        """Costs [3], s, and what a further megahertz takes off each, [3]."""
        cost, back = jax.vjp(lambda own: costs(own, chosen_mhz), mhz)
        return cost, -back(jnp.ones(3))[0]

    equal = mhz = jnp.asarray(np.full(3, TOTAL_MHZ / 3))  # not weakly typed, or all is compiled twice
    cost, worth = cost_and_worth(equal, equal)
    low, high = (cost_and_worth(equal + side * DIFFERENCE_MHZ, equal)[0] for side in (-1, 1))
    difference = (low - high) / (2 * DIFFERENCE_MHZ)
    print("equal split: MHz, cost in s per user, worth of the next MHz in ms per user (by differences)")
    for index, (near, far) in enumerate(DISTANCES_M):
        print(
            f"  {near:3.0f}-{far:3.0f} m: {mhz[index]:5.2f} {cost[index]:9.4f} {1e3 * worth[index]:9.4f} "
            f"({1e3 * difference[index]:.4f})"
        )
    print(f"  sum of costs {cost.sum():.5f} s")

    for _ in range(STEPS):  # a step would be exact if costs fell as one over the band
        mhz = mhz * jnp.sqrt(worth)
        mhz = TOTAL_MHZ * mhz / mhz.sum()
        cost, worth = cost_and_worth(mhz, mhz)
    print(f"by worth, {STEPS} steps: {', '.join(f'{part:.2f}' for part in mhz)} MHz")
    print(
        f"  sum of costs {cost.sum():.5f} s; the next MHz: {1e3 * worth.min():.3f} to {1e3 * worth.max():.3f} ms"
    )

    costs_at = np.array([cost_and_worth(same, same)[0] for same in GRID_MHZ[:, None].repeat(3, axis=1)])
    best_mhz, best = best_of_grid(costs_at)
    print(f"by grid search: {', '.join(f'{part:.2f}' for part in best_mhz)} MHz\n  sum of costs {best:.5f} s")


if __name__ == "__main__":
    with jax.enable_x64(True):  # so that differences have digits to check with
        main()

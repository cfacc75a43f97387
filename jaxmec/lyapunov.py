"""Long-term constraints by virtual queues, and the prices they put on energy.

A constraint "mean energy per slot at most the budget" becomes a dimensionless queue that grows by what a slot
used over its budget and shrinks by one. Keeping the queue stable keeps the constraint in the long run.
Minimising the drift-plus-penalty bound of every slot turns the queues into prices. With trade-off constant V
the mean delay is within O(1/V) of the best under the constraints while the queues grow as O(V).

Source: M. J. Neely, "Stochastic Network Optimization with Application to Communication and Queueing Systems"
(2010), ch. 3-4.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax.numpy as jnp
from flax import struct
from jax import Array


class SlotPrices(struct.PyTreeNode):
    """What a slot's decision pays for delay and energy."""

    delay: Array  # [N] per second of mean delay: V ω_n
    energy: Array  # [N] per joule of the device and its radio: Z_n / ē_n
    server_energy: Array  # [] per joule of the server: Y / ē_s


class Constraints(Protocol):
    """How long-term constraints act on a slot: a frozen, hashable part of the environment."""

    def prices(
        self,
        tradeoff: Array,
        delay_weight: Array,
        device_queue: Array,
        device_budget_j: Array,
        server_queue: Array,
        server_budget_j: Array,
    ) -> SlotPrices:
        """Prices of the slot problem from the queues at the start of the slot; arguments as for `slot_prices`."""
        ...

    def step(self, queue: Array, energy_j: Array, budget_j: Array) -> Array:
        """A queue one slot later, of the same shape, when `energy_j` of a budget of `budget_j` was used."""
        ...


@dataclasses.dataclass(frozen=True)
class VirtualQueues:
    """The default: what a slot used over its budget raises its price in the next."""

    def prices(self, *queues: Array) -> SlotPrices:
        """As `slot_prices`."""
        return slot_prices(*queues)

    def step(self, queue: Array, energy_j: Array, budget_j: Array) -> Array:
        """As `step_queue`."""
        return step_queue(queue, energy_j, budget_j)


@dataclasses.dataclass(frozen=True)
class FixedMultipliers:
    """Queues that never move: constant multipliers of the budgets, times V.

    Each slot's problem is then the Lagrangian of the long-run problem, and its optimum needs no foresight.
    """

    def prices(self, *queues: Array) -> SlotPrices:
        """As `slot_prices`."""
        return slot_prices(*queues)

    def step(self, queue: Array, energy_j: Array, budget_j: Array) -> Array:
        """The same queue."""
        return queue


def step_queue(queue: Array, energy_j: Array, budget_j: Array) -> Array:
    """One slot of a virtual queue: max(0, Q + e/ē - 1), dimensionless, any shape."""
    return jnp.maximum(queue + energy_j / budget_j - 1.0, 0.0)


def slot_prices(
    tradeoff: Array,
    delay_weight: Array,
    device_queue: Array,
    device_budget_j: Array,
    server_queue: Array,
    server_budget_j: Array,
) -> SlotPrices:
    """Prices of the slot problem, from the queues at the start of the slot.

    Args:
      tradeoff: V, [].
      delay_weight: ω_n, [N].
      device_queue: Z_n, [N].
      device_budget_j: ē_n, J per slot, [N].
      server_queue: Y, [].
      server_budget_j: ē_s, J per slot, [].
    """
    return SlotPrices(
        delay=tradeoff * delay_weight,
        energy=device_queue / device_budget_j,
        server_energy=server_queue / server_budget_j,
    )


def drift_plus_penalty(
    prices: SlotPrices,
    delay_s: Array,
    device_energy_j: Array,
    device_queue: Array,
    server_energy_j: Array,
    server_queue: Array,
) -> Array:
    """V Σ ω_n D_n + Σ Z_n (e_n/ē_n - 1) + Y (e_s/ē_s - 1), dimensionless.

    The slot objective plus a term that the slot's decision cannot change.
    """
    return (
        jnp.sum(prices.delay * delay_s + prices.energy * device_energy_j - device_queue)
        + prices.server_energy * server_energy_j
        - server_queue
    )

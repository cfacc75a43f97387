"""Rewards of a slot: frozen, hashable parts of the environment."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import jax.numpy as jnp
from jax import Array

from jaxmec import lyapunov

if TYPE_CHECKING:
    from jaxmec.env import Decision, EnvParams, EnvState


class Reward(Protocol):
    """What a slot is worth."""

    def __call__(self, state: EnvState, decision: Decision, params: EnvParams) -> Array:
        """The reward [] of a decision in a state, before queues, channel and arrivals have moved."""
        ...


@dataclasses.dataclass(frozen=True)
class DriftPlusPenalty:
    """The default: -(drift-plus-penalty) / (V N), in seconds per user. It credits unused budget."""

    def __call__(self, state: EnvState, decision: Decision, params: EnvParams) -> Array:
        """See `jaxmec.lyapunov.drift_plus_penalty`."""
        problem, outcome = decision.problem, decision.outcome
        prices = lyapunov.SlotPrices(problem.delay_price, problem.energy_price, problem.server_energy_price)
        cost = lyapunov.drift_plus_penalty(
            prices,
            outcome.delay_s,
            outcome.device_energy_j,
            state.device_queue,
            outcome.server_energy_j,
            state.server_queue,
        )
        return -cost / (params.tradeoff * outcome.delay_s.shape[0])


@dataclasses.dataclass(frozen=True)
class MeanDelay:
    """Minus the weighted mean delay over users, in seconds; energy acts through the shares alone."""

    def __call__(self, state: EnvState, decision: Decision, params: EnvParams) -> Array:
        """The reward."""
        return -jnp.mean(params.delay_weight * decision.outcome.delay_s)

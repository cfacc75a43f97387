"""Rewards of a slot: frozen, hashable parts of the environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import jax.numpy as jnp
from jax import Array

from jaxmec import lyapunov

if TYPE_CHECKING:
    from jaxmec.env import Decision, EnvParams, EnvState


class Reward(Protocol):
    """What a slot is worth."""

    def __call__(self, state: EnvState, decision: Decision, info: Mapping[str, Array], params: EnvParams) -> Array:
        """The reward [] of a slot.

        Args:
          state: at its start.
          decision: its first half.
          info: everything else that the step tells.
          params: of the system.
        """
        ...


@dataclasses.dataclass(frozen=True)
class DriftPlusPenalty:
    """The default: -(drift-plus-penalty) / (V N), in seconds per user. It credits unused budget."""

    def __call__(self, state: EnvState, decision: Decision, info: Mapping[str, Array], params: EnvParams) -> Array:
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

    def __call__(self, state: EnvState, decision: Decision, info: Mapping[str, Array], params: EnvParams) -> Array:
        """The reward."""
        return -jnp.mean(params.delay_weight * decision.outcome.delay_s)


@dataclasses.dataclass(frozen=True)
class RequestDelay:
    """Drift-plus-penalty with the delays of the slot's requests, per request that was expected, in seconds per user.

    The default at request fidelity; without requests there is nothing to reward.
    """

    def __call__(self, state: EnvState, decision: Decision, info: Mapping[str, Array], params: EnvParams) -> Array:
        """The reward."""
        return _of_requests("request_objective", state, info, params)


@dataclasses.dataclass(frozen=True)
class DeadlineMisses:
    """As `RequestDelay`, but a request costs its deadline where it misses it, and nothing where it does not."""

    def __call__(self, state: EnvState, decision: Decision, info: Mapping[str, Array], params: EnvParams) -> Array:
        """The reward."""
        return _of_requests("late_objective", state, info, params)


def _of_requests(name: str, state: EnvState, info: Mapping[str, Array], params: EnvParams) -> Array:
    if name not in info:
        raise ValueError('reward: rewards of requests need an environment made with fidelity="requests"')
    unused = jnp.sum(state.device_queue) + state.server_queue  # what budgets that nobody touches would credit
    return -(info[name] - unused) / (params.tradeoff * state.device_queue.shape[0])

"""How a slot's delays come about: a frozen, hashable part of the environment.

`Stationary` knows the mean delay of a slot in its steady state alone. `jaxmec.requests.RequestFidelity` passes every
request through the queues and carries over what is unfinished.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

import jax.numpy as jnp
from jax import Array

if TYPE_CHECKING:
    from jaxmec.env import Decision, EnvParams, EnvState


class Fidelity(Protocol):
    """What happens in a slot beside the steady state of the chosen shares. Works under jit, vmap and grad."""

    @property
    def user_features(self) -> tuple[str, ...]:
        """Names of the features that it adds to every user's observation."""
        ...

    @property
    def reward_signals(self) -> tuple[str, ...]:
        """What a learner may learn from; the first is the default, "environment" the environment's reward."""
        ...

    def init(self, key: Array, params: EnvParams) -> Any:
        """What is carried from slot to slot, at an episode's start: a pytree of arrays."""
        ...

    def backlog_price(self, state: EnvState, delay_price: Array, params: EnvParams) -> Array | None:
        """What a slot's load pays for work that is unfinished at its start, [N]; None where nothing is carried over.

        See `jaxmec.allocation.SlotProblem`; `delay_price` [N] is that of a second of mean delay.
        """
        ...

    def play(
        self, key: Array, state: EnvState, decision: Decision, params: EnvParams
    ) -> tuple[Any, dict[str, Array]]:
        """One slot: what is carried on, and what is added to the step's info."""
        ...

    def features(self, state: EnvState, params: EnvParams) -> tuple[Array, ...]:
        """The features that `user_features` names, each [N]."""
        ...

    def signal(self, name: str, info: dict[str, Array], log_expected: Array) -> Array:
        """What a learner learns from: [].

        Args:
          name: of `reward_signals`, "environment" excepted.
          info: of the step.
          log_expected: [] logarithm of the slot objective that the closed form expected, a baseline that knows the
            state but not the cuts.
        """
        ...

    def metrics(self, info: dict[str, Array]) -> dict[str, Array]:
        """What it adds to the environment's metrics: name -> []."""
        ...


@dataclasses.dataclass(frozen=True)
class Stationary:
    """The default: nothing is carried over, and the formula of `jaxmec.delay` is all there is."""

    user_features = ()
    reward_signals = ("objective", "environment")

    def init(self, key: Array, params: EnvParams) -> tuple:
        """Nothing."""
        return ()

    def backlog_price(self, state: EnvState, delay_price: Array, params: EnvParams) -> None:
        """None: nothing is unfinished."""
        return None

    def play(
        self, key: Array, state: EnvState, decision: Decision, params: EnvParams
    ) -> tuple[tuple, dict[str, Array]]:
        """Nothing."""
        return (), {}

    def features(self, state: EnvState, params: EnvParams) -> tuple[Array, ...]:
        """None."""
        return ()

    def signal(self, name: str, info: dict[str, Array], log_expected: Array) -> Array:
        """-log of the slot objective over what was expected."""
        return log_expected - jnp.log(info["objective"])

    def metrics(self, info: dict[str, Array]) -> dict[str, Array]:
        """None."""
        return {}

"""The best of several policies in every slot, by the exact objective of each one's cuts."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxmec.compilation import one_programme
from jaxmec.environment import Environment, Params, Policy, State


def best_of(env: Environment, policies: Sequence[Policy]) -> Policy:
    """Whichever cuts have the least slot objective: in no state worse than any of the policies.

    A learned policy with the closed form beside it is safe where it was never trained. A slot costs all of the
    policies and one allocation for each.

    Raises:
      ValueError: if there is no policy.
    """
    if not policies:
        raise ValueError("policies: got none; allowed is at least one")

    @one_programme()
    def choose(key: Array, state: State, params: Params) -> Array:
        keys = jax.random.split(key, len(policies))
        options = jnp.stack([one(own, state, params) for one, own in zip(policies, keys, strict=True)])
        return cheapest(env, state, options, params)

    return choose


def cheapest(env: Environment, state: State, options: Array, params: Params) -> Array:
    """Of options [C, ...] in one state, the one of least slot objective."""
    return options[jnp.argmin(jax.vmap(env.objective, (None, 0, None))(state, options, params))]

"""One search per episode: the best response in the first slot, kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import Array

from jaxmec.batching import only_where
from jaxmec.compilation import one_programme
from jaxmec.policies.best_response import best_response

if TYPE_CHECKING:
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
    from jaxmec.environment import Policy


def once(env: EdgeInferenceEnv) -> Policy:
    """Best response in an episode's first slot, and the same cuts in all that follow.

    It knows networks, devices and distances, but not how fading, arrivals and queues move. What it keeps is what ran in
    the slot before, so it has an answer on its own trajectory only.
    """
    search = best_response(env)

    @one_programme()
    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        first = jnp.any(state.cuts < 0)
        return only_where(first, search, state.cuts, key, state, params)

    policy.own_trajectory_only = True  # type: ignore[attr-defined]
    return policy

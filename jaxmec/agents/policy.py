"""From a network's scores to cuts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxmec.agents import distribution, normalise
from jaxmec.agents.networks import forward
from jaxmec.allocation import allocate
from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState


def learned(
    env: EdgeInferenceEnv, network: nn.Module, weights: Any, moments: normalise.Moments, candidates: int = 1
) -> Callable[[Array, EnvState, EnvParams], Array]:
    """policy(key, state, params) -> int32[N]: each user's most probable cut.

    With more than one candidate, the most probable cuts and draws from the network are all scored by the exact
    allocation, and the best is taken.

    Raises:
      ValueError: for less than one candidate.
    """
    if candidates < 1:
        raise ValueError(f"candidates: got {candidates}; allowed is at least 1")

    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        observation = env.observe(state, params)
        logits, _ = forward(network, moments, weights, observation)
        likely = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        if candidates == 1:
            return likely
        draws = jax.vmap(distribution.sample, (0, None))(jax.random.split(key, candidates - 1), logits)
        cuts = jnp.concatenate([likely[None], draws])
        problems = jax.vmap(env.slot_problem, (None, 0, None))(state, cuts, params)
        return cuts[jnp.argmin(jax.vmap(lambda problem: allocate(problem, env.solver).objective)(problems))]

    return policy

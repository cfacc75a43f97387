"""Cuts that prices suggest: the rounding of the certified lower bound, polished."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array

from jaxmec.allocation import lower_bound
from jaxmec.policies.best_response import MIN_GAIN

if TYPE_CHECKING:
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
    from jaxmec.environment import Policy

MAX_FLIPS = 20


def price(env: EdgeInferenceEnv) -> Policy:
    """Each user's best cut at the prices of band and server that give the lower bound, polished by single flips.

    A flip changes one user's cut; all are tried at once with the exact allocation, and the best is taken until
    none gains.
    """
    num_users, num_cuts = env.num_users, env.num_cuts
    user, cut = (index.reshape(-1) for index in jnp.indices((num_users, num_cuts), dtype=jnp.int32))

    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        mask = env.action_mask(state, params)

        def objective(cuts: Array) -> Array:
            return env.objective(state, cuts, params)

        def flip(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            cuts, value, _, flips = carry
            candidates = jnp.where(jnp.arange(num_users)[None] == user[:, None], cut[:, None], cuts[None])
            costs = jnp.where(mask.reshape(-1), jax.vmap(objective)(candidates), jnp.inf)
            best = jnp.argmin(costs)
            gains = costs[best] < value * (1.0 - MIN_GAIN)
            return (
                jnp.where(gains, candidates[best], cuts),
                jnp.where(gains, costs[best], value),
                gains,
                flips + 1,
            )

        cuts = lower_bound(env.cut_problems(state, params), mask, env.solver).cuts
        start = (cuts, objective(cuts), jnp.asarray(True), jnp.zeros((), jnp.int32))
        return jax.lax.while_loop(lambda carry: carry[2] & (carry[3] < MAX_FLIPS), flip, start)[0]

    return policy

"""The best cuts of all, by trying every combination: for small systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array

from jaxmec.compilation import one_programme

if TYPE_CHECKING:
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
    from jaxmec.environment import Policy

MAX_COMBINATIONS = 1_000_000
_CHUNK = 4096  # combinations that are allocated at once


def exhaustive(env: EdgeInferenceEnv) -> Policy:
    """The cuts of least slot objective among all combinations of valid cuts.

    Raises:
      ValueError: if num_cuts ** num_users is above `MAX_COMBINATIONS`.
    """
    combinations = env.num_cuts**env.num_users
    if combinations > MAX_COMBINATIONS:
        raise ValueError(
            f"exhaustive: {env.num_cuts} cuts of {env.num_users} users are {combinations:.2g} combinations; "
            f"allowed are at most {MAX_COMBINATIONS:.0e}; best_response and price serve larger systems"
        )
    place_values = env.num_cuts ** jnp.arange(env.num_users, dtype=jnp.int32)
    chunk = min(_CHUNK, combinations)

    @one_programme()
    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        mask = env.action_mask(state, params)

        def digits(number: Array) -> Array:
            return (number // place_values) % env.num_cuts

        def cost(number: Array) -> Array:
            cuts = digits(number)
            valid = jnp.all(jnp.take_along_axis(mask, cuts[:, None], axis=-1))
            return jnp.where(valid, env.objective(state, cuts, params), jnp.inf)

        def best_of_chunk(best: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
            numbers = jnp.minimum(start + jnp.arange(chunk, dtype=jnp.int32), combinations - 1)
            costs = jax.vmap(cost)(numbers)
            here = jnp.argmin(costs)
            better = costs[here] < best[0]
            return (jnp.where(better, costs[here], best[0]), jnp.where(better, numbers[here], best[1])), None

        first = (jnp.full_like(state.server_queue, jnp.inf), jnp.zeros((), jnp.int32))
        (_, best), _ = jax.lax.scan(best_of_chunk, first, jnp.arange(0, combinations, chunk, dtype=jnp.int32))
        return digits(best)

    return policy

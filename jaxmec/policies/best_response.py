"""Local search over the cuts: users take turns to change theirs, until nobody gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.allocation import MIN_GAIN
from jaxmec.closed_form import cheapest_cuts
from jaxmec.compilation import one_programme

if TYPE_CHECKING:
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
    from jaxmec.environment import Policy

MAX_SWEEPS = 20


class _Search(struct.PyTreeNode):
    cuts: Array  # int32[N]
    objective: Array  # []
    turn: Array  # int32[] whose turn it is, counted on
    idle_turns: Array  # int32[] turns since the last change


def best_response(env: EdgeInferenceEnv) -> Policy:
    """Cuts that no single user can change to lower the exact slot objective.

    Starts from the cut that every user expects to be cheapest. In a turn, one user tries each of its cuts with the
    exact allocation and takes the best; the search ends after a full round without a change.
    """
    num_users, num_cuts = env.num_users, env.num_cuts

    @one_programme()
    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        mask = env.action_mask(state, params)

        def objective(cuts: Array) -> Array:
            return env.objective(state, cuts, params)

        def take_turn(search: _Search) -> _Search:
            user = search.turn % num_users
            candidates = jnp.where(
                jnp.arange(num_users) == user, jnp.arange(num_cuts, dtype=jnp.int32)[:, None], search.cuts
            )
            costs = jnp.where(mask[user], jax.vmap(objective)(candidates), jnp.inf)
            best = jnp.argmin(costs)
            gains = costs[best] < search.objective * (1.0 - MIN_GAIN)
            return _Search(
                cuts=jnp.where(gains, candidates[best], search.cuts),
                objective=jnp.where(gains, costs[best], search.objective),
                turn=search.turn + 1,
                idle_turns=jnp.where(gains, 0, search.idle_turns + 1),
            )

        def somebody_may_gain(search: _Search) -> Array:
            return (search.idle_turns < num_users) & (search.turn < MAX_SWEEPS * num_users)

        start = cheapest_cuts(env.cut_problems(state, params), mask)
        zero = jnp.zeros((), jnp.int32)
        # The first turn tries the start, too, and so tells its objective: one copy of the allocation to compile less.
        search = _Search(cuts=start, objective=jnp.asarray(jnp.inf), turn=zero, idle_turns=zero)
        return jax.lax.while_loop(somebody_may_gain, take_turn, search).cuts

    return policy

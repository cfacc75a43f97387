"""Cuts that prices suggest: the rounding of the certified lower bound, polished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jax import Array

from jaxmec.allocation import lower_bound, round_bound
from jaxmec.compilation import one_programme

if TYPE_CHECKING:
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
    from jaxmec.environment import Policy


def price(env: EdgeInferenceEnv) -> Policy:
    """Each user's best cut at the prices of band and server that give the lower bound, polished.

    Changes of one user's cut and of two, in order of what they cost at the prices, are tried with the exact
    allocation, and the best is taken until none gains; see `jaxmec.allocation.round_bound`.
    """

    @one_programme()
    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        problems = env.cut_problems(state, params)
        bound = lower_bound(problems, env.action_mask(state, params), env.solver)
        return round_bound(problems, bound, env.solver).cuts

    return policy

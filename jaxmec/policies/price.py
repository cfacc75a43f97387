"""Cuts that prices suggest: the rounding of the certified lower bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jax import Array

from jaxmec.allocation import lower_bound

if TYPE_CHECKING:
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
    from jaxmec.policies import Policy


def price(env: EdgeInferenceEnv) -> Policy:
    """Each user's best cut at the prices of band and server that give the lower bound."""

    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        return lower_bound(env.cut_problems(state, params), env.action_mask(state, params), env.solver).cuts

    return policy

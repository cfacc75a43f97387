"""Rules that need no search: fixed ones, chance, and every user for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array

from jaxmec.closed_form import cheapest_cuts, equal_share_times
from jaxmec.compilation import one_programme

if TYPE_CHECKING:
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
    from jaxmec.environment import Policy


def local_only(env: EdgeInferenceEnv) -> Policy:
    """Everything on the device."""

    @one_programme()
    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        return jnp.sum(env.action_mask(state, params), axis=-1, dtype=jnp.int32) - 1

    return policy


def edge_only(env: EdgeInferenceEnv) -> Policy:
    """Everything on the server: the raw input is sent."""

    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        return jnp.zeros(env.num_users, jnp.int32)

    return policy


def random_cuts(env: EdgeInferenceEnv) -> Policy:
    """A uniform draw from every user's valid cuts."""

    @one_programme()
    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        mask = env.action_mask(state, params)
        return jax.random.categorical(key, jnp.where(mask, 0.0, -jnp.inf)).astype(jnp.int32)

    return policy


def greedy(env: EdgeInferenceEnv) -> Policy:
    """Each user alone: the cut of fewest seconds at full device speed and an equal share of band and server.

    Source: Y. Kang et al., "Neurosurgeon: Collaborative Intelligence Between the Cloud and Mobile Edge",
    ASPLOS 2017, the latency objective: neither queues nor the other users' choices are seen.
    """

    @one_programme()
    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        problem = env.cut_problems(state, params)
        seconds = sum(equal_share_times(problem))
        if problem.return_s is not None:
            seconds += problem.return_s
        mask = env.action_mask(state, params)
        return jnp.argmin(jnp.where(mask, seconds, jnp.inf), axis=-1).astype(jnp.int32)

    return policy


def closed_form(env: EdgeInferenceEnv) -> Policy:
    """Each user's cheapest cut by `jaxmec.closed_form`: prices in closed form, no search."""

    @one_programme()
    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        return cheapest_cuts(env.cut_problems(state, params), env.action_mask(state, params))

    return policy

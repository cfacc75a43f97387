"""The one loop of a policy and an environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxmec.environment import Environment, Params, Policy, State


class Slot(NamedTuple):
    """What happened in a slot."""

    state: State  # at its start
    action: Array  # int32[N] the policy's options
    reward: Array  # []
    info: dict[str, Array]


def rollout(
    env: Environment,
    policy: Policy,
    key: Array,
    state: State,
    params: Params,
    num_slots: int,
    measure: Callable[[Slot], Any],
) -> tuple[State, Any]:
    """Run a policy for some slots, without resets.

    The random numbers of channel and arrivals depend on the key alone, so policies that are given the same key and
    state meet the same ones (common random numbers). Jit it, and map it over keys, states or params with `jax.vmap`.

    Args:
      env: the environment.
      policy: policy(key, state, params) -> options int32[N].
      key: random key.
      state: the first slot's.
      params: of the system.
      num_slots: T.
      measure: what is kept of a slot, a pytree.

    Returns:
      The state after the last slot, and what was measured, [T, ...].
    """

    def slot(state: State, key: Array) -> tuple[State, Any]:
        key_policy, key_step = jax.random.split(key)
        action = policy(key_policy, state, params)
        _, next_state, reward, _, info = env.step_env(key_step, state, action, params)
        return next_state, measure(Slot(state, action, reward, info))

    return jax.lax.scan(slot, state, jax.random.split(key, num_slots))

"""stoa (https://github.com/EdanToledo/Stoa): time steps that know why an episode ended."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec import spaces as own
from jaxmec.environment import Params
from jaxmec.extras import optional
from jaxmec.wrappers.view import View

stoa = optional("stoa", "stoa")
spaces = optional("stoa.spaces", "stoa")
Base: Any = stoa.Environment


class StoaState(struct.PyTreeNode):
    """A state with its key, since stoa's `step` has none; stoa's `AutoResetWrapper` reads it."""

    rng_key: Array
    system: Any  # of the environment


@dataclasses.dataclass(frozen=True, eq=False)
class StoaEnv(View, Base):
    """stoa: reset(key, params) -> (state, timestep), step(state, action, params) -> (state, timestep).

    Nothing resets by itself; stoa's `AutoResetWrapper` does that. A time-out has step type TRUNCATED and discount 1.
    `extras` is the environment's info, of one structure at reset and step. `env_params` are the environment's, and
    the view's own where they are left out.
    """

    __eq__ = View.__eq__
    __hash__ = View.__hash__

    def reset(self, rng_key: Array, env_params: Params = None) -> tuple[StoaState, Any]:
        """A fresh episode, whose first step has reward 0 and discount 1."""
        params = self.params if env_params is None else env_params
        key, key_reset = jax.random.split(rng_key)
        observation, state = self.begin(key_reset, params)
        extras = self.nothing(state, params)
        return StoaState(key, state), _timestep(stoa.StepType.FIRST, jnp.zeros(()), 1.0, observation, extras)

    def step(self, state: StoaState, action: Array, env_params: Params = None) -> tuple[StoaState, Any]:
        """One slot."""
        params = self.params if env_params is None else env_params
        key, key_slot = jax.random.split(state.rng_key)
        observation, system, reward, terminated, truncated, extras = self.slot(
            key_slot, state.system, action, params
        )
        ended = jnp.where(truncated, stoa.StepType.TRUNCATED, stoa.StepType.MID)
        step_type = jnp.where(terminated, stoa.StepType.TERMINATED, ended)
        return StoaState(key, system), _timestep(step_type, reward, 1.0 - terminated, observation, extras)

    def observation_space(self, env_params: Params = None) -> Any:
        """Stoa's array without bounds."""
        box = self.observation_box()
        return spaces.ArraySpace(box.shape, box.dtype, "observation")

    def action_space(self, env_params: Params = None) -> Any:
        """Stoa's space of the actions."""
        space = self.actions.space(self.env)
        if isinstance(space, own.MultiDiscrete):
            return spaces.MultiDiscreteSpace([space.num_values] * space.num_choices, space.dtype, "action")
        if isinstance(space, own.Box):
            return spaces.BoundedArraySpace(space.shape, space.dtype, space.low, space.high, "action")
        return spaces.DiscreteSpace(space.num_values, space.dtype, "action")

    def state_space(self, env_params: Params = None) -> Any:
        """Stoa's arrays by the names of the state's fields, the key's excepted."""
        state = jax.eval_shape(lambda: self.env.reset(jax.random.key(0), self.params)[1])
        leaves = {jax.tree_util.keystr(place): leaf for place, leaf in jax.tree.leaves_with_path(state)}
        return spaces.DictSpace(
            {name: spaces.ArraySpace(leaf.shape, leaf.dtype, name) for name, leaf in leaves.items()}
        )


def _timestep(step_type: Array, reward: Array, discount: Any, observation: Array, extras: Any) -> Any:
    discount = jnp.broadcast_to(jnp.asarray(discount, reward.dtype), reward.shape)
    return stoa.TimeStep(step_type, reward, discount, observation, extras)

"""dm_env (https://github.com/google-deepmind/dm_env): one system, one slot at a time, in NumPy."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxmec import spaces
from jaxmec.environment import Environment, Params
from jaxmec.extras import optional
from jaxmec.wrappers.actions import Actions, PerUser
from jaxmec.wrappers.view import View

dm_env = optional("dm_env", "dm")
specs = optional("dm_env.specs", "dm")
Base: Any = dm_env.Environment


class DmEnv(Base):
    """dm_env: reset() and step(action) -> TimeStep. A time-out is `dm_env.truncation`, with discount 1.

    Unlike the other views it has a state, which dm_env's interface asks for; its key is that of a seed, split once
    per episode and once per slot. The observation is a dict of `observation` and `action_mask`.
    """

    def __init__(
        self,
        env: Environment,
        params: Params = None,
        seed: int = 0,
        actions: Actions = PerUser(),
        flat: bool = True,
    ) -> None:
        """See `jaxmec.wrappers.View`."""
        self._view = View(env, params, actions, flat)
        self._key = jax.random.key(seed)
        self._state: Any = None  # None: the next step begins an episode
        self._begin = jax.jit(self._view.begin)
        self._allowed = jax.jit(self._view.allowed)
        self._slot = jax.jit(self._view.slot)

    def reset(self) -> Any:
        """A fresh episode."""
        self._key, key = jax.random.split(self._key)
        observation, self._state = self._begin(key, self._view.params)
        mask = self._allowed(self._state, self._view.params)
        return dm_env.restart(_seen(observation, mask))

    def step(self, action: Any) -> Any:
        """One slot; the first of a fresh episode where the last has ended."""
        if self._state is None:
            return self.reset()
        self._key, key = jax.random.split(self._key)
        observation, self._state, reward, terminated, truncated, info = self._slot(
            key, self._state, np.asarray(action), self._view.params
        )
        seen = _seen(observation, info["action_mask"])
        if terminated or truncated:
            self._state = None
            end = dm_env.termination if terminated else dm_env.truncation
            return end(float(reward), seen)
        return dm_env.transition(float(reward), seen)

    def observation_spec(self) -> dict[str, Any]:
        """Of both parts."""
        box = self._view.observation_box()
        mask = jax.eval_shape(lambda: self._allowed(*self._fresh()))
        return {
            "observation": specs.Array(box.shape, np.float32, "observation"),
            "action_mask": specs.Array(mask.shape, bool, "action_mask"),
        }

    def action_spec(self) -> Any:
        """Of the actions."""
        space = self._view.actions.space(self._view.env)
        if isinstance(space, spaces.Box):
            return specs.BoundedArray(space.shape, np.float32, space.low, space.high, "action")
        if isinstance(space, spaces.Discrete):
            return specs.DiscreteArray(space.num_values, np.int32, "action")
        return specs.BoundedArray(space.shape, np.int32, 0, space.num_values - 1, "action")

    def _fresh(self) -> tuple[Any, Params]:
        return self._begin(jax.random.key(0), self._view.params)[1], self._view.params


def _seen(observation: jax.Array, mask: jax.Array) -> dict[str, np.ndarray]:
    return {"observation": np.asarray(observation), "action_mask": np.asarray(mask)}

"""What the views of an environment share."""

from __future__ import annotations

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmec import spaces
from jaxmec.environment import Environment, Params, State
from jaxmec.wrappers.actions import Actions, PerUser

Info = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class View:
    """An environment with the numbers that it has where a stack passes none.

    Two views are equal, and share compilations, where environment, form and numbers are equal. The environment is any
    of `jaxmec.environment.Environment` whose state has `slot` and whose params have `episode_slots`.
    """

    env: Environment
    params: Params = dataclasses.field(default=None, compare=False, repr=False)  # None: env.default_params
    actions: Actions = PerUser()
    flat: bool = True  # observations float32[N F] instead of float32[N, F]
    _numbers: str = dataclasses.field(init=False, repr=False)  # digest of params, in their place

    def __post_init__(self) -> None:
        """Check the form and take note of the numbers.

        Raises:
          ValueError: for actions that the environment cannot have, or params that are traced.
        """
        self.actions.space(self.env)
        if self.params is None:
            object.__setattr__(self, "params", self.env.default_params)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(self.params)):
            raise ValueError("params: got traced values; allowed are numbers, which the view is known by")
        object.__setattr__(self, "_numbers", _digest(self.params))

    def observation_box(self) -> spaces.Box:
        """The space of observations."""
        box = self.env.observation_space(self.params)
        shape = (int(np.prod(box.shape)),) if self.flat else box.shape
        return spaces.Box(box.low, box.high, shape, box.dtype)

    def seen(self, observation: Array) -> Array:
        """Observations [..., N, F] as the stack sees them."""
        return observation.reshape(*observation.shape[:-2], -1) if self.flat else observation

    def allowed(self, state: State, params: Params) -> Array:
        """The mask of actions in a state, flat."""
        return self.actions.allowed(self.env.action_mask(state, params))

    def begin(self, key: Array, params: Params) -> tuple[Array, State]:
        """A fresh episode: observation and state."""
        observation, state = self.env.reset(key, params)
        return self.seen(observation), state

    def nothing(self, state: State, params: Params) -> Info:
        """Info of a reset: that of a step, all zero but for the mask."""
        action = jnp.zeros(self.actions.space(self.env).shape, self.actions.space(self.env).dtype)
        shapes = jax.eval_shape(lambda *args: self.slot(*args)[-1], jax.random.key(0), state, action, params)
        info = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return info | {"action_mask": self.allowed(state, params)}

    def slot(
        self, key: Array, state: State, action: Array, params: Params
    ) -> tuple[Array, State, Array, Array, Array, Info]:
        """One slot without a reset, `env.step_env`: (observation, state, reward, terminated, truncated, info).

        Info is that of the environment and `action_mask`, the mask of the state that was reached.
        """
        cuts = self.cuts(state, action, params)
        observation, state, reward, terminated, info = self.env.step_env(key, state, cuts, params)
        truncated = state.slot >= params.episode_slots
        info = info | {"action_mask": self.allowed(state, params)}
        return self.seen(observation), state, reward, terminated, truncated, info

    def slot_or_reset(
        self, key: Array, state: State, action: Array, params: Params
    ) -> tuple[Array, State, Array, Array, Array, Info]:
        """One slot and, where it ends an episode, a fresh one: `env.step`. Info also has `final_observation`."""
        cuts = self.cuts(state, action, params)
        observation, state, reward, terminated, truncated, info = self.env.step(key, state, cuts, params)
        info = info | {
            "final_observation": self.seen(info["final_observation"]),
            "action_mask": self.allowed(state, params),
        }
        return self.seen(observation), state, reward, terminated, truncated, info

    def cuts(self, state: State, action: Array, params: Params) -> Array:
        """The options int32[N] that an action means.

        Raises:
          ValueError: for an action of another shape or kind, before anything is traced.
        """
        space, action = self.actions.space(self.env), jnp.asarray(action)
        whole = jnp.issubdtype(space.dtype, jnp.integer)
        if action.shape != space.shape or (whole and not jnp.issubdtype(action.dtype, jnp.integer)):
            kind = "whole numbers" if whole else "real numbers"
            raise ValueError(
                f"action: got {action.dtype}{list(action.shape)}; allowed are {kind} of shape {list(space.shape)}"
            )
        return self.actions.decode(action, self.env.action_mask(state, params))


def _digest(params: Params) -> str:
    digest = hashlib.sha256(repr(jax.tree.structure(params)).encode())
    for leaf in jax.tree.leaves(params):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()

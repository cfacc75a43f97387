"""gymnax (https://github.com/RobertTLange/gymnax): six-tuples as of 1.0, and the five-tuple before it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec import spaces as own
from jaxmec.environment import State
from jaxmec.extras import optional
from jaxmec.wrappers.view import Info, View

spaces = optional("gymnax.environments.spaces", "gymnax")
Space: Any = spaces.Space
Environment: Any = optional("gymnax.environments.environment", "gymnax").Environment


class MultiDiscrete(Space):
    """Whole numbers [N], each 0..K-1, which gymnax has no class for."""

    def __init__(self, num_choices: int, num_categories: int) -> None:
        """N and K."""
        self.n, self.shape, self.dtype = num_categories, (num_choices,), jnp.int32

    def sample(self, key: Array) -> Array:
        """A uniform draw."""
        return jax.random.randint(key, self.shape, 0, self.n, self.dtype)

    def contains(self, x: Array) -> Array:
        """bool[]: whether x is in the space."""
        return jnp.all((x >= 0) & (x < self.n))


class GymnaxParams(struct.PyTreeNode):
    """The numbers of a system, and the length of an episode where gymnax looks for it."""

    system: Any  # of the environment
    max_steps_in_episode: Array  # int32[]; the system's own `episode_slots` is not read


@dataclasses.dataclass(frozen=True)
class GymnaxEnv(View, Environment):
    """gymnax 1.x: step -> (obs, state, reward, terminated, truncated, info).

    `params` of `reset` and `step` may be left out. Info is that of the environment, with gymnax's own `terminated`,
    `truncated` and `final_observation`. Transitions are differentiable.
    """

    @property
    def name(self) -> str:
        """Of the environment's class."""
        return type(self.env).__name__

    @property
    def default_params(self) -> GymnaxParams:
        """The view's own numbers."""
        return GymnaxParams(self.params, self.params.episode_slots)

    @property
    def num_actions(self) -> int:
        """How many values an action, or each of its entries, has.

        Raises:
          ValueError: where actions are a box.
        """
        space = self.actions.space(self.env)
        if isinstance(space, own.Box):
            raise ValueError("num_actions: got actions Rounded(); allowed are PerUser() and Joint()")
        return space.num_values

    def action_space(self, params: GymnaxParams | None = None) -> Any:
        """Gymnax's space of the actions, or `MultiDiscrete`."""
        space = self.actions.space(self.env)
        if isinstance(space, own.MultiDiscrete):
            return MultiDiscrete(space.num_choices, space.num_values)
        if isinstance(space, own.Box):
            return spaces.Box(space.low, space.high, space.shape, space.dtype)
        return spaces.Discrete(space.num_values)

    def observation_space(self, params: GymnaxParams | None = None) -> Any:
        """Gymnax's box."""
        box = self.observation_box()
        return spaces.Box(box.low, box.high, box.shape, box.dtype)

    def state_space(self, params: GymnaxParams | None = None) -> Any:
        """Gymnax's boxes by the names of the state's fields, without bounds."""
        params = params or self.default_params
        state = jax.eval_shape(lambda: self.env.reset(jax.random.key(0), params.system)[1])
        leaves = {jax.tree_util.keystr(place): leaf for place, leaf in jax.tree.leaves_with_path(state)}
        return spaces.Dict(
            {name: spaces.Box(-jnp.inf, jnp.inf, leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
        )

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Array, params: GymnaxParams | None = None) -> tuple[Array, State]:
        """A fresh episode: (obs, state)."""
        return self.begin(key, self._system(params))

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Array, state: State, action: Array, params: GymnaxParams | None = None
    ) -> tuple[Array, State, Array, Array, Array, Info]:
        """One slot, followed by a fresh episode where this one has ended."""
        obs, state, reward, terminated, truncated, info = self.slot_or_reset(
            key, state, action, self._system(params)
        )
        return obs, state, reward, terminated, truncated, info | {"terminated": terminated, "truncated": truncated}

    def reset_env(self, key: Array, params: GymnaxParams | None = None) -> tuple[Array, State]:
        """The same as `reset`."""
        return self.begin(key, self._system(params))

    def step_env(
        self, key: Array, state: State, action: Array, params: GymnaxParams | None = None
    ) -> tuple[Array, State, Array, Array, Info]:
        """One slot without a reset: (obs, state, reward, terminated, info)."""
        obs, state, reward, terminated, _, info = self.slot(key, state, action, self._system(params))
        return obs, state, reward, terminated, info

    def get_obs(self, state: State, params: GymnaxParams | None = None, key: Array | None = None) -> Array:
        """The observation of a state."""
        return self.seen(self.env.observe(state, self._system(params)))

    def is_truncated(self, state: State, params: GymnaxParams) -> Array:
        """Whether the episode has ended."""
        return state.slot >= params.max_steps_in_episode

    def is_terminated(self, state: State, params: GymnaxParams) -> Array:
        """Never: episodes end by truncation."""
        return jnp.asarray(False)

    def with_transition_gradients(self) -> GymnaxEnv:
        """The same: transitions have gradients as they are."""
        return self

    @property
    def supports_transition_gradients(self) -> bool:
        """Yes."""
        return True

    @property
    def transition_gradients_enabled(self) -> bool:
        """Yes."""
        return True

    def _system(self, params: GymnaxParams | None) -> Any:
        params = params or self.default_params
        return params.system.replace(episode_slots=params.max_steps_in_episode)


@dataclasses.dataclass(frozen=True)
class FiveTupleEnv(GymnaxEnv):
    """gymnax before 1.0: step -> (obs, state, reward, done, info), as rejax and purejaxrl call it.

    `done` is what ended the episode, a time-out included, as in those versions. Info keeps `truncated`, `discount`
    (0 only where an episode has terminated, so 1 at a time-out) and `final_observation` for learners that bootstrap.
    """

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Array, state: State, action: Array, params: GymnaxParams | None = None
    ) -> tuple[Array, State, Array, Array, Info]:
        """One slot, followed by a fresh episode where this one has ended."""
        obs, state, reward, terminated, truncated, info = super().step(key, state, action, params)
        discount = 1.0 - terminated.astype(reward.dtype)
        return obs, state, reward, terminated | truncated, info | {"discount": discount}

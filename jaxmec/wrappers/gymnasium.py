"""Gymnasium (https://gymnasium.farama.org): `jaxmec/CoInfer-v0`, one system or thousands at once.

import gymnasium as gym
import jaxmec.wrappers.gymnasium                                      # registers it
env = gym.make("jaxmec/CoInfer-v0", scenario="coinfer4", render_mode="rgb_array")
envs = gym.make_vec("jaxmec/CoInfer-v0", num_envs=4096, scenario="coinfer4")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.live import Live

from jaxmec import scenario as scenarios, spaces as own
from jaxmec.env import EdgeInferenceEnv
from jaxmec.environment import Environment, Params
from jaxmec.extras import optional
from jaxmec.reporting.console import terminal
from jaxmec.wrappers import picture
from jaxmec.wrappers.actions import Actions, PerUser
from jaxmec.wrappers.view import View

gym = optional("gymnasium", "gymnasium")
spaces = optional("gymnasium.spaces", "gymnasium")
vector = optional("gymnasium.vector", "gymnasium")
batch_space = optional("gymnasium.vector.utils", "gymnasium").batch_space
Single: Any = gym.Env
Many: Any = vector.VectorEnv

ID = "jaxmec/CoInfer-v0"
LARGEST_SEED = 2**32 - 1  # JAX keeps 32 bits of a seed


class CoInferEnv(Single):
    """One system.

    Observation: float32[N F], or float32[N, F] where it is not flat. Action: `MultiDiscrete`, or what `actions` says.
    Reward: the environment's. An episode ends by truncation alone. Info is that of the environment's step as NumPy
    arrays with `action_mask`, of one structure at reset and step. `action_masks()` is what sb3-contrib's MaskablePPO
    reads. A seed is a JAX key, split once at reset and at every step, and the right half given to `env.reset` or
    `env.step`.

    `render()`: "rgb_array" the system as an image; "human" a live table in the terminal; "ansi" that table as text.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human", "ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        scenario: str | Path | Environment = scenarios.DEFAULT,
        params: Params = None,
        actions: Actions = PerUser(),
        flat: bool = True,
        render_mode: str | None = None,
        **overrides: Any,
    ) -> None:
        """See the class.

        Args:
          scenario: a name, a file, or an environment.
          params: the numbers; the scenario's own where they are left out.
          actions: see `jaxmec.wrappers.actions`.
          flat: whether an observation is a vector.
          render_mode: one of `metadata["render_modes"]`, or none.
          overrides: of the scenario, as for `jaxmec.make`.

        Raises:
          ValueError: naming the argument, its value and what is allowed.
        """
        self._view = make_view(scenario, params, actions, flat, overrides)
        self.render_mode = _checked_mode(render_mode, self._view, self.metadata["render_modes"])
        self.observation_space, self.action_space = gym_spaces(self._view)
        self._begin, self._play, self._allowed = compiled(self._view)
        self._key: Any = None
        self._shown: picture.Snapshot | None = None
        self._live: Live | None = None

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """A fresh episode: observation and info."""
        super().reset(seed=seed)
        if seed is None and self._key is None:
            seed = int(self.np_random.integers(LARGEST_SEED))
        if seed is not None:
            self._key = jax.random.key(seed)
        self._key, observation, self._state, info = self._begin(self._key, self._view.params)
        self._show(self._state, info)
        return np.array(observation), _numpy(info)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One slot: (observation, reward, terminated, truncated, info)."""
        before = self._state
        self._key, observation, self._state, reward, terminated, truncated, info = self._play(
            self._key, before, action_array(action, self._view), self._view.params
        )
        observation = np.array(info.pop("final_observation"))  # of this episode, whether or not it has ended
        self._show(before, info)
        return observation, float(reward), bool(terminated), bool(truncated), _numpy(info)

    def action_masks(self) -> np.ndarray:
        """Which actions mean cuts that exist, bool, flat."""
        return np.array(self._allowed(self._state, self._view.params))

    def render(self) -> Any:
        """The slot that was played last."""
        if self._shown is None or self.render_mode is None:
            return None
        if self.render_mode == "rgb_array":
            return picture.image(self._shown)
        return picture.text(self._shown) if self.render_mode == "ansi" else None

    def close(self) -> None:
        """End the live table."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, state: Any, info: dict) -> None:
        """Keep what `render` shows; a live table shows it at once."""
        if self.render_mode is None:
            return
        self._shown = picture.snapshot(self._view.env, state, info, self._view.params)  # type: ignore[arg-type]
        if self.render_mode == "human":
            if self._live is None:
                self._live = Live(console=terminal(stderr=False), auto_refresh=False)
                self._live.start()
            self._live.update(picture.rich_table(self._shown), refresh=True)


class CoInferVectorEnv(Many):
    """Many systems in one call, as one compiled program.

    System i of seed s is `CoInferEnv` of seed s + i. A finished episode is followed by a fresh one in the same step:
    `metadata["autoreset_mode"]` is SAME_STEP, and info then has `final_obs` (an object array, None where no episode has
    ended) and the mask `_final_obs`. Other info is as `CoInferEnv` has it, with a leading axis of systems.
    `action_masks()` has it, too. `render()` shows the first system.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 4,
        "autoreset_mode": vector.AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str | Path | Environment = scenarios.DEFAULT,
        params: Params = None,
        actions: Actions = PerUser(),
        flat: bool = True,
        render_mode: str | None = None,
        **overrides: Any,
    ) -> None:
        """See `CoInferEnv`; `num_envs` systems."""
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs: got {num_envs!r}; allowed is a whole number, at least 1")
        self.num_envs = num_envs
        self._view = make_view(scenario, params, actions, flat, overrides)
        self.render_mode = _checked_mode(render_mode, self._view, self.metadata["render_modes"])
        self.single_observation_space, self.single_action_space = gym_spaces(self._view)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._begin, self._play, self._allowed = compiled(self._view, batch=True)
        self._keys: Any = None
        self._shown: picture.Snapshot | None = None

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        """Fresh episodes: observations and info; a seed for each system, or one from which they count up."""
        if seed is None and self._keys is None:
            seed = int(np.random.default_rng().integers(LARGEST_SEED - self.num_envs))
        if seed is not None:
            self._keys = keys_of(seed, self.num_envs)
        self._keys, observations, self._states, info = self._begin(self._keys, self._view.params)
        self._show(self._states, info)
        return np.array(observations), _numpy(info)

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One slot of every system."""
        before = self._states
        self._keys, observations, self._states, rewards, terminated, truncated, info = self._play(
            self._keys, before, action_array(actions, self._view, self.num_envs), self._view.params
        )
        final = info.pop("final_observation")
        told = _numpy(info)
        ended = np.array(terminated) | np.array(truncated)
        if ended.any():
            told["final_obs"] = np.full(self.num_envs, None, dtype=object)
            last = np.array(final)
            for index in np.flatnonzero(ended):
                told["final_obs"][index] = last[index]
            told["_final_obs"] = ended
        self._show(before, info)
        return np.array(observations), np.array(rewards), np.array(terminated), np.array(truncated), told

    def action_masks(self) -> np.ndarray:
        """Which actions mean cuts that exist: bool[num_envs, ...], flat per system."""
        return np.array(self._allowed(self._states, self._view.params))

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The first system's last slot as an image."""
        return None if self._shown is None else (picture.image(self._shown),)

    def _show(self, states: Any, info: dict) -> None:
        if self.render_mode is not None:
            state, first = jax.tree.map(lambda leaf: leaf[0], (states, info))
            self._shown = picture.snapshot(self._view.env, state, first, self._view.params)  # type: ignore[arg-type]


def make_view(
    scenario: str | Path | Environment, params: Params, actions: Actions, flat: bool, overrides: dict[str, Any]
) -> View:
    """A view of a scenario with overrides, or of an environment.

    Raises:
      ValueError: naming the argument, its value and what is allowed.
    """
    if isinstance(scenario, str | Path):
        env, own_params = scenarios.make(scenario, **overrides)
        return View(env, own_params if params is None else params, actions, flat)
    if overrides:
        raise ValueError(f"{', '.join(overrides)}: got a value; allowed where scenario is a name or a file")
    return View(scenario, params, actions, flat)


def gym_spaces(view: View) -> tuple[Any, Any]:
    """Gymnasium's spaces of observations and actions."""
    box, action = view.observation_box(), view.actions.space(view.env)
    observations = spaces.Box(box.low, box.high, box.shape, np.float32)
    if isinstance(action, own.MultiDiscrete):
        return observations, spaces.MultiDiscrete(np.full(action.num_choices, action.num_values))
    if isinstance(action, own.Box):
        return observations, spaces.Box(action.low, action.high, action.shape, np.float32)
    return observations, spaces.Discrete(action.num_values)


def compiled(view: View, batch: bool = False) -> tuple[Any, Any, Any]:
    """The view's reset, step and mask as compiled functions of keys that they split; of a batch where it is one."""

    def begin(key: jax.Array, params: Params) -> tuple:
        key, key_reset = jax.random.split(key)
        observation, state = view.begin(key_reset, params)
        return key, observation, state, view.nothing(state, params)

    def play(key: jax.Array, state: Any, action: jax.Array, params: Params) -> tuple:
        key, key_step = jax.random.split(key)
        return key, *view.slot_or_reset(key_step, state, action, params)

    functions = (begin, (0, None)), (play, (0, 0, 0, None)), (view.allowed, (0, None))
    return tuple(jax.jit(jax.vmap(each, axes) if batch else each) for each, axes in functions)  # type: ignore[return-value]


def keys_of(seed: int | Sequence[int], num_envs: int) -> jax.Array:
    """The keys [num_envs] of seeds that count up, or of a seed for each system.

    Raises:
      ValueError: for another number of seeds.
    """
    seeds = np.asarray(seed)
    if seeds.ndim == 0:
        seeds = seeds + np.arange(num_envs)
    if seeds.shape != (num_envs,):
        raise ValueError(f"seed: got {seeds.size} seeds; allowed are one, or one for each of {num_envs} systems")
    return jax.vmap(jax.random.key)(seeds.astype(np.uint32))


def action_array(action: Any, view: View, *batch: int) -> np.ndarray:
    """An action, or one for each of a batch, as the environment's type.

    Raises:
      ValueError: for another shape, or fractions where whole numbers are wanted.
    """
    space, array = view.actions.space(view.env), np.asarray(action)
    whole = np.issubdtype(np.dtype(space.dtype), np.integer)
    if array.shape != (*batch, *space.shape) or (whole and not np.issubdtype(array.dtype, np.integer)):
        kind = "whole numbers" if whole else "real numbers"
        raise ValueError(
            f"action: got {array.dtype}{list(array.shape)}; allowed are {kind} of shape {[*batch, *space.shape]}"
        )
    return array.astype(space.dtype)


def _numpy(info: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in info.items() if name != "final_observation"}


def _checked_mode(mode: str | None, view: View, allowed: Sequence[str]) -> str | None:
    if mode is not None and mode not in allowed:
        raise ValueError(f"render_mode: got {mode!r}; allowed are {', '.join(allowed)}")
    if mode is not None and not isinstance(view.env, EdgeInferenceEnv):
        raise ValueError(f"render_mode: got {mode!r} for {type(view.env).__name__}; allowed is None")
    return mode


if ID not in gym.registry:
    gym.register(
        id=ID,
        entry_point="jaxmec.wrappers.gymnasium:CoInferEnv",
        vector_entry_point="jaxmec.wrappers.gymnasium:CoInferVectorEnv",
    )

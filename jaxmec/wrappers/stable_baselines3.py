"""Stable-Baselines3 (https://github.com/DLR-RM/stable-baselines3): one VecEnv of many systems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmec import scenario as scenarios
from jaxmec.environment import Environment, Params
from jaxmec.extras import optional
from jaxmec.wrappers.actions import Actions, PerUser
from jaxmec.wrappers.gymnasium import LARGEST_SEED, action_array, compiled, gym_spaces, keys_of, make_view

VecEnv: Any = optional("stable_baselines3.common.vec_env", "sb3").VecEnv
Indices = int | Sequence[int] | None  # of systems; None: all


class CoInferVecEnv(VecEnv):
    """Many systems in one call, without a copy of the environment for each.

    Numbers are those of `jaxmec.wrappers.gymnasium.CoInferVectorEnv` of the same seed. At the end of an episode info
    has `terminal_observation` and `TimeLimit.truncated`, from which Stable-Baselines3 takes the value of what would
    have come; all other info is left out. Masks are read by sb3-contrib's MaskablePPO.
    """

    def __init__(
        self,
        num_envs: int,
        scenario: str | Path | Environment = scenarios.DEFAULT,
        params: Params = None,
        actions: Actions = PerUser(),
        flat: bool = True,
        **overrides: Any,
    ) -> None:
        """See `jaxmec.wrappers.gymnasium.CoInferVectorEnv`."""
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs: got {num_envs!r}; allowed is a whole number, at least 1")
        self.render_mode = None
        self._view = make_view(scenario, params, actions, flat, overrides)
        super().__init__(num_envs, *gym_spaces(self._view))
        self._begin, self._play, self._allowed = compiled(self._view, batch=True)
        self._keys: Any = None

    def reset(self) -> np.ndarray:
        """Fresh episodes: observations."""
        if self._seeds[0] is not None:
            self._keys = keys_of([seed for seed in self._seeds if seed is not None], self.num_envs)
        elif self._keys is None:
            self._keys = keys_of(
                int(np.random.default_rng().integers(LARGEST_SEED - self.num_envs)), self.num_envs
            )
        self._reset_seeds()
        self._reset_options()
        self._keys, observations, self._states, _ = self._begin(self._keys, self._view.params)
        return np.array(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Check and keep the actions."""
        self._actions = action_array(actions, self._view, self.num_envs)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict]]:
        """One slot of every system: (observations, rewards, dones, infos)."""
        self._keys, observations, self._states, rewards, terminated, truncated, info = self._play(
            self._keys, self._states, self._actions, self._view.params
        )
        terminated, truncated = np.array(terminated), np.array(truncated)
        infos: list[dict] = [{} for _ in range(self.num_envs)]
        done = terminated | truncated
        if done.any():
            final = np.array(info["final_observation"])
            for index in np.flatnonzero(done):
                timed_out = bool(truncated[index] and not terminated[index])
                infos[index] = {"terminal_observation": final[index], "TimeLimit.truncated": timed_out}
        return np.array(observations), np.array(rewards), done, infos

    def action_masks(self) -> np.ndarray:
        """Which actions mean cuts that exist: bool[num_envs, ...], flat per system."""
        return np.array(self._allowed(self._states, self._view.params))

    def close(self) -> None:
        """Nothing to free."""

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """The attribute, which all systems share, once for each index."""
        return [getattr(self, attr_name)] * len(self._indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set it for all systems.

        Raises:
          ValueError: if it is to be set for some only.
        """
        if len(self._indices(indices)) != self.num_envs:
            raise ValueError(
                "indices: got some of the systems; allowed is None, since they share their attributes"
            )
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Indices = None, **kwargs: Any) -> list:
        """A row of what the method returns for each index; `action_masks` is the only one.

        Raises:
          AttributeError: for another method.
        """
        if method_name != "action_masks":
            raise AttributeError(f"method_name: got {method_name!r}; allowed is 'action_masks'")
        masks = self.action_masks()
        return [masks[index] for index in self._indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        """Never: there is nothing to wrap."""
        return [False] * len(self._indices(indices))

    def _indices(self, indices: Indices) -> Sequence[int]:
        return list(self._get_indices(indices))

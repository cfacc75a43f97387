"""JaxMARL (https://github.com/FLAIROx/JaxMARL): every user an agent."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.environment import State
from jaxmec.extras import optional
from jaxmec.wrappers.view import Info, View

spaces = optional("jaxmarl.environments.spaces", "jaxmarl")
Base: Any = optional("jaxmarl.environments.multi_agent_env", "jaxmarl").MultiAgentEnv

Agents = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class JaxMARLEnv(View, Base):
    """JaxMARL: dictionaries by agent. Numbers are the view's own.

    Agent n is user n: its observation is row n, float32[F], its actions are its options, and `get_avail_actions` tells
    which of them exist. The reward is the environment's, the same for all, or with `own_reward` the user's part of it,
    see `own_rewards`. All agents are done together, at a time-out, which info's `truncated` tells. Info has what the
    step tells of every user, and of the system, as one number per agent: leaves [N].
    """

    own_reward: bool = False

    def __post_init__(self) -> None:
        """See `View`.

        Raises:
          ValueError: for own rewards of an environment that is not ours.
        """
        super().__post_init__()
        if self.own_reward and not isinstance(self.env, EdgeInferenceEnv):
            raise ValueError(f"own_reward: got True for {type(self.env).__name__}; allowed for EdgeInferenceEnv")

    @property
    def num_agents(self) -> int:
        """N."""
        return self.env.num_users

    @property
    def agents(self) -> list[str]:
        """agent_0 and so on."""
        return [f"agent_{number}" for number in range(self.num_agents)]

    @property
    def observation_spaces(self) -> dict[str, Any]:
        """JaxMARL's boxes."""
        box = self.env.observation_space(self.params)
        return {agent: spaces.Box(box.low, box.high, box.shape[1:], box.dtype) for agent in self.agents}

    @property
    def action_spaces(self) -> dict[str, Any]:
        """JaxMARL's Discrete(K)."""
        return {agent: spaces.Discrete(self.env.num_options) for agent in self.agents}

    @property
    def agent_classes(self) -> dict[str, list[str]]:
        """One class: users."""
        return {"users": self.agents}

    @property
    def name(self) -> str:
        """Of the environment's class."""
        return type(self.env).__name__

    @partial(jax.jit, static_argnums=(0,))
    def reset(self, key: Array) -> tuple[Agents, State]:
        """A fresh episode."""
        observation, state = self.env.reset(key, self.params)
        return self._by_agent(observation), state

    @partial(jax.jit, static_argnums=(0,))
    def step(
        self, key: Array, state: State, actions: Agents, reset_state: State | None = None
    ) -> tuple[Agents, State, Agents, Agents, Info]:
        """One slot, followed by a fresh episode, or by `reset_state`, where this one has ended."""
        before, cuts = state, self._stacked(actions)
        observation, state, reward, terminated, truncated, info = self.env.step(key, state, cuts, self.params)
        done = terminated | truncated
        if reset_state is not None:
            state = jax.tree.map(lambda new, old: jnp.where(done, new, old), reset_state, state)
            observation = self.env.observe(state, self.params)
        return self._told(observation, before, state, reward, done, truncated, info)

    @partial(jax.jit, static_argnums=(0,))
    def step_env(self, key: Array, state: State, actions: Agents) -> tuple[Agents, State, Agents, Agents, Info]:
        """One slot without a reset."""
        before, cuts = state, self._stacked(actions)
        observation, state, reward, terminated, info = self.env.step_env(key, state, cuts, self.params)
        truncated = state.slot >= self.params.episode_slots
        return self._told(observation, before, state, reward, terminated | truncated, truncated, info)

    def get_obs(self, state: State) -> Agents:
        """The observations of a state."""
        return self._by_agent(self.env.observe(state, self.params))

    @partial(jax.jit, static_argnums=(0,))
    def get_avail_actions(self, state: State) -> Agents:
        """bool[K] of every agent."""
        return self._by_agent(self.env.action_mask(state, self.params))

    def _told(
        self,
        observation: Array,
        before: State,
        state: State,
        reward: Array,
        done: Array,
        truncated: Array,
        info: Info,
    ) -> tuple[Agents, State, Agents, Agents, Info]:
        everyone = (self.num_agents,)
        rewards = jnp.broadcast_to(reward, everyone)
        if self.own_reward:
            rewards = own_rewards(self.env, before, info, self.params)
        dones = self._by_agent(jnp.broadcast_to(done, everyone)) | {"__all__": done}
        told = info | {"truncated": truncated}
        per_agent = {
            name: jnp.broadcast_to(value, everyone)
            for name, value in told.items()
            if value.ndim == 0 or value.shape == everyone
        }
        return self._by_agent(observation), state, self._by_agent(rewards), dones, per_agent

    def _by_agent(self, rows: Array) -> Agents:
        return {agent: rows[number] for number, agent in enumerate(self.agents)}

    def _stacked(self, actions: Agents) -> Array:
        """Options int32[N].

        Raises:
          ValueError: for other agents than there are, or actions that are no whole numbers.
        """
        if set(actions) != set(self.agents):
            raise ValueError(f"actions: got agents {sorted(actions)}; allowed are {sorted(self.agents)}")
        stacked = jnp.stack([jnp.asarray(actions[agent]) for agent in self.agents])
        if stacked.shape != (self.num_agents,) or not jnp.issubdtype(stacked.dtype, jnp.integer):
            raise ValueError(
                f"actions: got {stacked.dtype}{list(stacked.shape[1:])} of every agent; allowed is one whole number"
            )
        return stacked.astype(jnp.int32)


def own_rewards(env: Any, state: EnvState, info: Info, params: EnvParams) -> Array:
    """Every user's part of the drift-plus-penalty reward: [N], in seconds; their mean is the reward.

    A user's own delay at its weight and its own energy over its budget at its queue, and an equal part of the server's.

    Args:
      env: an `EdgeInferenceEnv`.
      state: before the step.
      info: of the step.
      params: of the system.
    """
    use = env.budget_use(state, info, params)
    server = state.server_queue * (use["server_energy"][0] - 1.0) / env.num_users
    device = state.device_queue * (use["device_energy"] - 1.0)
    return -(params.delay_weight * info["delay_s"] + (device + server) / params.tradeoff)

"""jumanji (https://github.com/instadeepai/jumanji): specs and time steps."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec import spaces
from jaxmec.environment import State
from jaxmec.extras import optional
from jaxmec.wrappers.view import View

specs = optional("jumanji.specs", "jumanji")
time_steps = optional("jumanji.types", "jumanji")
Base: Any = optional("jumanji.env", "jumanji").Environment


class JumanjiState(struct.PyTreeNode):
    """A state with its key, where jumanji looks for it."""

    key: Array
    system: Any  # of the environment


class JumanjiObservation(NamedTuple):
    """What jumanji's networks read."""

    view: Array  # float32[N F], or float32[N, F] where it is not flat
    action_mask: Array  # bool, flat: [N K], or [K^N] of joint actions
    step_count: Array  # int32[]


@dataclasses.dataclass(frozen=True)
class JumanjiEnv(View, Base):
    """jumanji: reset(key) and step(state, action) -> (state, timestep), with specs.

    Numbers are the view's own. A time-out is jumanji's truncation: step type LAST and discount 1. `extras` is the
    environment's info, of one structure at reset and step.
    """

    def __post_init__(self) -> None:
        """See `View`. Specs are made at once, since jumanji cannot make them while tracing."""
        super().__post_init__()
        Base.__init__(self)

    def __reduce__(self) -> tuple:
        """Copies make specs of their own; jumanji's cannot be pickled."""
        return type(self), (self.env, self.params, self.actions, self.flat)

    def reset(self, key: Array) -> tuple[JumanjiState, Any]:
        """A fresh episode."""
        key, key_reset = jax.random.split(key)
        observation, state = self.begin(key_reset, self.params)
        extras = self.nothing(state, self.params)
        return JumanjiState(key, state), time_steps.restart(self._observed(observation, state), extras)

    def step(self, state: JumanjiState, action: Array) -> tuple[JumanjiState, Any]:
        """One slot."""
        key, key_slot = jax.random.split(state.key)
        observation, system, reward, terminated, truncated, extras = self.slot(
            key_slot, state.system, action, self.params
        )
        timestep = time_steps.TimeStep(
            step_type=jnp.where(terminated | truncated, time_steps.StepType.LAST, time_steps.StepType.MID),
            reward=reward,
            discount=1.0 - terminated.astype(reward.dtype),
            observation=self._observed(observation, system),
            extras=extras,
        )
        return JumanjiState(key, system), timestep

    def _observed(self, observation: Array, state: State) -> JumanjiObservation:
        slot = jnp.asarray(state.slot, jnp.int32)
        return JumanjiObservation(observation, self.allowed(state, self.params), slot)

    @cached_property
    def observation_spec(self) -> Any:
        """Of `JumanjiObservation`."""
        observation = jax.eval_shape(lambda: self.reset(jax.random.key(0))[1].observation)
        return specs.Spec(
            JumanjiObservation,
            "ObservationSpec",
            view=specs.Array(observation.view.shape, observation.view.dtype, "view"),
            action_mask=specs.BoundedArray(observation.action_mask.shape, bool, False, True, "action_mask"),
            step_count=specs.BoundedArray((), jnp.int32, 0, int(self.params.episode_slots), "step_count"),
        )

    @cached_property
    def action_spec(self) -> Any:
        """Jumanji's spec of the actions."""
        space = self.actions.space(self.env)
        if isinstance(space, spaces.MultiDiscrete):
            values = jnp.full(space.num_choices, space.num_values, jnp.int32)
            return specs.MultiDiscreteArray(values, space.dtype, "action")
        if isinstance(space, spaces.Box):
            return specs.BoundedArray(space.shape, space.dtype, space.low, space.high, "action")
        return specs.DiscreteArray(space.num_values, space.dtype, "action")

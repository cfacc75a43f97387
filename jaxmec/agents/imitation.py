"""Imitation of a policy by cross-entropy, along that policy's own trajectories."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxmec.agents.actor_critic import ActorCritic
from jaxmec.agents.algorithm import over_envs
from jaxmec.agents.gradient import ENVIRONMENTS, STEPS, GradientLearner, Metrics, Step, static
from jaxmec.environment import Environment, Params, State
from jaxmec.policies import make_policy


class Imitation(GradientLearner):
    """Learns what `expert` would do: a policy's name, see `jaxmec.policies`, or the folder of a run."""

    total_steps: int = static(200_000, **STEPS)  # slots of the whole run; searches are dear
    num_envs: int = static(1024, **ENVIRONMENTS)  # environments side by side
    expert: str = static("price")  # name of a policy, or folder of a run

    def check(self, env: Environment) -> None:
        """See `Algorithm`."""
        super().check(env)
        make_policy(self.expert, env)

    def act(self, env: Environment, key: Array, state: State, logits: Array, params: Params) -> Array:
        """The expert's options."""
        keys = jax.random.split(key, (self.num_minibatches, self.num_envs // self.num_minibatches))
        return over_envs(make_policy(self.expert, env), (0, 0, None))(keys, state, params)

    def lesson(self, env: Environment, model: ActorCritic, step: Step, params: Params) -> Array:
        """The expert's options [M, E / M, N]."""
        return step.action

    def loss(self, logits: Array, value: Array, lesson: Array) -> tuple[Array, Metrics]:
        """Cross-entropy."""
        loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, lesson))
        return loss, {"policy_loss": loss}

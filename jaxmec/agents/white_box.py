"""A learner that uses the cost model: what every cut of every user would have cost at the slot's own prices.

The prices of band and server come with the exact allocation of what was played, and at given prices the Lagrangian
splits by user, so the regret of every option is known after every slot. The actor minimises its expected regret over
all options; there is no critic. It is told apart from model-free learners wherever results are shown.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxmec.agents.actor_critic import ActorCritic
from jaxmec.agents.algorithm import over_envs
from jaxmec.agents.gradient import GradientLearner, Metrics, Step
from jaxmec.environment import Environment, Params, WhiteBoxEnvironment


class WhiteBox(GradientLearner):
    """All-action gradient of the regret."""

    def check(self, env: Environment) -> None:
        """See `Algorithm`."""
        super().check(env)
        if not isinstance(env, WhiteBoxEnvironment):
            raise ValueError(
                f"algorithm: got 'white_box' for {type(env).__name__}; allowed with a method `regret`"
            )

    def lesson(self, env: Environment, model: ActorCritic, step: Step, params: Params) -> Array:
        """Regrets [M, E / M, N, K]."""
        assert isinstance(env, WhiteBoxEnvironment)
        return over_envs(env.regret, (0, 0, None))(step.state, step.info, params)

    def loss(self, logits: Array, value: Array, lesson: Array) -> tuple[Array, Metrics]:
        """The expected regret."""
        loss = jnp.mean(jnp.sum(jax.nn.softmax(logits) * lesson, axis=-1))
        return loss, {"policy_loss": loss}

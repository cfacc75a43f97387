"""Proximal policy optimisation of the cuts, wholly inside one jitted scan.

Source: Schulman et al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347 (2017). Every user's choice is
its own categorical with its own probability ratio, clipped by itself: with one joint ratio of ten users nearly
every sample would be clipped. The reward is the same for all users.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.agents import distribution
from jaxmec.agents.actor_critic import ActorCritic
from jaxmec.agents.advantage import gae
from jaxmec.agents.algorithm import Result, make_train
from jaxmec.agents.gradient import GradientLearner, Metrics, Step, static
from jaxmec.config import number
from jaxmec.environment import Environment, Params

__all__ = ["PPO", "PPOConfig", "Result", "clipped_gain", "make_train"]


class _Lesson(struct.PyTreeNode):
    """Leaves [T, M, E / M, N], but for the two ends of episodes, [..., 1]."""

    action: Array
    log_prob: Array
    value: Array
    reward: Array
    value_tp1: Array  # of the state that the slot reached, before any reset
    terminated: Array
    truncated: Array


class _Batch(struct.PyTreeNode):
    """Leaves [T, M, E / M, N]."""

    action: Array
    log_prob: Array
    value: Array
    advantage: Array


class PPO(GradientLearner):
    """Model-free: it learns from the reward signal of what was played.

    `reward` is one of the environment's `reward_signals`; "objective" of the edge-inference environment is -log of
    the slot objective, "environment" its own reward.
    """

    discount: float = number(0.0, at_least=0, at_most=1)  # per slot; prices already carry the future
    trace_decay: float = number(0.95, at_least=0, at_most=1)  # λ of generalised advantages
    clip: float = number(0.2, above=0, at_most=1e3)  # of a user's probability ratio
    value_weight: float = number(0.5, at_least=0, at_most=1e3)  # of the critic's loss
    reward: str = static("objective")  # the signal to learn from: objective or environment

    def check(self, env: Environment) -> None:
        """See `Algorithm`."""
        super().check(env)
        if self.reward not in env.reward_signals:
            raise ValueError(f"reward: got {self.reward!r}; allowed are {', '.join(env.reward_signals)}")

    def lesson(self, env: Environment, model: ActorCritic, step: Step, params: Params) -> _Lesson:
        """What was done, and what it brought."""
        # Without a discount nobody asks what the reached state is worth.
        value_tp1 = jax.lax.cond(
            self.discount > 0,
            lambda: self.forward(env, model, step.info["final_observation"])[1],
            lambda: jnp.zeros_like(step.value),
        )
        signal = jax.vmap(jax.vmap(lambda *slot: env.reward_signal(self.reward, *slot)))
        reward = signal(step.observation, step.reward, step.info)
        return _Lesson(
            action=step.action,
            log_prob=distribution.log_prob(step.logits, step.action),
            value=step.value,
            reward=jnp.broadcast_to(reward[..., None], step.value.shape),
            value_tp1=value_tp1,
            terminated=step.terminated[..., None],
            truncated=step.truncated[..., None],
        )

    def batch(self, lessons: _Lesson) -> _Batch:
        """Advantages over the stretch."""
        advantage = gae(
            lessons.reward,
            lessons.value,
            lessons.value_tp1,
            lessons.terminated,
            lessons.truncated,
            self.discount,
            self.trace_decay,
        )
        return _Batch(lessons.action, lessons.log_prob, lessons.value, advantage)

    def loss(self, logits: Array, value: Array, lesson: _Batch) -> tuple[Array, Metrics]:
        """The clipped surrogate, and the critic's squared error."""
        ratio = jnp.exp(distribution.log_prob(logits, lesson.action) - lesson.log_prob)
        advantage = (lesson.advantage - jnp.mean(lesson.advantage)) / (jnp.std(lesson.advantage) + 1e-8)
        policy_loss = -jnp.mean(clipped_gain(ratio, advantage, self.clip))
        value_loss = 0.5 * jnp.mean((value - lesson.value - lesson.advantage) ** 2)
        metrics = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "clipped": jnp.mean(jnp.abs(ratio - 1.0) > self.clip),
        }
        return policy_loss + self.value_weight * value_loss, metrics


PPOConfig = PPO  # an algorithm is its hyperparameters; this name reads better beside `make_train`


def clipped_gain(ratio: Array, advantage: Array, clip: Array | float) -> Array:
    """PPO's surrogate, min(r A, clip(r, 1 - ε, 1 + ε) A), element by element: one per user."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)

"""What learners by stochastic gradients share: acting in many environments, minibatches, and one actor-critic.

A learner differs from another in three steps: what it does in a slot (`act`), what a slot teaches (`lesson`, and
`batch` for a stretch of slots), and the loss. PPO, the white-box learner and imitation are such; see their files.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from jaxmec.agents import actor_critic, distribution, running
from jaxmec.agents.actor_critic import ActorCritic, ActorCriticLearner
from jaxmec.agents.algorithm import Learner, over_envs
from jaxmec.agents.networks import NETWORKS
from jaxmec.config import check_limits, number
from jaxmec.environment import Environment, Params, State

Metrics = dict[str, Array]


def static(default: Any, **limits: float) -> Any:
    """A field that is a shape or a kind; the limits are those of `jaxmec.config.number`."""
    return struct.field(pytree_node=False, default=default, metadata=limits)


# Sizes that any algorithm has.
STEPS = {"at_least": 1, "at_most": 10**12}  # of a whole run
ENVIRONMENTS = {"at_least": 1, "at_most": 2**24}
SLOTS = {"at_least": 1, "at_most": 10**6}  # per environment and update
WIDTH = {"at_least": 1, "at_most": 2**16}


class Step(NamedTuple):
    """A slot of all environments; leaves [M, E / M, ...]."""

    state: State  # at its start
    observation: Array  # [..., N, F]
    logits: Array  # [..., N, K]
    value: Array  # [..., N]
    action: Array  # int32[..., N]
    reward: Array  # [...]
    terminated: Array  # bool[...]
    truncated: Array  # bool[...]
    info: dict[str, Array]


class GradientLearner(ActorCriticLearner, struct.PyTreeNode):
    """Hyperparameters that learners by stochastic gradients share. Floats are traced; the rest are shapes and kinds.

    The field "network" is "set" or "mlp", see `jaxmec.agents.networks`.
    """

    learning_rate: float = number(3e-3, above=0, at_most=10)  # of Adam, at the start
    final_learning_rate: float = number(1e-5, at_least=0, at_most=10)  # reached linearly with the last update
    entropy_weight: float = number(3e-3, at_least=0, at_most=1e3)
    """Of the entropy in the loss; falls linearly to zero."""
    max_grad_norm: float = number(0.5, above=0, at_most=1e6)  # longer gradients are shortened to it
    total_steps: int = static(2_000_000, **STEPS)  # slots of the whole run, over all environments
    num_envs: int = static(4096, **ENVIRONMENTS)  # environments side by side
    num_steps: int = static(1, **SLOTS)  # slots per environment and update
    num_epochs: int = static(1, at_least=1, at_most=10**4)  # passes over what an update has played
    num_minibatches: int = static(32, at_least=1, at_most=2**24)  # gradient steps per pass
    network: Literal["set", "mlp"] = static("set")  # shared over users and cuts, or one over all users
    width: int = static(16, **WIDTH)  # of the hidden layers

    @property
    def num_groups(self) -> int:
        """Minibatches."""
        return self.num_minibatches

    @property
    def num_updates(self) -> int:
        """Updates of the whole run, at least one."""
        return max(self.total_steps // (self.num_envs * self.num_steps), 1)

    def check(self, env: Environment) -> None:
        """Sizes and kinds, before anything is traced.

        Raises:
          ValueError: naming the field, its value and what is allowed.
        """
        check_limits(self)
        if self.num_envs % self.num_minibatches:
            raise ValueError(
                f"num_minibatches: got {self.num_minibatches}; allowed is a divisor of num_envs = {self.num_envs}"
            )
        if self.network not in NETWORKS:
            raise ValueError(f"network: got {self.network!r}; allowed are {', '.join(NETWORKS)}")

    def init(self, env: Environment, key: Array, params: Params) -> Learner:
        """A fresh model among fresh episodes, each at a slot of its own so that they do not end all at once."""
        key, key_net, key_env = jax.random.split(key, 3)
        keys = jax.random.split(key_env, self._shape)
        observation, env_state = over_envs(env.reset_staggered, (0, None))(keys, params)
        model = self.init_model(env, key_net)
        return Learner(
            model=model.replace(statistics=running.update(model.statistics, env.unpack(observation))),
            optimiser=self._optimiser.init(model.weights),
            env_state=env_state,
            key=key,
            updates=jnp.zeros((), jnp.int32),
        )

    def update(self, env: Environment, state: Learner, params: Params) -> tuple[Learner, Metrics]:
        """A rollout of `num_steps` slots, and `num_epochs` times a gradient step for every minibatch of it."""
        key, key_rollout = jax.random.split(state.key)
        env_state, batch, metrics = self._collect(env, state, params, key_rollout)
        weights, optimiser, losses = self._learn(env, state, batch)
        # Environments are alike: one minibatch of them tells what there is to know.
        views = env.unpack(batch.observation[:, 0])
        state = state.replace(
            model=ActorCritic(weights, running.update(state.model.statistics, views)),
            optimiser=optimiser,
            env_state=env_state,
            key=key,
            updates=state.updates + 1,
        )
        return state, metrics | losses

    # What a learner chooses, from here.

    def act(self, env: Environment, key: Array, state: State, logits: Array, params: Params) -> Array:
        """Options int32[M, E / M, N] of all environments; draws from the network unless a learner does otherwise."""
        return distribution.sample(key, logits)

    def lesson(self, env: Environment, model: ActorCritic, step: Step, params: Params) -> Any:
        """What is kept of a slot beside the observation: leaves [M, E / M, ...]."""
        raise NotImplementedError

    def batch(self, lessons: Any) -> Any:
        """What the loss reads, [T, M, E / M, ...], from the lessons of T slots."""
        return lessons

    def loss(self, logits: Array, value: Array, lesson: Any) -> tuple[Array, Metrics]:
        """Loss [] of a minibatch of T slots, and what to report of it; logits are [T, E / M, N, K]."""
        raise NotImplementedError

    # And the steps that all share.

    @property
    def _shape(self) -> tuple[int, int]:
        return self.num_minibatches, self.num_envs // self.num_minibatches

    @property
    def _optimiser(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), optax.scale_by_adam(eps=1e-5))

    def forward(self, env: Environment, model: ActorCritic, observation: Array) -> tuple[Array, Array]:
        """Logits and values of all environments [M, E / M, N, F].

        A minibatch at a time, whose hidden layers stay in the cache: a third of the time on a CPU.
        """
        return jax.lax.map(partial(actor_critic.forward, env, self._network, model), observation)

    def _collect(
        self, env: Environment, learner: Learner, params: Params, key: Array
    ) -> tuple[State, _Batch, Metrics]:
        """Play `num_steps` slots in every environment."""

        def slot(carry: tuple[State, Array], key: Array) -> tuple[tuple[State, Array], tuple]:
            state, observation = carry
            key_action, key_env = jax.random.split(key)
            logits, value = self.forward(env, learner.model, observation)
            action = self.act(env, key_action, state, logits, params)
            keys = jax.random.split(key_env, self._shape)
            after = over_envs(env.step, (0, 0, 0, None))(keys, state, action, params)
            next_observation, next_state, reward, terminated, truncated, info = after
            step = Step(state, observation, logits, value, action, reward, terminated, truncated, info)
            metrics = over_envs(env.metrics, (0, 0, 0, None))(state, reward, info, params)
            kept = observation, self.lesson(env, learner.model, step, params), jax.tree.map(jnp.mean, metrics)
            return (next_state, next_observation), kept

        # The learner does not keep observations, which are large and a function of the state; the last slot's,
        # which nobody reads, XLA leaves out of a rollout of one slot.
        start = learner.env_state, over_envs(env.observe, (0, None))(learner.env_state, params)
        (env_state, _), kept = jax.lax.scan(slot, start, jax.random.split(key, self.num_steps))
        observation, lessons, metrics = kept
        return env_state, _Batch(observation, self.batch(lessons)), jax.tree.map(jnp.mean, metrics)

    def _learn(self, env: Environment, learner: Learner, batch: _Batch) -> tuple[Any, Any, Metrics]:
        """Gradient steps: weights, optimiser, metrics."""
        done = learner.updates / self.num_updates
        rate = self.learning_rate + done * (self.final_learning_rate - self.learning_rate)
        loss = partial(self._whole_loss, env, learner.model, (1.0 - done) * self.entropy_weight)

        def minibatch(carry: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], Metrics]:
            weights, optimiser = carry
            part = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, 1, keepdims=False), batch)
            gradient, losses = jax.grad(loss, has_aux=True)(weights, part)
            step, optimiser = self._optimiser.update(gradient, optimiser)
            weights = optax.apply_updates(weights, jax.tree.map(lambda s: -rate * s, step))
            return (weights, optimiser), losses

        (weights, optimiser), losses = jax.lax.scan(
            lambda carry, _: jax.lax.scan(minibatch, carry, jnp.arange(self.num_minibatches)),
            (learner.model.weights, learner.optimiser),
            None,
            length=self.num_epochs,
        )
        return weights, optimiser, jax.tree.map(jnp.mean, losses) | {"learning_rate": rate}

    def _whole_loss(
        self, env: Environment, model: ActorCritic, entropy_weight: Array | float, weights: Any, batch: _Batch
    ) -> tuple[Array, Metrics]:
        model = model.replace(weights=weights)
        logits, value = actor_critic.forward(env, self._network, model, batch.observation)
        entropy = jnp.mean(distribution.entropy(logits))
        loss, metrics = self.loss(logits, value, batch.lesson)
        return loss - entropy_weight * entropy, metrics | {"entropy": entropy}


class _Batch(struct.PyTreeNode):
    """A rollout; leaves [T, M, E / M, ...]."""

    observation: Array
    lesson: Any

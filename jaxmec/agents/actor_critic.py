"""The learned policy: a network's weights with the statistics of what they have seen, and the cuts they choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn, struct
from jax import Array

from jaxmec.agents import distribution, running
from jaxmec.agents.networks import NETWORKS
from jaxmec.compilation import one_programme
from jaxmec.environment import Environment, Params, Policy, State
from jaxmec.policies.best_of import cheapest

if TYPE_CHECKING:
    from jaxmec.agents.algorithm import Learner


class ActorCritic(struct.PyTreeNode):
    """All that a learned policy is, but for its network's kind and width."""

    weights: Any
    statistics: running.RunningStatistics


def init(key: Array, env: Environment, network: nn.Module, observation: Array) -> ActorCritic:
    """Fresh weights for observations like this one, [N, F]."""
    views = env.unpack(observation)
    return ActorCritic(network.init(key, views), running.init(views))


def forward(env: Environment, network: nn.Module, model: ActorCritic, observation: Array) -> tuple[Array, Array]:
    """Logits [..., N, K] and values [..., N] of raw observations [..., N, F].

    They are normalised where they are used, which is cheaper than to keep both.
    """
    views = running.normalise(model.statistics, env.unpack(observation))
    result: Any = network.apply(model.weights, views)
    return result


class ActorCriticLearner:
    """What algorithms have in common whose fields `network` and `width` name the network of an `ActorCritic`."""

    network: Literal["set", "mlp"]
    width: int

    def init_model(self, env: Environment, key: Array) -> ActorCritic:
        """A model with fresh weights, of the shapes that the environment needs."""
        space = env.observation_space(None)
        return init(key, env, self._network, jnp.zeros(space.shape, space.dtype))

    def policy(self, env: Environment, state: Learner, candidates: int = 1) -> Policy:
        """The policy that has been learned, see `jaxmec.agents.actor_critic.policy`."""
        return policy(env, self._network, state.model, candidates)

    @property
    def _network(self) -> nn.Module:
        return NETWORKS[self.network](width=self.width)


def policy(env: Environment, network: nn.Module, model: ActorCritic, candidates: int = 1) -> Policy:
    """The policy of a model: each user's most probable option.

    With more than one candidate, the most probable options and draws from the network are all scored by the
    environment's exact objective, and the best is taken.

    Raises:
      ValueError: for less than one candidate.
    """
    if candidates < 1:
        raise ValueError(f"candidates: got {candidates}; allowed is at least 1")

    @one_programme()
    def choose(key: Array, state: State, params: Params) -> Array:
        logits, _ = forward(env, network, model, env.observe(state, params))
        likely = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        if candidates == 1:
            return likely
        draws = jax.vmap(distribution.sample, (0, None))(jax.random.split(key, candidates - 1), logits)
        options = jnp.concatenate([likely[None], draws])
        return cheapest(env, state, options, params)

    return choose

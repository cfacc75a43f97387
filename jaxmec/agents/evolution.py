"""An evolution strategy: weights are perturbed, and what did well pulls the mean. No gradient of anything.

Source: Salimans et al., "Evolution Strategies as a Scalable Alternative to Reinforcement Learning", arXiv 1703.03864
(2017), by the library evosax. Every member of a generation acts greedily in a share of the environments.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from jaxmec.agents import actor_critic, running
from jaxmec.agents.actor_critic import ActorCritic, ActorCriticLearner
from jaxmec.agents.algorithm import Learner, over_envs
from jaxmec.agents.gradient import ENVIRONMENTS, SLOTS, STEPS, WIDTH, Metrics, static
from jaxmec.agents.networks import NETWORKS
from jaxmec.config import check_limits, number
from jaxmec.environment import Environment, Params, State
from jaxmec.extras import optional


class Evolution(ActorCriticLearner, struct.PyTreeNode):
    """Hyperparameters. Floats are traced; the rest are shapes and kinds."""

    learning_rate: float = number(1e-2, above=0, at_most=10)  # of Adam
    deviation: float = number(0.05, above=0, at_most=10)  # standard deviation of the perturbation of every weight
    total_steps: int = static(6_000_000, **STEPS)  # slots of the whole run, over all environments
    num_envs: int = static(4096, **ENVIRONMENTS)  # environments side by side
    num_steps: int = static(4, **SLOTS)  # slots of each environment per generation
    population: int = static(64, at_least=2, at_most=2**20)  # members of a generation, in opposite pairs
    network: Literal["set", "mlp"] = static("set")  # shared over users and cuts, or one over all users
    width: int = static(16, **WIDTH)  # of the hidden layers
    reward: str = static("objective")  # the signal to learn from: objective or environment

    @property
    def num_groups(self) -> int:
        """Members of a generation."""
        return self.population

    @property
    def num_updates(self) -> int:
        """Generations of the whole run, at least one."""
        return max(self.total_steps // (self.num_envs * self.num_steps), 1)

    def check(self, env: Environment) -> None:
        """See `Algorithm`."""
        check_limits(self)
        if self.population % 2 or self.num_envs % self.population:
            raise ValueError(
                f"population: got {self.population}; allowed is an even divisor of num_envs = {self.num_envs}"
            )
        if self.network not in NETWORKS:
            raise ValueError(f"network: got {self.network!r}; allowed are {', '.join(NETWORKS)}")
        if self.reward not in env.reward_signals:
            raise ValueError(f"reward: got {self.reward!r}; allowed are {', '.join(env.reward_signals)}")
        optional("evosax.algorithms", "evolution")

    def init(self, env: Environment, key: Array, params: Params) -> Learner:
        """A mean among fresh episodes."""
        key, key_net, key_env, key_search = jax.random.split(key, 4)
        keys = jax.random.split(key_env, (self.population, self.num_envs // self.population))
        observation, env_state = over_envs(env.reset_staggered, (0, None))(keys, params)
        model = self.init_model(env, key_net)
        strategy = self._strategy(model.weights)
        return Learner(
            model=model.replace(statistics=running.update(model.statistics, env.unpack(observation))),
            optimiser=strategy.init(key_search, model.weights, strategy.default_params),
            env_state=env_state,
            key=key,
            updates=jnp.zeros((), jnp.int32),
        )

    def update(self, env: Environment, state: Learner, params: Params) -> tuple[Learner, Metrics]:
        """A generation: ask, play `num_steps` slots, tell."""
        key, key_ask, key_play, key_tell = jax.random.split(state.key, 4)
        strategy = self._strategy(state.model.weights)
        weights, search = strategy.ask(key_ask, state.optimiser, strategy.default_params)
        models = ActorCritic(weights, state.model.statistics)
        env_state, (returns, observation, metrics) = jax.lax.scan(
            partial(self._slot, env, models, params), state.env_state, jax.random.split(key_play, self.num_steps)
        )
        fitness = -jnp.mean(returns, axis=(0, 2))  # evosax minimises
        search, _ = strategy.tell(key_tell, weights, fitness, search, strategy.default_params)
        statistics = running.update(state.model.statistics, env.unpack(observation[-1]))
        state = state.replace(
            model=ActorCritic(strategy.get_mean(search), statistics),
            optimiser=search,
            env_state=env_state,
            key=key,
            updates=state.updates + 1,
        )
        return state, jax.tree.map(jnp.mean, metrics) | {"fitness": -jnp.mean(fitness)}

    def _slot(
        self, env: Environment, models: ActorCritic, params: Params, env_state: State, key: Array
    ) -> tuple[State, tuple[Array, Array, Metrics]]:
        """Every member in its environments, [M, E / M]."""
        observation = over_envs(env.observe, (0, None))(env_state, params)

        def act(weights: Any, observation: Array) -> Array:
            model = models.replace(weights=weights)
            return jnp.argmax(actor_critic.forward(env, self._network, model, observation)[0], axis=-1)

        action = jax.vmap(act)(models.weights, observation).astype(jnp.int32)
        keys = jax.random.split(key, observation.shape[:2])
        _, after, reward, _, _, info = over_envs(env.step, (0, 0, 0, None))(keys, env_state, action, params)
        signal = jax.vmap(jax.vmap(lambda *slot: env.reward_signal(self.reward, *slot)))
        metrics = over_envs(env.metrics, (0, 0, 0, None))(env_state, reward, info, params)
        returns = signal(observation, reward, info)
        return after, (returns, observation[:, 0], jax.tree.map(jnp.mean, metrics))

    def _strategy(self, weights: Any) -> Any:
        return optional("evosax.algorithms", "evolution").Open_ES(
            population_size=self.population,
            solution=weights,
            optimizer=optax.adam(self.learning_rate),
            std_schedule=lambda _: jnp.asarray(self.deviation, jnp.float32),
        )

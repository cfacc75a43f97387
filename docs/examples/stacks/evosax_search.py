"""evosax's CMA-ES over a linear score of every cut's features: six numbers that decide.

python docs/examples/stacks/evosax_search.py
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from common import arguments, judge, make_system
from evosax.algorithms import CMA_ES

POPULATION, NUM_ENVS = 16, 64


def main() -> None:
    """Search, and judge the mean."""
    options = arguments(slots=100_000)
    env, params = make_system()

    def act(weights, observation):
        views = env.unpack(observation)
        return jnp.argmax(jnp.where(views.mask, views.options @ weights, -jnp.inf), axis=-1).astype(jnp.int32)

    def cost(weights, states):
        """Mean logarithm of the slot objective: one policy at many states."""

        def one(state):
            return jnp.log(env.objective(state, act(weights, env.observe(state, params)), params))

        return jax.vmap(one)(states).mean()

    strategy = CMA_ES(population_size=POPULATION, solution=jnp.zeros(env.unpack(jnp.zeros(
        env.observation_space(params).shape)).options.shape[-1]))  # fmt: skip
    settings = strategy.default_params

    def generation(search, key):
        key_ask, key_reset, key_tell = jax.random.split(key, 3)
        population, search = strategy.ask(key_ask, search, settings)
        _, states = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, NUM_ENVS), params)
        fitness = jax.vmap(cost, (0, None))(population, states)  # everybody meets the same states
        search, _ = strategy.tell(key_tell, population, fitness, search, settings)
        return search, fitness.min()

    @jax.jit
    def run(key):
        key_init, key_run = jax.random.split(key)
        search = strategy.init(key_init, jnp.zeros_like(strategy.solution), settings)
        generations = max(options.slots // (POPULATION * NUM_ENVS), 1)
        return jax.lax.scan(generation, search, jax.random.split(key_run, generations))[0]

    weights = strategy.get_mean(run(jax.random.key(0)))
    judge("evosax", {"evosax CMA-ES, six weights": jax.vmap(lambda seen: act(weights, seen))}, options.built_in)


if __name__ == "__main__":
    main()

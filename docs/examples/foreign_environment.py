"""An environment of one's own: two drivers, three roads, and an optimum that is known.

    python docs/examples/foreign_environment.py

It is a plain dataclass with the methods of `jaxmec.environment.Environment`; it inherits nothing, and neither the
learner nor the evaluation knows of it. Every morning each driver's time on each road is drawn anew, and on some roads a
driver holds the other one up. Both are paid for the sum of their times, so the best road is the one of least time of
one's own and of the other together, which a learner has to find out from what it is paid.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmec import spaces
from jaxmec.agents import PPO, make_train
from jaxmec.evaluation import Comparison, EvaluationConfig, evaluate_policies
from jaxmec.observation import Views
from jaxmec.reporting.console import terminal


class Roads(NamedTuple):
    """The numbers of the system."""

    held_up_s: Array  # [3] what a driver on each road costs the other
    episode_slots: Array  # int32[]


class Morning(NamedTuple):
    """A slot."""

    slot: Array  # int32[]
    own_s: Array  # [2, 3] every driver's time on every road


@dataclasses.dataclass(frozen=True)
class TwoDrivers:
    """Two users, three options."""

    num_users: int = 2
    num_options: int = 3
    reward_signals: tuple[str, ...] = ("environment",)

    @property
    def default_params(self):
        return Roads(held_up_s=jnp.array([0.0, 0.25, 0.5]), episode_slots=jnp.asarray(20))

    def reset(self, key, params):
        state = Morning(jnp.zeros((), jnp.int32), jax.random.uniform(key, (2, 3)))
        return self.observe(state, params), state

    def reset_staggered(self, key, params):
        key_reset, key_slot = jax.random.split(key)
        observation, state = self.reset(key_reset, params)
        return observation, state._replace(slot=jax.random.randint(key_slot, (), 0, params.episode_slots))

    def step(self, key, state, action, params):
        key_step, key_reset = jax.random.split(key)
        observation, after, reward, terminated, info = self.step_env(key_step, state, action, params)
        truncated = after.slot >= params.episode_slots
        info["final_observation"] = observation
        choose = lambda fresh, old: jnp.where(truncated, fresh, old)  # noqa: E731
        observation, after = jax.tree.map(choose, self.reset(key_reset, params), (observation, after))
        return observation, after, reward, terminated, truncated, info

    def step_env(self, key, state, action, params):
        after = Morning(state.slot + 1, jax.random.uniform(key, (2, 3)))
        cost = self.objective(state, action, params)
        return self.observe(after, params), after, -cost, jnp.asarray(False), {"cost": cost}

    def observe(self, state, params):
        return jnp.concatenate([state.own_s, jnp.broadcast_to(params.held_up_s, (2, 3))], axis=1)

    def unpack(self, observation):
        options = jnp.stack(jnp.split(observation, 2, axis=-1), axis=-1)
        return Views(observation, options, jnp.ones(options.shape[:-1], bool))

    def action_mask(self, state, params):
        return jnp.ones((2, 3), bool)

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (2, 6))

    def reward_signal(self, name, observation, reward, info):
        return reward

    def objective(self, state, action, params):
        return jnp.sum(jnp.take_along_axis(state.own_s + params.held_up_s[None], action[:, None], axis=1))

    def lower_bound(self, state, params):
        return jnp.sum(jnp.min(state.own_s + params.held_up_s[None], axis=1))

    def metrics(self, state, reward, info, params):
        return {"reward": reward, "objective": info["cost"]}

    def budget_use(self, state, info, params):
        return {}


def selfish(key: Array, state: Morning, params: Roads) -> Array:
    """A policy of one's own: each driver takes the road that is fastest for itself."""
    return jnp.argmin(state.own_s, axis=1).astype(jnp.int32)


def main(total_steps: int = 100_000, num_envs: int = 256) -> Comparison:
    """Train PPO and compare what it has learned with `selfish` and with the optimum."""
    env = TwoDrivers()
    params = env.default_params
    algorithm = PPO(
        reward="environment",
        num_envs=num_envs,
        num_steps=4,
        num_epochs=2,
        num_minibatches=4,
        total_steps=total_steps,
        entropy_weight=0.01,
    )
    result = jax.jit(make_train(env, algorithm))(jax.random.key(0), params)
    policies = {"selfish": selfish, "learned": algorithm.policy(env, result.learner)}
    comparison = evaluate_policies(env, params, policies, EvaluationConfig(num_envs=16, reference="learned"))
    for table in comparison.tables():
        terminal(stderr=False).print(table)
    return comparison


if __name__ == "__main__":
    main()

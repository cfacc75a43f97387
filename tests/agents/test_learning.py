"""Whole runs on tiny environments whose best policy or value is known, and what a run promises."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec import spaces
from jaxmec.agents import PPO, Evolution, Imitation, WhiteBox, make_train
from jaxmec.agents.actor_critic import forward
from jaxmec.agents.algorithm import run_updates
from jaxmec.agents.networks import NETWORKS
from jaxmec.observation import Views

OPTIMISED = True  # without, gradients of these are NaN in JAX 0.10
SMALL = PPO(reward="environment", num_envs=32, num_steps=4, num_minibatches=2, total_steps=32 * 4 * 3, width=16)


class Mood(NamedTuple):
    slot: jax.Array  # int32[]
    happy: jax.Array  # [] 0 in an episode's first slot, 1 ever after


@dataclasses.dataclass(frozen=True)
class Twice:
    """One user whose options change nothing; a slot brings one in the second mood and nothing in the first.

    Episodes are cut off after three slots. With discount 1/2, being happy for ever is worth 2, and so the first mood
    0 + 1/2 * 2 = 1; if the end of an episode were its death, or led into the fresh one, both would be worth less.
    """

    reward_signals: tuple[str, ...] = ("environment",)

    def reset_staggered(self, key, params):
        slot = jax.random.randint(key, (), 0, 3)
        state = Mood(slot, (slot > 0).astype(float))
        return self.observe(state, params), state

    def observe(self, state, params):
        return state.happy.reshape(1, 1)

    def unpack(self, observation):
        options = jnp.zeros((*observation.shape[:-1], 2, 1))
        return Views(observation, options, jnp.ones(options.shape[:-1], bool))

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (1, 1))

    def step(self, key, state, action, params):
        truncated = state.slot >= 2
        after = Mood(jnp.where(truncated, 0, state.slot + 1), jnp.where(truncated, 0.0, 1.0))
        info = {"final_observation": jnp.ones((1, 1))}
        return self.observe(after, params), after, state.happy, jnp.asarray(False), truncated, info

    def reward_signal(self, name, observation, reward, info):
        return reward

    def metrics(self, state, reward, info, params):
        return {"reward": reward}


@dataclasses.dataclass(frozen=True)
class Bandit(Twice):
    """The option whose feature is the larger pays it."""

    def reset_staggered(self, key, params):
        state = jax.random.uniform(key, (2,))
        return self.observe(state, params), state

    def observe(self, state, params):
        return state[None]

    def unpack(self, observation):
        return Views(observation, observation[..., None], jnp.ones(observation.shape, bool))

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (1, 2))

    def step(self, key, state, action, params):
        observation, after = self.reset_staggered(key, params)
        info = {"final_observation": observation}
        return observation, after, state[action[0]], jnp.asarray(False), jnp.asarray(False), info


def test_values_with_a_discount_look_past_the_end_of_an_episode():
    env = Twice()
    algorithm = PPO(
        reward="environment", discount=0.5, num_envs=16, num_steps=4, num_minibatches=2, width=8,
        learning_rate=1e-2, total_steps=16 * 4 * 400,
    )  # fmt: skip
    learner = jax.jit(make_train(env, algorithm))(jax.random.key(0), None).learner
    observation = jnp.array([0.0, 1.0]).reshape(2, 1, 1)
    _, value = forward(env, NETWORKS["set"](width=8), learner.model, observation)
    np.testing.assert_allclose(value[:, 0], [1.0, 2.0], atol=0.05)


@pytest.mark.parametrize("num_epochs", [1, 3])
def test_every_epoch_takes_a_step_for_every_minibatch(num_epochs):
    algorithm = PPO(
        reward="environment", num_epochs=num_epochs, num_envs=16, num_steps=4, num_minibatches=2, width=8,
        total_steps=16 * 4 * 5, learning_rate=0.1, clip=0.05,
    )  # fmt: skip
    result = jax.jit(make_train(Twice(), algorithm))(jax.random.key(0), None)
    (count,) = (leaf for leaf in jax.tree.leaves(result.learner.optimiser) if leaf.dtype == jnp.int32)
    assert count == 5 * num_epochs * 2
    assert result.learner.updates == 5


def test_a_first_step_clips_nothing_and_later_epochs_do():
    clipped = {}
    for num_epochs in (1, 8):
        algorithm = PPO(
            reward="environment", num_epochs=num_epochs, num_envs=16, num_steps=4, num_minibatches=1, width=8,
            total_steps=16 * 4, learning_rate=0.1, clip=1e-3,
        )  # fmt: skip
        train = jax.jit(make_train(Bandit(), algorithm))
        clipped[num_epochs] = float(train(jax.random.key(0), None).metrics["clipped"][0])
    assert clipped[1] == 0  # the probabilities are still those of the draw
    assert clipped[8] > 0.3


def test_evolution_finds_the_better_of_two_options():
    pytest.importorskip("evosax")

    env = Bandit()
    algorithm = Evolution(
        reward="environment", num_envs=256, population=16, width=8, total_steps=256 * 4 * 60, learning_rate=0.05
    )
    with jax.numpy_rank_promotion("allow"):  # evosax relies on it
        result = jax.jit(make_train(env, algorithm))(jax.random.key(0), None)
    policy = algorithm.policy(env, result.learner)
    states = jax.random.uniform(jax.random.key(1), (400, 2))
    chosen = jax.vmap(policy, (None, 0, None))(None, states, None)[:, 0]
    assert (np.asarray(chosen) == np.asarray(states).argmax(axis=1)).mean() > 0.95
    np.testing.assert_allclose(result.metrics["fitness"], result.metrics["reward"], rtol=1e-5)
    assert result.metrics["reward"][-10:].mean() > 0.6  # a half is chance, two thirds the best


def test_seeds_and_rates_in_one_vmap_are_the_separate_runs():
    keys = jax.random.split(jax.random.key(0), 2)
    rates = jnp.array([1e-4, 0.1])

    def run(key, rate):
        algorithm = SMALL.replace(learning_rate=rate, total_steps=32 * 4 * 40)
        return make_train(Bandit(), algorithm)(key, None).metrics["reward"]

    together = jax.jit(jax.vmap(run))(keys, rates)
    single = jax.jit(run)
    apart = jnp.stack([single(key, rate) for key, rate in zip(keys, rates, strict=True)])
    np.testing.assert_allclose(together, apart, rtol=2e-3)
    assert together[1, -1] > together[0, -1] + 0.05  # the rate makes a difference


def test_updates_in_two_calls_are_those_of_one():
    env = Bandit()
    start = jax.jit(lambda key: SMALL.init(env, key, None))(jax.random.key(0))
    run = jax.jit(lambda learner, n: run_updates(env, SMALL, learner, None, n), static_argnums=1)
    whole, _ = run(start, 2)
    half, _ = run(start, 1)
    both, _ = run(half, 1)
    for a, b in zip(jax.tree.leaves(whole.model), jax.tree.leaves(both.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_minibatches": 3}, "num_minibatches: got 3; allowed is a divisor of num_envs = 32"),
        ({"num_envs": 0}, "num_envs: got 0; allowed is a number at least 1"),
        ({"network": "cnn"}, "network: got 'cnn'; allowed are set, mlp"),
        ({"reward": "praise"}, "reward: got 'praise'; allowed are environment"),
    ],
)
def test_wrong_settings_are_told_before_tracing(changes, message):
    with pytest.raises(ValueError, match=message):
        make_train(Bandit(), SMALL.replace(**changes))


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (WhiteBox(), "algorithm: got 'white_box' for Twice; allowed with a method `regret`"),
        (Evolution(population=3, num_envs=12), "population: got 3; allowed is an even divisor of num_envs = 12"),
        (Evolution(population=8, num_envs=12), "population: got 8; allowed is an even divisor of num_envs = 12"),
        (Evolution(reward="praise"), "reward: got 'praise'; allowed are environment"),
    ],
)
def test_wrong_learners_are_told_before_tracing(algorithm, message):
    with pytest.raises(ValueError, match=message):
        make_train(Twice(), algorithm)


def test_an_unknown_expert_is_told_before_tracing():
    with pytest.raises(ValueError, match="policy: got 'sage'; allowed are local_only"):
        make_train(jaxmec.make("coinfer4")[0], Imitation(expert="sage"))

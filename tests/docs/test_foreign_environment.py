"""An environment that the package does not know is trained and judged by the package's own code."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.agents import PPO, make_train
from jaxmec.agents.actor_critic import forward
from jaxmec.agents.networks import NETWORKS
from jaxmec.evaluation import objectives_at

OPTIMISED = True
EXAMPLES = Path(__file__).parents[2] / "docs/examples"


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        import foreign_environment

        yield foreign_environment
        sys.modules.pop("foreign_environment")


def test_it_owes_the_package_no_base_class(example):
    assert example.TwoDrivers.__mro__ == (example.TwoDrivers, object)


def test_ppo_reaches_the_optimum_and_the_evaluation_says_so(example, capsys):
    comparison = example.main()
    learned, selfish = comparison.objectives["learned"], comparison.objectives["selfish"]
    # The bound is the optimum, by hand: the least of own time and what the other loses, for either driver.
    own = np.asarray(comparison.states.own_s)
    np.testing.assert_allclose(
        comparison.bound, (own + np.array([0.0, 0.25, 0.5])).min(axis=-1).sum(axis=-1), rtol=1e-5
    )
    assert learned.mean() < 1.01 * comparison.bound.mean()
    assert selfish.mean() > 1.1 * comparison.bound.mean()  # the task is not trivial
    assert set(comparison.long_run["learned"].metrics) == {"reward", "objective"}
    assert comparison.long_run_bound is None
    assert "learned" in capsys.readouterr().out


def test_the_network_over_all_users_learns_and_acts_as_well(example):
    env = example.TwoDrivers()
    params = env.default_params
    algorithm = PPO(
        reward="environment", network="mlp", width=32, num_envs=256, num_steps=4, num_minibatches=4,
        total_steps=200_000, entropy_weight=0.01,
    )  # fmt: skip
    learner = jax.jit(make_train(env, algorithm))(jax.random.key(0), params).learner
    states = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), learner.env_state)
    policies = {"mlp": algorithm.policy(env, learner), "best of 4": algorithm.policy(env, learner, 4)}
    found = objectives_at(env, policies, jax.random.key(1), params, states)
    best = np.asarray(jax.vmap(env.lower_bound, (0, None))(states, params))
    assert found["mlp"].mean() < 1.05 * best.mean()
    assert (found["best of 4"] <= found["mlp"] + 1e-6).all()
    # It tells users apart: exchanged users need not get exchanged scores.
    observation = env.observe(jax.tree.map(lambda leaf: leaf[0], states), params)
    network = NETWORKS["mlp"](width=32)
    logits, _ = forward(env, network, learner.model, observation)
    exchanged, _ = forward(env, network, learner.model, observation[jnp.array([1, 0])])
    assert np.abs(np.asarray(logits)[::-1] - np.asarray(exchanged)).max() > 1e-3

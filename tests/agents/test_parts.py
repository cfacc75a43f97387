"""The learner's parts, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.agents import PPO, actor_critic, distribution, ppo, running
from jaxmec.agents.advantage import gae
from jaxmec.agents.gradient import Step
from jaxmec.agents.networks import NETWORKS
from jaxmec.observation import Views


def test_gae_by_hand_with_termination_and_truncation():
    # γ = .5, λ = .5; step 1 is truncated into a state worth 4, step 2 terminates, step 3 goes on
    advantage = gae(
        reward_t=jnp.array([1.0, 2.0, 3.0, 4.0]),
        value_t=jnp.array([0.5, 1.0, 1.5, 2.0]),
        value_tp1=jnp.array([1.0, 4.0, 9.0, 6.0]),
        terminated_t=jnp.array([False, False, True, False]),
        truncated_t=jnp.array([False, True, False, False]),
        discount=0.5,
        trace_decay=0.5,
    )
    # δ = 1, 3, 1.5, 5;  A3 = 5, A2 = 1.5, A1 = 3, A0 = 1 + .25 * 3
    np.testing.assert_allclose(advantage, [1.75, 3.0, 1.5, 5.0])


def test_clipping_acts_on_each_user_alone():
    ratio = jnp.array([1.5, 1.5, 0.5, 0.5])
    advantage = jnp.array([1.0, -1.0, 1.0, -1.0])
    np.testing.assert_allclose(ppo.clipped_gain(ratio, advantage, 0.2), [1.2, -1.5, 0.5, -0.8])


def test_masked_categorical_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25, 1.0]])).at[0, 3].set(-1e9)
    assert np.isclose(distribution.log_prob(logits, jnp.array([1]))[0], np.log(0.25))
    assert np.isclose(distribution.entropy(logits)[0], 1.5 * np.log(2))
    assert np.isfinite(jax.grad(lambda x: distribution.entropy(x).sum())(logits)).all()
    draws = jax.vmap(distribution.sample, (0, None))(jax.random.split(jax.random.key(0), 4000), logits)
    shares = np.bincount(np.asarray(draws).ravel(), minlength=4) / 4000
    assert (np.abs(shares - [0.5, 0.25, 0.25, 0]) < 4 * 0.5 / np.sqrt(4000)).all()
    assert shares[3] == 0


def test_running_statistics_are_those_of_all_users_and_of_the_options_that_exist():
    rng = np.random.default_rng(0)
    users, options = rng.normal(3.0, 2.0, (60, 4, 8)), rng.normal(-1.0, 0.5, (60, 4, 5, 6))
    mask = rng.random((60, 4, 5)) < 0.7
    options[..., 3] = 2.5  # never varies

    def views(part, number=5):
        return Views(
            jnp.asarray(users[part], jnp.float32),
            jnp.asarray(options[part][..., :number, :], jnp.float32),
            jnp.asarray(mask[part][..., :number]),
        )

    statistics = running.init(views(slice(None)))
    np.testing.assert_array_equal(
        running.normalise(statistics, views(slice(None))).users[..., 0], users[..., 0].astype("f4")
    )
    for part in (slice(0, 7), slice(7, 30), slice(30, 60)):
        statistics = running.update(statistics, views(part))
    rows, existing = users.reshape(-1, 8), options[mask]
    np.testing.assert_allclose(statistics.users.mean, rows.mean(0), rtol=1e-4)
    np.testing.assert_allclose(statistics.users.variance, rows.var(0), rtol=1e-3)
    np.testing.assert_allclose(statistics.options.mean, existing.mean(0), rtol=1e-4)
    np.testing.assert_allclose(statistics.options.variance, existing.var(0), rtol=1e-3, atol=1e-9)
    options[..., 3] = 9.0  # what never varied tells nothing, and any number of options is served
    scaled = running.normalise(statistics, views(slice(None), number=4))
    np.testing.assert_allclose(np.asarray(scaled.users).reshape(-1, 8).std(0), 1.0, rtol=1e-3)
    assert (np.asarray(scaled.options)[..., 3] == 0).all()
    expected = (options[..., :4, 1] - existing[:, 1].mean()) / existing[:, 1].std()
    np.testing.assert_allclose(scaled.options[..., 1], expected, atol=1e-3)


def views_of(num_users, num_options, key):
    key_users, key_options = jax.random.split(key)
    users = jax.random.normal(key_users, (num_users, 8))
    options = jax.random.normal(key_options, (num_users, num_options, 6))
    return Views(users, options, jnp.arange(num_options)[None] < 3 + jnp.arange(num_users)[:, None] % 2)


def test_set_network_is_equivariant_and_serves_any_number_of_users_and_options(key):
    network, views = NETWORKS["set"](width=16), views_of(4, 5, key)
    weights = network.init(jax.random.key(1), views)
    logits, values = network.apply(weights, views)
    order = jnp.array([2, 0, 3, 1])
    shuffled = Views(*(leaf[order] for leaf in views))
    shuffled_logits, shuffled_values = network.apply(weights, shuffled)
    np.testing.assert_allclose(shuffled_logits, logits[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(shuffled_values, values[order], rtol=1e-4, atol=1e-5)
    assert network.apply(weights, views_of(6, 7, key))[0].shape == (6, 7)
    assert (np.asarray(logits)[~np.asarray(views.mask)] < -1e8).all()
    assert np.abs(np.asarray(logits)[np.asarray(views.mask)]).max() < 1e8


def test_mlp_network_is_bound_to_one_shape(key):
    network, views = NETWORKS["mlp"](width=16), views_of(4, 5, key)
    weights = network.init(jax.random.key(1), views)
    logits, values = network.apply(weights, views)
    assert (logits.shape, values.shape) == ((4, 5), (4,))
    assert (np.asarray(logits)[~np.asarray(views.mask)] < -1e8).all()
    with pytest.raises(Exception, match="shape"):
        network.apply(weights, views_of(3, 5, key))


def test_bootstrap_is_the_value_of_the_final_observation():
    # One group of one environment, two slots: the first is cut off, and its fresh observation is another.
    env, _ = jaxmec.make("coinfer4")
    algorithm = PPO(num_envs=1, num_minibatches=1, width=8, discount=0.5, trace_decay=0.5, reward="environment")
    model = jax.jit(lambda key: algorithm.init_model(env, key))(jax.random.key(0))
    shape = env.observation_space(None).shape
    final, seen = jax.random.uniform(jax.random.key(1), (2, 1, 1, *shape), minval=0.6)

    def value(observation):
        network = NETWORKS["set"](width=8)
        return actor_critic.forward(env, network, model, observation)[1]

    def lesson(reward, truncated, discount=0.5):
        step = Step(
            state=None,
            observation=seen,
            logits=jnp.zeros((1, 1, env.num_users, env.num_cuts)),
            value=value(seen),
            action=jnp.zeros((1, 1, env.num_users), jnp.int32),
            reward=jnp.full((1, 1), reward),
            terminated=jnp.zeros((1, 1), bool),
            truncated=jnp.full((1, 1), truncated),
            info={"final_observation": final},
        )
        return algorithm.replace(discount=discount).lesson(env, model, step, None)

    first, second = lesson(1.0, True), lesson(2.0, False)
    np.testing.assert_allclose(first.value_tp1, value(final), rtol=1e-5)
    assert np.abs(np.asarray(value(final) - value(seen))).max() > 1e-3
    np.testing.assert_array_equal(lesson(1.0, True, discount=0.0).value_tp1, 0.0)
    batch = algorithm.batch(jax.tree.map(lambda *x: jnp.stack(x), first, second))
    # No trace crosses the cut: either advantage is its own temporal difference.
    for advantage, reward in zip(batch.advantage, (1.0, 2.0), strict=True):
        np.testing.assert_allclose(advantage, reward + 0.5 * value(final) - value(seen), rtol=1e-5)


def test_reward_signals_by_hand():
    env, params = jaxmec.make("coinfer4")
    observation = jax.jit(lambda key: env.reset(key, params)[0])(jax.random.key(0))
    info = {"objective": jnp.asarray(7.0)}
    assert env.reward_signals == ("objective", "environment")
    assert env.reward_signal("environment", observation, jnp.asarray(-3.0), info) == -3.0
    # Seconds and price of delay of every user's best cut are two of its features, in decades.
    expected = np.sum(10.0 ** np.asarray(observation[:, 7] + observation[:, 5], np.float64))
    found = env.reward_signal("objective", observation, jnp.asarray(-3.0), info)
    np.testing.assert_allclose(found, np.log(expected) - np.log(7.0), rtol=1e-4, atol=1e-4)

"""The learner's parts by hand, and whole runs on systems whose best policy is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxmec.features import CUT_FEATURES, USER_FEATURES

import jaxmec
from jaxmec.agents import PPOConfig, distribution, make_train, normalise, ppo
from jaxmec.agents.advantage import gae
from jaxmec.agents.networks import forward, make_network, valid_cuts
from jaxmec.delay import serial_delay
from jaxmec.policies import make_policy

SMALL = PPOConfig(num_envs=32, num_steps=4, num_minibatches=2, total_steps=32 * 4 * 3, width=16)


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


def test_running_moments_are_those_of_all_users_and_of_the_cuts_that_exist():
    rng = np.random.default_rng(0)
    num_user, num_cut = len(USER_FEATURES), len(CUT_FEATURES)
    users, cuts = rng.normal(3.0, 2.0, (60, 4, num_user)), rng.normal(-1.0, 0.5, (60, 4, 5, num_cut))
    cuts[..., 0] = rng.random((60, 4, 5)) < 0.7
    cuts[..., 3] = 2.5  # never varies
    rows = np.concatenate([users, cuts.reshape(60, 4, 5 * num_cut)], axis=-1)
    moments = normalise.init()
    for part in np.split(rows, [7, 30]):
        moments = normalise.update(moments, jnp.asarray(part, jnp.float32))
    users, existing = users.reshape(-1, num_user), cuts[cuts[..., 0] == 1]
    np.testing.assert_allclose(moments.mean, [*users.mean(0), *existing.mean(0)], rtol=1e-4)
    np.testing.assert_allclose(moments.variance, [*users.var(0), *existing.var(0)], rtol=1e-3, atol=1e-9)
    rows[..., num_user + 3 :: num_cut] = 9.0  # what never varied tells nothing, and any number of cuts is served
    scaled = np.asarray(normalise.apply(moments, jnp.asarray(rows[..., :-num_cut], jnp.float32)))
    np.testing.assert_allclose(scaled[..., :num_user].reshape(-1, num_user).std(0), 1.0, rtol=1e-3)
    assert (scaled[..., num_user + 3 :: num_cut] == 0).all()
    expected = (cuts[..., 0, 1] - existing[:, 1].mean()) / existing[:, 1].std()
    np.testing.assert_allclose(scaled[..., num_user + 1], expected, atol=1e-3)


def test_set_network_is_equivariant_and_serves_any_number_of_users():
    env, params = jaxmec.make("coinfer4")
    network = make_network("set", env.num_cuts, 16)
    obs, _ = env.reset(jax.random.key(0), params)
    weights = network.init(jax.random.key(1), obs, valid_cuts(obs, env.num_cuts))

    def act(obs):
        return network.apply(weights, obs, valid_cuts(obs, env.num_cuts))

    logits, values = act(obs)
    order = jnp.array([2, 0, 3, 1])
    shuffled_logits, shuffled_values = act(obs[order])
    np.testing.assert_allclose(shuffled_logits, logits[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(shuffled_values, values[order], rtol=1e-4, atol=1e-5)
    assert act(jnp.concatenate([obs, obs[:2]]))[0].shape == (6, env.num_cuts)
    assert (np.asarray(logits)[~np.asarray(valid_cuts(obs, env.num_cuts))] < -1e8).all()


@pytest.mark.parametrize("teacher", ["objective", "regret"])
def test_a_run_approaches_the_exhaustive_optimum(teacher):
    # One user has no one to share with: the best cut is a function of its own observation.
    env, params = jaxmec.make("coinfer10", num_users=1, radio={"bandwidth_hz": 2e6})
    config = PPOConfig(
        num_envs=256, num_minibatches=4, total_steps=256 * 100, width=16,
        teacher=teacher,
    )  # fmt: skip
    result = jax.jit(make_train(env, config))(jax.random.key(0), params)
    metrics = result.metrics
    assert all(np.isfinite(value).all() for value in metrics.values())
    network = make_network(config.network, env.num_cuts, config.width)
    learner = result.learner
    states = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), learner.env_state)
    observation = jax.vmap(env.observe, (0, None))(states, params)
    mask = valid_cuts(observation, env.num_cuts)
    cuts = jnp.argmax(forward(network, learner.moments, learner.params, observation)[0], axis=-1)
    keys = jax.random.split(jax.random.key(1), config.num_envs)
    best = jax.vmap(make_policy("exhaustive", env), (0, 0, None))(keys, states, params)

    def objective(state, cut):
        return ppo_objective(env, state, cut, params)

    learned, optimum, local = (np.asarray(jax.vmap(objective)(states, c)) for c in (cuts, best, mask.sum(-1) - 1))
    assert learned.mean() < 1.03 * optimum.mean()
    assert local.mean() > 1.2 * optimum.mean()  # the task is not trivial


def ppo_objective(env, state, cut, params):
    return env.step_env(jax.random.key(0), state, cut, params)[4]["objective"]


def test_regret_is_what_a_cut_costs_more_at_given_prices():
    # By hand: the least cost plus rent over a grid of shares, which may exceed one where only prices limit them.
    env, params = jaxmec.make("coinfer10", num_users=1)
    _, state = env.reset(jax.random.key(0), params)
    prices = 1.5, 0.8
    regret = jax.jit(lambda state: ppo._regret(env, state, params, *map(jnp.asarray, prices)))(state)[0]
    p = jax.tree.map(lambda leaf: np.asarray(leaf, float)[..., None, None, None], env.cut_problems(state, params))
    own = np.geomspace(0.02, 1, 60)[:, None, None]
    band, server = np.geomspace(0.02, 2, 80)[:, None], np.geomspace(0.02, 2, 80)
    requests = p.slot_s * p.arrival_rate_hz
    times = np.broadcast_arrays(
        p.device_work_s[0] / own,
        p.uplink_bits[0] / (p.bandwidth_hz * band * np.log2(1 + p.snr / band)),
        p.server_work_s[0] / server,
    )
    delay_s = np.asarray(serial_delay(jnp.stack(times, -1), jnp.broadcast_to(requests, times[0].shape), 0.9))
    cost = p.delay_price * delay_s + prices[0] * band * (p.uplink_bits[0] > 0)
    cost = cost + prices[1] * server * (p.server_work_s[0] > 0)
    mask = np.asarray(env.action_mask(state, params))[0]
    least = cost.min(axis=(1, 2, 3))[mask]
    np.testing.assert_allclose(regret[mask], least / least.min() - 1, rtol=5e-3, atol=5e-3)
    assert (np.asarray(regret)[~mask] == 0).all()


def test_seeds_and_rates_in_one_vmap_are_the_separate_runs():
    env, params = jaxmec.make("coinfer4")
    keys = jax.random.split(jax.random.key(0), 2)
    rates = jnp.array([1e-3, 1e-2])

    def run(key, rate):
        return make_train(env, SMALL.replace(learning_rate=rate))(key, params).metrics["objective"]

    together = jax.jit(jax.vmap(run))(keys, rates)
    single = jax.jit(run)
    apart = jnp.stack([single(key, rate) for key, rate in zip(keys, rates, strict=True)])
    np.testing.assert_allclose(together, apart, rtol=2e-3)


def test_updates_in_two_calls_are_those_of_one():
    env, params = jaxmec.make("coinfer4")
    start = ppo.init(env, SMALL, jax.random.key(0), params)
    run = jax.jit(lambda learner, n: ppo.run_updates(env, SMALL, learner, params, n), static_argnums=1)
    whole, _ = run(start, 2)
    half, _ = run(start, 1)
    both, _ = run(half, 1)
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(both.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_minibatches": 3}, "num_minibatches: got 3; allowed is a divisor of num_envs = 32"),
        ({"num_envs": 0}, "num_envs: got 0; allowed is at least 1"),
        ({"network": "cnn"}, "network: got 'cnn'; allowed are set, mlp"),
        ({"teacher": "praise"}, "teacher: got 'praise'; allowed are objective, environment, regret"),
    ],
)
def test_wrong_settings_are_told_before_tracing(changes, message):
    with pytest.raises(ValueError, match=message):
        make_train(jaxmec.make("coinfer4")[0], SMALL.replace(**changes))

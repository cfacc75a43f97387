"""Policies: rules by their definition, searches against exhaustive enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.allocation import allocate
from jaxmec.policies import make_policy, policy_names

NUM_STATES = 16


@pytest.fixture(scope="module")
def system():
    """Three users with few cuts: small enough to enumerate in the test."""
    env, params = jaxmec.make("coinfer10", num_users=3)
    _, states = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), NUM_STATES), params)
    rng = np.random.default_rng(0)
    queues = jnp.asarray(rng.uniform(0, 20, (NUM_STATES, 3)), states.device_queue.dtype)
    return (
        env,
        params,
        states.replace(device_queue=queues, server_queue=jnp.full_like(states.server_queue, 5.0)),
    )


def decide(system, name):
    env, params, states = system
    policy = make_policy(name, env)
    keys = jax.random.split(jax.random.key(1), NUM_STATES)
    return jax.jit(jax.vmap(policy, (0, 0, None)))(keys, states, params)


@pytest.fixture(scope="module")
def enumeration(system):
    """Objective [states, combinations] of every combination of cuts, infinite where one is not valid."""
    env, params, states = system
    combinations = jnp.asarray(list(itertools.product(range(env.num_cuts), repeat=3)), jnp.int32)

    def objective(state, cuts):
        valid = jnp.take_along_axis(env.action_mask(state, params), cuts[:, None], axis=-1).all()
        return jnp.where(valid, allocate(env.slot_problem(state, cuts, params)).objective, jnp.inf)

    values = jax.jit(jax.vmap(jax.vmap(objective, (None, 0)), (0, None)))(states, combinations)
    return np.asarray(combinations), np.asarray(values)


def objectives(system, cuts):
    env, params, states = system
    return np.asarray(
        jax.jit(jax.vmap(lambda s, c: allocate(env.slot_problem(s, c, params)).objective))(states, cuts)
    )


@pytest.mark.parametrize("name", policy_names())
def test_cuts_are_valid(system, name):
    env, params, states = system
    cuts = decide(system, name)
    assert cuts.shape == (NUM_STATES, 3)
    assert jnp.issubdtype(cuts.dtype, jnp.integer)
    mask = jax.vmap(env.action_mask, (0, None))(states, params)
    assert jnp.take_along_axis(mask, cuts[..., None], axis=-1).all()


def test_fixed_rules_send_everything_or_nothing(system):
    env, params, states = system
    edge, local = (
        jax.vmap(env.slot_problem, (0, 0, None))(states, decide(system, name), params)
        for name in ("edge_only", "local_only")
    )
    assert (edge.device_work_s == 0).all()
    assert (edge.uplink_bits == 8 * 150_528).all()
    assert (local.uplink_bits == 0).all()
    assert (local.server_work_s == 0).all()


def test_random_draws_every_valid_cut_alike(system):
    env, params, states = system
    state = jax.tree.map(lambda x: x[0], states)
    keys = jax.random.split(jax.random.key(2), 4000)
    cuts = np.asarray(jax.vmap(make_policy("random", env), (0, None, None))(keys, state, params))
    valid = int(env.action_mask(state, params)[0].sum())
    shares = np.bincount(cuts[:, 0], minlength=env.num_cuts) / 4000
    assert (np.abs(shares[:valid] - 1 / valid) < 4 * np.sqrt(1 / valid / 4000)).all()
    assert shares[valid:].sum() == 0


def test_greedy_takes_the_fewest_seconds_at_an_equal_share(system):
    env, params, states = system
    cuts = np.asarray(decide(system, "greedy"))
    for s in range(NUM_STATES):
        problem = env.cut_problems(jax.tree.map(lambda x, s=s: x[s], states), params)
        rate = np.asarray(problem.bandwidth_hz) / 3 * np.log2(1 + 3 * np.asarray(problem.snr, np.float64))
        seconds = problem.device_work_s + problem.uplink_bits / rate[:, None] + 3 * problem.server_work_s
        valid = env.action_mask(jax.tree.map(lambda x, s=s: x[s], states), params)
        seconds = np.where(valid, seconds, np.inf)
        chosen = np.take_along_axis(seconds, cuts[s][:, None], axis=-1)[:, 0]
        np.testing.assert_allclose(chosen, seconds.min(axis=-1), rtol=1e-5)


def test_exhaustive_finds_the_best_of_all_combinations(system, enumeration):
    _, values = enumeration
    np.testing.assert_allclose(objectives(system, decide(system, "exhaustive")), values.min(axis=1), rtol=1e-5)


def test_nobody_gains_by_leaving_a_best_response(system, enumeration):
    combinations, values = enumeration
    cuts = np.asarray(decide(system, "best_response"))
    for s in range(NUM_STATES):
        here = (combinations == cuts[s]).all(axis=1)
        one_flip = (combinations != cuts[s]).sum(axis=1) == 1
        assert values[s][here][0] <= values[s][one_flip].min() * (1 + 5e-5)


def test_exhaustive_refuses_large_systems():
    env, _ = jaxmec.make("coinfer10")
    with pytest.raises(ValueError, match="exhaustive: .* cuts of 10 users are .* allowed are at most"):
        make_policy("exhaustive", env)


def test_an_unknown_policy_lists_the_known_ones(system):
    with pytest.raises(ValueError, match="policy: got 'clever'; allowed are local_only"):
        make_policy("clever", system[0])

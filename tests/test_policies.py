"""Policies: rules by their definition, searches against exhaustive enumeration."""

import functools
import importlib
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.agents import PPO, Learner, RunConfig
from jaxmec.agents.run import save_checkpoint, write_config
from jaxmec.config import ConfigError
from jaxmec.policies import best_of, make_policy, policy_names
from jaxmec.policies.static import fit_static, load_table, lookup, save_table

NUM_STATES = 16


@pytest.fixture(scope="module")
def system():
    """Three users with few cuts: small enough to enumerate in the test."""
    env, params = jaxmec.make("coinfer10", num_users=3)
    states = jax.jit(jax.vmap(lambda key: env.reset(key, params)[1]))(
        jax.random.split(jax.random.key(0), NUM_STATES)
    )
    rng = np.random.default_rng(0)
    queues = jnp.asarray(rng.uniform(0, 20, (NUM_STATES, 3)), states.device_queue.dtype)
    return (
        env,
        params,
        states.replace(device_queue=queues, server_queue=jnp.full_like(states.server_queue, 5.0)),
    )


@pytest.fixture(scope="module")
def decide(system):
    """The cuts of a policy at all states, by name; each policy is compiled once."""
    env, params, states = system
    keys = jax.random.split(jax.random.key(1), NUM_STATES)

    @functools.cache
    def cuts_of(name):
        return jax.jit(jax.vmap(make_policy(name, env), (0, 0, None)))(keys, states, params)

    with pytest.MonkeyPatch.context() as patch:  # the table's fit need not be good here
        patch.setattr(importlib.import_module("jaxmec.policies.static"), "POPULATIONS", 8)
        patch.setattr(importlib.import_module("jaxmec.policies.static"), "ASCENT_SLOTS", 20)
        yield cuts_of


@pytest.fixture(scope="module")
def enumeration(system):
    """Objective [states, combinations] of every combination of cuts, infinite where one is not valid."""
    env, params, states = system
    combinations = jnp.asarray(list(itertools.product(range(env.num_cuts), repeat=3)), jnp.int32)

    def objective(state, cuts):
        valid = jnp.take_along_axis(env.action_mask(state, params), cuts[:, None], axis=-1).all()
        return jnp.where(valid, env.objective(state, cuts, params), jnp.inf)

    values = jax.jit(jax.vmap(jax.vmap(objective, (None, 0)), (0, None)))(states, combinations)
    return np.asarray(combinations), np.asarray(values)


@pytest.mark.parametrize("name", policy_names())
def test_cuts_are_valid(system, decide, name):
    env, params, states = system
    cuts = decide(name)
    assert cuts.shape == (NUM_STATES, 3)
    assert jnp.issubdtype(cuts.dtype, jnp.integer)
    mask = jax.vmap(env.action_mask, (0, None))(states, params)
    assert jnp.take_along_axis(mask, cuts[..., None], axis=-1).all()


def test_fixed_rules_send_everything_or_nothing(system, decide):
    env, params, states = system
    edge, local = (
        jax.vmap(env.slot_problem, (0, 0, None))(states, decide(name), params)
        for name in ("edge_only", "local_only")
    )
    assert (edge.device_work_s == 0).all()
    assert (edge.uplink_bits == 8 * 150_528).all()
    assert (local.uplink_bits == 0).all()
    assert (local.server_work_s == 0).all()


def test_the_best_of_several_rules_is_the_best_one_in_every_state(system, decide, enumeration):
    env, params, states = system
    combinations, values = enumeration
    names = ("edge_only", "greedy", "closed_form")
    best = best_of(env, [make_policy(name, env) for name in names])
    cuts = np.asarray(jax.jit(jax.vmap(best, (None, 0, None)))(jax.random.key(0), states, params))
    place = {tuple(row): number for number, row in enumerate(combinations.tolist())}
    winners = set()
    for state in range(NUM_STATES):
        costs = [values[state, place[tuple(np.asarray(decide(name))[state].tolist())]] for name in names]
        winners.add(int(np.argmin(costs)))
        assert values[state, place[tuple(cuts[state].tolist())]] == pytest.approx(min(costs), rel=1e-6)
    assert len(winners) > 1
    with pytest.raises(ValueError, match="policies: got none; allowed is at least one"):
        best_of(env, [])


def test_random_draws_every_valid_cut_alike(system):
    env, params, states = system
    state = jax.tree.map(lambda x: x[0], states)
    keys = jax.random.split(jax.random.key(2), 4000)
    cuts = np.asarray(jax.vmap(make_policy("random", env), (0, None, None))(keys, state, params))
    valid = int(env.action_mask(state, params)[0].sum())
    shares = np.bincount(cuts[:, 0], minlength=env.num_cuts) / 4000
    assert (np.abs(shares[:valid] - 1 / valid) < 4 * np.sqrt(1 / valid / 4000)).all()
    assert shares[valid:].sum() == 0


def test_greedy_takes_the_fewest_seconds_at_an_equal_share(system, decide):
    env, params, states = system
    cuts = np.asarray(decide("greedy"))
    for s in range(NUM_STATES):
        problem = env.cut_problems(jax.tree.map(lambda x, s=s: x[s], states), params)
        rate = np.asarray(problem.bandwidth_hz) / 3 * np.log2(1 + 3 * np.asarray(problem.snr, np.float64))
        seconds = problem.device_work_s + problem.uplink_bits / rate[:, None] + 3 * problem.server_work_s
        valid = env.action_mask(jax.tree.map(lambda x, s=s: x[s], states), params)
        seconds = np.where(valid, seconds, np.inf)
        chosen = np.take_along_axis(seconds, cuts[s][:, None], axis=-1)[:, 0]
        np.testing.assert_allclose(chosen, seconds.min(axis=-1), rtol=1e-5)


def reached(enumeration, cuts):
    """The enumeration's objective of cuts [states, 3]."""
    combinations, values = enumeration
    here = (combinations[None] == np.asarray(cuts)[:, None]).all(axis=-1)
    assert (here.sum(axis=1) == 1).all()
    return values[here]


def test_exhaustive_finds_the_best_of_all_combinations(decide, enumeration):
    _, values = enumeration
    np.testing.assert_allclose(reached(enumeration, decide("exhaustive")), values.min(axis=1), rtol=1e-5)


def test_nobody_gains_by_leaving_a_best_response(decide, enumeration):
    combinations, values = enumeration
    cuts = np.asarray(decide("best_response"))
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


def test_once_searches_in_the_first_slot_and_keeps_what_runs(system, decide):
    env, params, states = system
    policy = make_policy("once", env)
    np.testing.assert_array_equal(decide("once"), decide("best_response"))  # nothing has run yet
    ran = jnp.tile(jnp.array([1, 0, 2], jnp.int32), (NUM_STATES, 1))
    keys = jax.random.split(jax.random.key(1), NUM_STATES)
    kept = jax.jit(jax.vmap(policy, (0, 0, None)))(keys, states.replace(cuts=ran), params)
    np.testing.assert_array_equal(kept, ran)
    assert policy.own_trajectory_only


def test_no_entry_of_a_fitted_table_can_be_bettered_alone(system, enumeration):
    env, params, states = system
    table = fit_static(env, params, states)
    network, device = np.asarray(states.network), np.asarray(states.device)
    valid = np.asarray(params.valid_cut)

    def cost(table):
        return reached(enumeration, table[network, device]).mean()

    for m, d in np.ndindex(table.shape):
        for cut in np.flatnonzero(valid[m]):
            changed = table.copy()
            changed[m, d] = cut
            assert cost(table) <= cost(changed) * (1 + 1e-5)
    np.testing.assert_array_equal(
        jax.vmap(lookup(table), (None, 0, None))(jax.random.key(0), states, params), table[network, device]
    )


def test_a_fitted_table_is_the_best_of_all(system, enumeration):
    env, params, states = system
    network, device = np.asarray(states.network), np.asarray(states.device)
    kinds = network * params.device_work_s.shape[1] + device
    # Two states whose users share kinds, so that tables of every kind's cuts can be counted through.
    first, second = min(
        itertools.combinations(range(NUM_STATES), 2), key=lambda pair: len(np.unique(kinds[list(pair)]))
    )
    found = np.unique(kinds[[first, second]])
    assert 2 <= len(found) <= 4
    cuts = np.array(list(itertools.product(range(env.num_cuts), repeat=len(found))))
    weights = env.num_cuts ** np.arange(env.num_users)[::-1]  # of the enumeration's order
    _, values = enumeration
    costs = np.mean(
        [values[s][cuts[:, np.searchsorted(found, kinds[s])] @ weights] for s in (first, second)], axis=0
    )
    table = fit_static(env, params, jax.tree.map(lambda leaf: leaf[np.array([first, second])], states))
    best = cuts[np.argmin(costs)]
    np.testing.assert_array_equal(table.reshape(-1)[found], best)


def test_a_table_survives_its_file_and_wrong_files_are_told(tmp_path):
    table = np.array([[0, 2], [3, 1]], np.int32)
    save_table(tmp_path / "table.json", table, ["a", "b"], ["x", "y"])
    np.testing.assert_array_equal(load_table(tmp_path / "table.json", ["b", "a"], ["y"]), [[1], [2]])
    names = {"network_names": ("a", "b"), "device_names": ("x", "y")}
    policy = make_policy(tmp_path / "table.json", types.SimpleNamespace(**names))
    np.testing.assert_array_equal(policy.table, table)
    with pytest.raises(ConfigError, match=r"table.json: no cut for c on x"):
        load_table(tmp_path / "table.json", ["c"], ["x"])
    (tmp_path / "wrong.json").write_text('{"a": {"x": -1}}')
    with pytest.raises(ConfigError, match=r"a.x: got -1; allowed is a whole number at least 0"):
        load_table(tmp_path / "wrong.json", ["a"], ["x"])


def test_a_run_folder_is_a_policy(system, tmp_path):
    env, params, states = system
    algorithm = PPO(num_envs=4, num_minibatches=1, width=8)
    model = jax.jit(lambda key: algorithm.init_model(env, key))(jax.random.key(0))
    learner = Learner(model, (), jnp.zeros(()), jax.random.key(0), jnp.zeros((), jnp.int32))
    write_config(tmp_path, RunConfig("coinfer10", algorithm=algorithm))
    save_checkpoint(tmp_path, learner)
    state = jax.tree.map(lambda x: x[0], states)
    expected = algorithm.policy(env, learner)(None, state, params)
    np.testing.assert_array_equal(make_policy(tmp_path, env)(None, state, params), expected)
    np.testing.assert_array_equal(make_policy(str(tmp_path), env)(None, state, params), expected)
    with pytest.raises(ValueError, match=r"config.yaml: cannot be read"):
        make_policy(tmp_path / "checkpoints", env)

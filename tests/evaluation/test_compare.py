"""Evaluation: common random numbers, metrics by hand, and files."""

import csv

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec.evaluation import EvaluationConfig, evaluate_policies, mean_and_interval
from jaxmec.policies import make_policy

CONFIG = EvaluationConfig(num_envs=4, num_slots=12, state_every=4)


@pytest.fixture(scope="module")
def report():
    env, params = jaxmec.make("coinfer4")
    policies = {name: make_policy(name, env) for name in ("local_only", "edge_only", "best_response")}
    return env, params, evaluate_policies(env, params, policies, CONFIG)


def test_every_policy_meets_the_same_populations_and_channels(report):
    _, _, result = report
    one, other = (result.long_run[name].states for name in ("local_only", "best_response"))
    np.testing.assert_array_equal(one.network, other.network)
    np.testing.assert_array_equal(one.fading, other.fading)
    np.testing.assert_array_equal(one.workload.level, other.workload.level)


def test_cut_shares_are_those_of_the_rules_and_counts_add_up(report):
    env, _, result = report
    local, edge = result.long_run["local_only"], result.long_run["edge_only"]
    assert (local.metrics["local"] == 1).all()
    assert (edge.metrics["edge"] == 1).all()
    for run in result.long_run.values():
        shares = run.metrics["edge"] + run.metrics["middle"] + run.metrics["local"]
        np.testing.assert_allclose(shares, 1, rtol=1e-6)
        assert run.cut_counts.sum() == 4 * 12 * env.num_users
    assert edge.cut_counts[..., 1:].sum() == 0


def test_energy_over_budget_is_what_the_queues_say(report):
    # While a queue never empties, it has grown by the excess alone.
    _, _, result = report
    run = result.long_run["local_only"]
    z = np.asarray(run.states.device_queue)  # [E, T, N]
    grown = z[:, -1] - z[:, 1]
    assert (grown[(z[:, 1:] > 0).all(axis=1)] >= -10).all()
    assert np.isclose(run.curves["device_queue"][-2], z[:, -1].mean(), rtol=1e-5)


def test_same_states_are_the_references_every_fourth_slot(report):
    _, _, result = report
    assert result.states.slot.shape == (4 * 3,)
    np.testing.assert_array_equal(result.states.slot, np.tile([3, 7, 11], 4))
    for values in result.objectives.values():
        assert (values >= result.bound * (1 - 1e-5)).all()
    best = result.objectives["best_response"]
    at_slots = np.asarray(result.long_run["best_response"].states.slot)[:, 3::4]
    assert at_slots.size == best.size


def test_the_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(1.0, 2.0, (2000, 64))
    covered = [abs(mean - 1.0) <= half for mean, half in map(mean_and_interval, draws)]
    assert 0.93 < np.mean(covered) < 0.97


def test_files_hold_the_tables(report, tmp_path):
    _, _, result = report
    result.save(tmp_path)
    with (tmp_path / "same_states.csv").open(newline="") as file:
        rows = {row["policy"]: row for row in csv.DictReader(file)}
    assert float(rows["best_response"]["mean_over_reference"]) == 1.0
    expected = np.mean(result.objectives["edge_only"] / result.bound) - 1
    assert np.isclose(float(rows["edge_only"]["certified_gap_mean"]), expected)
    with (tmp_path / "long_run.csv").open(newline="") as file:
        assert {row["policy"] for row in csv.DictReader(file)} == {"local_only", "edge_only", "best_response"}


def test_a_reference_that_does_not_run_is_told(report):
    env, params, _ = report
    with pytest.raises(ValueError, match="reference: got 'best_response'; allowed are local_only"):
        evaluate_policies(env, params, {"local_only": make_policy("local_only", env)}, CONFIG)


def test_the_seed_decides():
    env, params = jaxmec.make("coinfer4")
    policies = {"best_response": make_policy("edge_only", env)}
    first, again = (evaluate_policies(env, params, policies, CONFIG) for _ in range(2))
    for name, values in first.long_run["best_response"].metrics.items():
        np.testing.assert_array_equal(values, again.long_run["best_response"].metrics[name])
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first.states, again.states))

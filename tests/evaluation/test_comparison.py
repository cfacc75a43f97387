"""Comparisons: common random numbers, metrics and queues by hand, and files."""

import csv
import dataclasses

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec import long_run
from jaxmec.evaluation import EvaluationConfig, Slots, evaluate_policies
from jaxmec.policies import make_policy
from jaxmec.reporting.figures.comparison import cut_counts, save_all

CONFIG = EvaluationConfig(num_envs=4, num_slots=12, state_every=4, ascent_slots=100)


@pytest.fixture(scope="module")
def system():
    env, params = jaxmec.make("coinfer4")
    policies = {name: make_policy(name, env) for name in ("local_only", "edge_only", "once", "best_response")}
    return env, params, policies, Slots(env, policies)


@pytest.fixture(scope="module")
def report(system):
    env, params, policies, slots = system
    return env, params, policies, evaluate_policies(env, params, policies, CONFIG, slots=slots)


def test_every_policy_meets_the_same_populations_and_channels(report):
    *_, result = report
    one, other = (result.long_run[name].states for name in ("local_only", "best_response"))
    np.testing.assert_array_equal(one.network, other.network)
    np.testing.assert_array_equal(one.channel.fading, other.channel.fading)
    np.testing.assert_array_equal(one.workload, other.workload)


def test_cut_shares_are_those_of_the_rules_and_counts_add_up(report):
    env, _, _, result = report
    local, edge = result.long_run["local_only"], result.long_run["edge_only"]
    assert (local.metrics["local"] == 1).all()
    assert (edge.metrics["edge"] == 1).all()
    for run in result.long_run.values():
        shares = run.metrics["edge"] + run.metrics["middle"] + run.metrics["local"]
        np.testing.assert_allclose(shares, 1, rtol=1e-6)
        counts = cut_counts(run, len(env.network_names), len(env.device_names))
        assert counts.sum() == 4 * 12 * env.num_users
    assert cut_counts(edge, len(env.network_names), len(env.device_names))[..., 1:].sum() == 0


def test_queues_follow_their_recursion_from_slot_to_slot(report):
    env, params, _, result = report

    @jax.jit
    @jax.vmap
    @jax.vmap
    def use_of(state, action):
        outcome = env.decide(state, action, params).outcome
        device = outcome.device_energy_j / env.device_budget_j(state, params)
        return device, outcome.server_energy_j / params.server_budget_j, outcome.delay_s

    for name in ("local_only", "best_response"):
        run = result.long_run[name]
        device, server, delay_s = (np.asarray(x, np.float64) for x in use_of(run.states, run.actions))
        for queue, use in ((run.states.device_queue, device), (run.states.server_queue, server)):
            queue = np.asarray(queue, np.float64)
            expected = np.maximum(queue[:, :-1] + use[:, :-1] - 1.0, 0.0)
            np.testing.assert_allclose(queue[:, 1:], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(run.use["device_energy"], device.mean(axis=1), rtol=1e-4)
        np.testing.assert_allclose(run.metrics["delay_s"], delay_s.mean(axis=(1, 2)), rtol=1e-4)
        excess = np.maximum(device.mean(axis=1) - 1.0, 0.0).mean(axis=-1)
        np.testing.assert_allclose(run.metrics["device_energy_excess"], excess, rtol=1e-3, atol=1e-5)
        binding = (device[:, 6:].mean(axis=1) >= 0.95).mean(axis=-1)
        np.testing.assert_allclose(run.metrics["device_energy_binding"], binding)
        curve = np.asarray(run.states.device_queue).mean(axis=(0, 2))
        np.testing.assert_allclose(run.curves["device_queue"], curve, rtol=1e-5, atol=1e-6)


def test_same_states_are_the_references_every_fourth_slot(report):
    *_, result = report
    every = np.asarray(result.long_run["best_response"].states.device_queue)
    np.testing.assert_array_equal(result.states.device_queue, every[:, 3::4].reshape(-1, every.shape[-1]))
    assert result.bound.shape == (4 * 3,)
    assert set(result.objectives) == {"local_only", "edge_only", "best_response"}  # once knows its own states only
    for values in result.objectives.values():
        assert (values >= result.bound * (1 - 1e-5)).all()


def test_at_equal_energy_nothing_is_below_the_bound(report):
    *_, result = report
    for run in result.long_run.values():
        assert (run.metrics["equal_energy"] >= result.long_run_bound * (1 - 1e-5)).all()
        by_hand = (run.metrics["equal_energy"] - result.long_run_bound) / result.long_run_bound.mean()
        np.testing.assert_allclose(run.metrics["long_run_gap"], by_hand)
    gaps = {name: run.metrics["long_run_gap"].mean() for name, run in result.long_run.items()}
    assert gaps["best_response"] < gaps["local_only"]


def test_a_start_that_is_known_is_not_looked_for(system, report, monkeypatch):
    env, params, policies, slots = system
    *_, result = report
    start = long_run.ascend(env, CONFIG.keys()[0], params, CONFIG.num_envs, CONFIG.ascent_slots)
    monkeypatch.setattr(long_run, "ascend", None)
    one = {"edge_only": policies["edge_only"]}
    again = evaluate_policies(env, params, one, CONFIG, slots=slots, start=start).long_run["edge_only"].metrics
    for name in ("delay_s", "device_queue", "long_run_gap"):
        np.testing.assert_allclose(again[name], result.long_run["edge_only"].metrics[name], rtol=1e-4, atol=1e-5)


def test_files_hold_the_tables_and_figures(report, tmp_path):
    env, _, _, result = report
    result.save(tmp_path)
    with (tmp_path / "same_states.csv").open(newline="") as file:
        rows = {row["policy"]: row for row in csv.DictReader(file)}
    assert float(rows["best_response"]["mean_over_reference"]) == 1.0
    expected = np.mean(result.objectives["edge_only"] / result.bound) - 1
    assert np.isclose(float(rows["edge_only"]["certified_gap_mean"]), expected)
    assert np.isnan(float(rows["once"]["certified_gap_mean"]))
    with (tmp_path / "long_run.csv").open(newline="") as file:
        delays = {row["policy"]: float(row["delay_s"]) for row in csv.DictReader(file)}
    assert delays == {name: run.metrics["delay_s"].mean() for name, run in result.long_run.items()}
    drawn = save_all(tmp_path, result, env.network_names, env.device_names, "best_response")
    assert {file.name for file in drawn} == {"over_time.png", "delay_against_energy.png", "cuts.png"}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in drawn)


def test_wrong_policies_are_told_before_anything_runs(report):
    env, params, policies, _ = report
    with pytest.raises(ValueError, match="reference: got 'price'; allowed are local_only"):
        evaluate_policies(env, params, policies, EvaluationConfig(reference="price"))
    with pytest.raises(ValueError, match="policies: got none; allowed is at least one"):
        evaluate_policies(env, params, {}, CONFIG)


def test_the_seed_decides(system, report):
    env, params, policies, slots = system
    *_, first = report
    again, other = (
        evaluate_policies(env, params, policies, config, slots=slots)
        for config in (CONFIG, dataclasses.replace(CONFIG, seed=1))
    )
    for name, run in first.long_run.items():
        jax.tree.map(np.testing.assert_array_equal, run.metrics, again.long_run[name].metrics)
        assert (run.metrics["delay_s"] != other.long_run[name].metrics["delay_s"]).all()

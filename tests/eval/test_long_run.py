"""The long-run study: the Lagrangian by hand, dual ascent, and weak duality."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.policies import make_policy

EPISODES, SLOTS = 6, 100


@pytest.fixture(scope="module")
def study():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "eval"))
        import long_run

        patch.setattr(long_run, "ASCENT_SLOTS", 300)
        yield long_run
        del sys.modules["long_run"]


@pytest.fixture(scope="module")
def dual(study):
    env, params = jaxmec.make("coinfer4")
    return env, params, study.dual_ascent(env, jax.random.key(0), params, EPISODES)


@pytest.fixture(scope="module")
def runs(study, dual):
    env, params, multipliers = dual
    lagrangian = study.recast(study.LagrangianEnv, env)
    fine = params.replace(tradeoff=study.ASCENT[-1] * params.tradeoff)

    def run(env, policy, params):
        start = study.ascended(multipliers, params.tradeoff)
        return study.rollout(env, make_policy(policy, env), jax.random.key(1), start, params, SLOTS)

    found = {
        "edge_only, queues": run(env, "edge_only", params),
        "closed_form, queues": run(env, "closed_form", params),
        "closed_form, fine queues": run(env, "closed_form", fine),
        "closed_form, multipliers": run(lagrangian, "closed_form", fine),
    }
    return found, study.bound_s(lagrangian, found["closed_form, multipliers"].states, multipliers, fine)


def test_slot_objective_is_the_lagrangian_by_hand_and_multipliers_stay(study, dual):
    env, params, multipliers = dual
    lagrangian = study.recast(study.LagrangianEnv, env)
    state = study.ascended(jax.tree.map(lambda leaf: leaf[0], multipliers), 10.0)
    state = state.replace(device_queue=state.device_queue + 5.0, server_queue=state.server_queue + 5.0)
    action = jnp.ones(env.num_users, jnp.int32)
    _, after, _, _, info = lagrangian.step_env(jax.random.key(2), state, action, params)
    ratio = np.asarray(info["device_energy_j"]) / np.asarray(env.device_budget_j(state, params))
    server_ratio = info["server_energy_j"] / params.server_budget_j
    by_hand = (
        10.0 * np.sum(info["delay_s"]) + np.sum(state.multiplier * ratio) + state.server_multiplier * server_ratio
    )
    np.testing.assert_allclose(info["objective"], by_hand, rtol=1e-4)
    np.testing.assert_array_equal(after.multiplier, state.multiplier)
    np.testing.assert_allclose(after.device_queue, np.maximum(state.device_queue + ratio - 1, 0), rtol=1e-5)


def test_dual_ascent_keeps_the_budgets_and_spends_those_that_cost(dual, runs):
    # Feasibility and complementary slackness, on slots after those that gave the multipliers.
    run, multipliers = runs[0]["closed_form, fine queues"], dual[2]
    excess = np.asarray(run.device_energy) - 1.0
    assert np.maximum(excess, 0).mean() < 0.02
    assert abs(np.sum(multipliers.multiplier * excess) / np.sum(multipliers.multiplier)) < 0.05


def test_no_policy_is_below_the_bound_and_the_multipliers_nearly_reach_it(study, dual, runs):
    _, params, multipliers = dual
    found, bound = runs
    over = {name: study.lagrangian_s(run, multipliers, params) / bound - 1 for name, run in found.items()}
    assert all((values > -1e-5).all() for values in over.values())
    assert over["closed_form, multipliers"].mean() < over["closed_form, fine queues"].mean()
    assert over["closed_form, fine queues"].mean() < over["closed_form, queues"].mean()


def test_rows_hold_means_and_paired_differences(study, dual, runs):
    env, params, multipliers = dual
    found, bound = runs
    seeds = {name: [run, run] for name, run in found.items()}
    rows = study.summarise(seeds, multipliers, bound, params, env.device_names)
    row = rows[1]
    run = found["closed_form, queues"]
    assert row["policy"] == "closed_form, queues"
    np.testing.assert_allclose(row["delay_s"], np.mean(run.delay_s), rtol=1e-5)
    ratio = np.mean(study.lagrangian_s(run, multipliers, params)) / np.mean(
        study.lagrangian_s(found["edge_only, queues"], multipliers, params)
    )
    np.testing.assert_allclose(row["over_myopic"], ratio - 1, rtol=1e-3)
    assert rows[0]["over_myopic"] == 0
    assert row["over_bound_least"] == row["over_bound_greatest"]
    figure = study.draw(rows)
    assert figure.axes[0].get_legend() is not None

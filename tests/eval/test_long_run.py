"""The long-run study: the Lagrangian by hand, dual ascent, and weak duality."""

from pathlib import Path

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec.policies import make_policy

EPISODES, SLOTS = 8, 1000


@pytest.fixture(scope="module")
def study():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "eval"))
        import long_run

        patch.setattr(long_run, "ASCENT_SLOTS", SLOTS)
        yield long_run


@pytest.fixture(scope="module")
def found(study):
    """A small system, its multipliers, and closed_form's episodes with the scenario's V and with a large one."""
    env, params = jaxmec.make("coinfer4")
    dual = study.dual_ascent(env, jax.random.key(0), params, EPISODES)
    fine = params.replace(tradeoff=study.ASCENT[-1] * params.tradeoff)
    policy = make_policy("closed_form", env)

    def run(params):
        return study.rollout(env, policy, jax.random.key(1), study.ascended(dual, params.tradeoff), params, SLOTS)

    return study.recast(study.LagrangianEnv, env), params, fine, dual, {"V": run(params), "64 V": run(fine)}


def test_slot_objective_is_the_lagrangian_by_hand_and_multipliers_stay(study, found):
    env, params, _, dual, _ = found
    state = study.ascended(jax.tree.map(lambda leaf: leaf[0], dual), params.tradeoff)
    state = state.replace(device_queue=state.device_queue + 5.0, server_queue=state.server_queue + 5.0)
    action = np.ones(env.num_users, np.int32)
    _, after, _, _, info = jax.jit(env.step_env)(jax.random.key(2), state, action, params)
    ratio = np.asarray(info["device_energy_j"]) / np.asarray(env.device_budget_j(state, params))
    server_ratio = info["server_energy_j"] / params.server_budget_j
    by_hand = params.tradeoff * np.sum(info["delay_s"]) + np.sum(state.multiplier * ratio)
    np.testing.assert_allclose(info["objective"], by_hand + state.server_multiplier * server_ratio, rtol=1e-4)
    np.testing.assert_array_equal(after.multiplier, state.multiplier)
    np.testing.assert_allclose(after.device_queue, np.maximum(state.device_queue + ratio - 1, 0), rtol=1e-5)


def test_reward_of_the_delay_environment_is_the_delay(study, found):
    delay, params = study.recast(study.DelayEnv, found[0]), found[1]
    _, state = delay.reset(jax.random.key(4), params)
    action = np.zeros(delay.num_users, np.int32)
    after = jax.jit(delay.step)(jax.random.key(3), state, action, params)
    np.testing.assert_allclose(after[2], -np.mean(after[5]["delay_s"]), rtol=1e-6)


def test_dual_ascent_keeps_the_budgets_and_spends_those_that_cost(found):
    # Feasibility and complementary slackness, on slots after those that gave the multipliers.
    *_, dual, runs = found
    excess, multiplier = np.asarray(runs["64 V"].device_energy) - 1.0, np.asarray(dual.multiplier)
    slack = np.sum(multiplier * excess) / np.sum(multiplier)
    assert np.maximum(excess, 0).mean() < 0.02
    assert abs(slack) < 0.05


def test_nothing_is_below_the_bound_and_a_larger_tradeoff_comes_closer(study, found):
    env, params, fine, dual, runs = found
    bound = study.bound_s(env, runs["64 V"].states, dual, fine)
    over = {name: study.lagrangian_s(run, dual, params) / bound - 1 for name, run in runs.items()}
    assert all((values > 0).all() for values in over.values())
    assert over["64 V"].mean() < 0.5 * over["V"].mean()


def test_rows_hold_means_and_paired_differences(study, found):
    _, params, _, dual, runs = found
    rows = study.summarise(
        {name: [run, run] for name, run in runs.items()}, dual, np.ones(EPISODES), params, ("a",)
    )
    first, last = (study.lagrangian_s(run, dual, params).mean() for run in runs.values())
    assert [row["policy"] for row in rows] == ["V", "64 V"]
    np.testing.assert_allclose(rows[1]["delay_s"], np.mean(runs["64 V"].delay_s), rtol=1e-5)
    np.testing.assert_allclose(rows[1]["over_myopic"], last / first - 1, rtol=1e-4)
    np.testing.assert_allclose(rows[1]["over_bound"], last - 1, rtol=1e-4)
    assert rows[0]["over_myopic"] == 0

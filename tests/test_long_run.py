"""The long-run problem: the Lagrangian by hand, dual ascent, and weak duality."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec import long_run
from jaxmec.evaluation import at_equal_energy, long_runs
from jaxmec.long_run import ASCENT, ascend, lagrangian, lower_bound
from jaxmec.lyapunov import FixedMultipliers
from jaxmec.policies import make_policy

OPTIMISED = True

EPISODES, SLOTS = 8, 1000


@pytest.fixture(scope="module")
def found():
    """A small system, its multipliers, and closed_form's episodes with the scenario's V and with a large one."""
    env, params = jaxmec.make("coinfer4")
    states, multipliers = ascend(env, jax.random.key(0), params, EPISODES, SLOTS)
    fine = params.replace(tradeoff=ASCENT[-1] * params.tradeoff)
    policies = {"closed_form": make_policy("closed_form", env)}

    def run(params):
        start = jax.vmap(env.priced, (0, 0, None))(states, multipliers, params)
        return long_runs(env, policies, jax.random.key(1), params, EPISODES, SLOTS, start)["closed_form"]

    return env, params, fine, (states, multipliers), {"V": run(params), "64 V": run(fine)}


def test_slot_objective_is_the_lagrangian_by_hand_and_multipliers_stay(found):
    env, params, _, (states, multipliers), _ = found
    constant = dataclasses.replace(env, constraints=FixedMultipliers())
    state = jax.tree.map(lambda leaf: leaf[0], states)
    own = jax.tree.map(lambda leaf: leaf[0], multipliers)
    state = constant.priced(state, own, params)
    action = np.ones(env.num_users, np.int32)
    _, after, _, _, info = jax.jit(constant.step_env)(jax.random.key(2), state, action, params)
    scale = float(params.tradeoff) * env.num_users
    device = np.asarray(info["device_energy_j"]) / np.asarray(env.device_budget_j(state, params))
    server = info["server_energy_j"] / params.server_budget_j
    by_hand = np.mean(info["delay_s"]) + np.sum(own["device_energy"] * device) + own["server_energy"][0] * server
    np.testing.assert_allclose(info["objective"], scale * by_hand, rtol=1e-4)
    np.testing.assert_allclose(constant.long_run_cost(info, params), np.mean(info["delay_s"]), rtol=1e-5)
    np.testing.assert_array_equal(after.device_queue, state.device_queue)
    back = constant.multipliers(constant.queues(after), params)
    for name, values in own.items():
        np.testing.assert_allclose(back[name], values, rtol=1e-5)


def test_the_lagrangian_charges_excess_by_hand():
    use = {"device_energy": np.array([[1.5, 0.5]]), "server_energy": np.array([[2.0]])}
    multipliers = {"device_energy": np.array([[0.2, 0.1]]), "server_energy": np.array([[0.3]])}
    # 1 + .2 * .5 - .1 * .5 + .3 * 1
    np.testing.assert_allclose(lagrangian(np.array([1.0]), use, multipliers), [1.35])


def test_dual_ascent_keeps_the_budgets_and_spends_those_that_cost(found):
    # Feasibility and complementary slackness, on slots after those that gave the multipliers.
    *_, (_, multipliers), runs = found
    excess, multiplier = runs["64 V"].use["device_energy"] - 1.0, np.asarray(multipliers["device_energy"])
    slack = np.sum(multiplier * excess) / np.sum(multiplier)
    assert np.maximum(excess, 0).mean() < 0.02
    assert abs(slack) < 0.05


def test_a_clairvoyant_is_never_below_the_bound_and_may_come_close(monkeypatch):
    """Two users, three slots: cuts of all slots at once, shares and energies at any prices, in float64."""
    with jax.enable_x64(True):
        users = {
            "count": 2,
            "networks": {"alexnet": 1},
            "devices": {"raspberry_pi_4": 1},
            "energy_budget_j": {"raspberry_pi_4": 0.06},
            "arrival_rate_hz": [1.0, 3.0],
        }
        env, params = jaxmec.make("coinfer4", users=[users])
        slots, num_cuts = 3, env.num_cuts
        step = jax.jit(env.step_env)
        _, state = env.reset(jax.random.key(3), params)
        states = []
        for key in jax.random.split(jax.random.key(4), slots):
            states.append(state)
            _, state, *_ = step(key, state, np.zeros(2, np.int32), params)
        states = jax.tree.map(lambda *leaves: np.stack(leaves), *states)

        prices = np.array(list(itertools.product(np.geomspace(1e-3, 3.0, 9), repeat=2)))  # of the two devices
        cuts = np.array(list(itertools.product(range(num_cuts), repeat=2)), np.int32)

        @jax.jit
        def outcomes(states, prices, cuts):
            def one(state, price, cuts):
                priced = env.priced(state, {"device_energy": price, "server_energy": np.zeros(1)}, params)
                decision = env.decide(priced, cuts, params)
                return decision.outcome.delay_s.mean(), decision.outcome.device_energy_j

            over_cuts = jax.vmap(one, (None, None, 0))
            return jax.vmap(jax.vmap(over_cuts, (0, None, None)), (None, 0, None))(states, prices, cuts)

        delay, energy = (
            np.asarray(found) for found in outcomes(states, prices, cuts)
        )  # [prices, slots, cuts (, 2)]
        used = energy / np.asarray(env.device_budget_j(jax.tree.map(lambda leaf: leaf[0], states), params))
        plans = np.array(list(itertools.product(range(len(cuts)), repeat=slots)))
        slot = np.arange(slots)
        reached = np.inf
        for price in range(len(prices)):
            feasible = (used[price, slot, plans].mean(axis=1) <= 1.0).all(axis=1)
            reached = min(reached, delay[price, slot, plans].mean(axis=1)[feasible].min(initial=np.inf))

        monkeypatch.setattr(long_run, "BOUNDED_AT_ONCE", slots)
        each = jax.tree.map(lambda leaf: leaf[None], states)
        bounds = [
            lower_bound(env, each, {"device_energy": price[None], "server_energy": np.zeros((1, 1))}, params)[0]
            for price in prices
        ]
    assert max(bounds) <= reached * (1 + 1e-9)
    assert max(bounds) >= 0.9 * reached


def test_nothing_is_below_the_bound_and_a_larger_tradeoff_comes_closer(found):
    env, _, fine, (_, multipliers), runs = found
    bound = lower_bound(env, runs["64 V"].states, multipliers, fine)
    over = {name: at_equal_energy(run, multipliers, bound).metrics["long_run_gap"] for name, run in runs.items()}
    assert all((values > 0).all() for values in over.values())
    assert over["64 V"].mean() < 0.5 * over["V"].mean()

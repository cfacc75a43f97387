"""What makes the default scenario worth solving, at a reduced size, and the verdicts by hand."""

import importlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec.evaluation import EvaluationConfig, evaluate_policies
from jaxmec.policies import make_policy
from jaxmec.scenario import DEFAULT

OPTIMISED = True


@pytest.fixture(scope="module")
def study(command):
    return command("calibration")


def test_no_table_no_first_slot_and_no_closed_form_decides_the_default(study, monkeypatch):
    monkeypatch.setattr(
        importlib.import_module("jaxmec.policies.static"), "POPULATIONS", 64
    )  # as many as episodes
    env, params = jaxmec.make(DEFAULT)
    policies = {name: make_policy(name, env) for name in study.POLICIES}
    comparison = evaluate_policies(
        env, params, policies, EvaluationConfig(num_envs=64, num_slots=60, ascent_slots=400)
    )
    static, once, search, binding, used, second, unstable, over = study.findings(env, comparison)
    # Few slots and a rough table: what is asked of the first two is asked of the upper ends of their intervals.
    assert static.found + static.interval >= 0.15
    assert static.found - static.interval > 0
    assert once.found + once.interval >= 0.08
    assert once.found - once.interval > 0
    assert search.holds
    assert binding.holds
    assert used.found <= 1.03
    assert second.holds
    assert unstable.holds
    assert over.found <= 0.04
    assert study.verdict([static, once, search]).startswith("Only search and learning decide it")


@pytest.mark.parametrize(
    ("static", "once", "search", "words"),
    [
        (0.02, 0.5, 0.5, "A lookup table decides it: the best of them is within 2.0%"),
        (0.2, 0.01, 0.5, "The first slot decides it: what is chosen there and kept is within 1.0%"),
        (0.2, 0.1, 0.001, "The closed form decides it: its slot objective is within 0.1%"),
        (0.2, 0.1, 0.02, "Only search and learning decide it: a table is 20% slower, the first slot's cuts 10%"),
    ],
)
def test_who_decides_is_said_in_words(study, static, once, search, words):
    found = [study.Finding("", "", value, True) for value in (static, once, search)]
    assert study.verdict(found).startswith(words)


def test_a_row_tells_when_empty_queues_are_nearly_as_full_as_stationary_ones(study, monkeypatch):
    env, params = jaxmec.make("coinfer4")

    def metrics(**values):
        return {name: np.array([value, value]) for name, value in values.items()}

    stationary = SimpleNamespace(
        metrics=metrics(
            delay_s=0.2, device_energy=0.9, device_energy_excess=0.0, server_energy=0.8, device_queue=10.0,
            long_run_gap=0.1,
        ),
        curves={"device_queue": np.full(5, 10.0)},
    )  # fmt: skip
    begun = SimpleNamespace(
        metrics=metrics(delay_s=0.1, device_energy=1.5),
        curves={"device_queue": np.array([0.0, 5.0, 8.9, 9.1, 10.0])},
    )

    states = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), 2), params)[1]
    multipliers = {"device_energy": np.full((2, 4), 0.5), "server_energy": np.full((2, 1), 0.25)}  # s per budget

    def long_runs(env, policies, key, params, *sizes, slots):
        *sizes, start = sizes
        assert float(params.tradeoff) == 7.0
        assert not start.device_queue.any()
        assert not start.server_queue.any()
        assert sizes == [2, 5]
        return {"best_response": begun}

    def evaluate_policies(env, params, policies, config, *, slots, start):
        assert float(params.tradeoff) == 7.0
        np.testing.assert_array_equal(start[0].device_queue, 4 * 7.0 * np.full((2, 4), 0.5))  # N V times them
        np.testing.assert_array_equal(start[0].server_queue, 4 * 7.0 * np.full(2, 0.25))
        assert start[1] is multipliers
        return SimpleNamespace(long_run={"best_response": stationary})

    monkeypatch.setattr(study.long_run, "ascend", lambda *_: (states, multipliers))
    monkeypatch.setattr(study, "long_runs", long_runs)
    monkeypatch.setattr(study, "evaluate_policies", evaluate_policies)
    (row,) = study.tradeoff_rows(env, params, EvaluationConfig(num_envs=2), (7.0,))
    assert row["tradeoff"] == 7.0
    assert row["device_queue"] == 10.0
    assert row["from_empty_delay_s"] == pytest.approx(0.1)
    assert row["from_empty_device_energy"] == pytest.approx(1.5)
    assert row["from_empty_slots"] == 3

"""Arrival processes: closed forms by hand, statistics by simulation with confidence intervals."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.workload import ARRIVALS, Trace

SETTINGS = {"markov": {"stay_probability": 0.8}, "diurnal": {"period_slots": 50.0}}
NUM_USERS = 2000


def make(process, low_hz=1.0, high_hz=3.0, num_users=NUM_USERS):
    low, high = np.full(num_users, low_hz), np.full(num_users, high_hz)
    if process == "trace":
        return Trace(jnp.asarray(low), jnp.asarray(high), jnp.array([0.5, 1.0, 1.5]))
    return ARRIVALS[process](**SETTINGS.get(process, {})).process(low, high, 1.0, Path())


def simulate(key, process, num_slots):
    """Rates [num_slots, N]."""
    key_init, key_run = jax.random.split(key)

    def slot(state, key):
        return process.step(key, state), process.rate_hz(state)

    return np.asarray(jax.lax.scan(slot, process.init(key_init), jax.random.split(key_run, num_slots))[1])


@pytest.mark.parametrize("process", ARRIVALS)
def test_rates_stay_in_range_and_average_to_its_middle(key, process):
    rates = simulate(key, make(process), 51)
    assert rates.min() >= (0.5 if process == "trace" else 1.0)
    assert rates.max() <= (4.5 if process == "trace" else 3.0)
    per_user = rates[:-1].mean(axis=0) if process == "diurnal" else rates.mean(axis=0)  # of a whole period
    assert abs(per_user.mean() - 2.0) < 4 * per_user.std() / np.sqrt(NUM_USERS) + 1e-6  # users are independent


@pytest.mark.parametrize("process", ARRIVALS)
def test_state_keeps_its_structure_shapes_and_dtypes(key, process):
    arrivals = make(process, num_users=3)
    before = arrivals.init(key)
    after = arrivals.step(key, before)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(lambda x: (x.shape, x.dtype), after)
    assert arrivals.rate_hz(before).shape == (3,)


def test_constant_never_moves_and_uniform_forgets(key):
    constant, uniform = (simulate(key, make(process), 2) for process in ("constant", "uniform"))
    np.testing.assert_array_equal(constant[0], constant[1])
    assert abs(np.corrcoef(uniform[0], uniform[1])[0, 1]) < 4 / np.sqrt(NUM_USERS)


def test_markov_keeps_to_two_rates_and_stays_with_its_probability(key):
    rates = simulate(key, make("markov"), 50)
    assert set(np.unique(rates)) == {1.0, 3.0}
    stays = (rates[1:] == rates[:-1]).mean()
    assert abs(stays - 0.8) < 4 * np.sqrt(0.16 / rates[1:].size)


def test_diurnal_repeats_after_its_period(key):
    rates = simulate(key, make("diurnal"), 101)
    np.testing.assert_allclose(rates[0], rates[50], atol=1e-3)
    np.testing.assert_allclose(rates[0] + rates[25], 4.0, atol=1e-3)  # half a period apart


def test_diurnal_users_start_all_over_the_day(key):
    # cos of a uniform phase has variance 1/2, and so the rates 2 + cos
    rates = simulate(key, make("diurnal"), 1)[0]
    assert np.isclose(rates.var(), 0.5, rtol=0.1)
    by_hand = 2.0 - np.cos(2 * np.pi * np.array([0.0, 0.25, 0.5]))
    np.testing.assert_allclose(
        make("diurnal", num_users=3).rate_hz(jnp.array([0.0, 0.25, 0.5])), by_hand, rtol=1e-6
    )


def test_trace_replays_its_sequence_from_a_random_start(key):
    trace = make("trace")
    rates = simulate(key, trace, 7)
    np.testing.assert_allclose(rates[:4], rates[3:], rtol=1e-6)
    ratios = rates[1] / rates[0]
    assert {round(float(r), 3) for r in ratios} == {2.0, 1.5, 0.333}
    # Every user's mean over the sequence is its own level, all over the range.
    levels = rates[:3].mean(axis=0)
    assert levels.min() < 1.1
    assert levels.max() > 2.9
    assert np.isclose(levels.var(), 2**2 / 12, rtol=0.1)


def test_trace_begins_with_the_slot_where_it_starts(key):
    trace = make("trace", num_users=4)
    state = trace.init(key).replace(position=jnp.array([0, 1, 2, 0], jnp.int32), level_hz=jnp.full(4, 2.0))
    np.testing.assert_allclose(trace.rate_hz(state), [1.0, 2.0, 3.0, 1.0])
    np.testing.assert_allclose(trace.rate_hz(trace.step(key, state)), [2.0, 3.0, 1.0, 2.0])

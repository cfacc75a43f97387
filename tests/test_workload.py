"""Arrival-rate processes: closed forms by hand, statistics by simulation with confidence intervals."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec import workload

TRACES = Path(os.environ.get("JAXMEC_TRACES", Path(__file__).parents[2] / "shared/data/traces"))


def make(num_users=2000, **changes):
    constants = {"stay_probability": 0.8, "period_slots": 50.0, "trace": np.ones(1)}
    params = {k: jnp.asarray(v, float) for k, v in (constants | changes).items()}
    return workload.WorkloadParams(low_hz=jnp.full(num_users, 1.0), high_hz=jnp.full(num_users, 3.0), **params)


def simulate(key, process, params, num_slots):
    """Rates [num_slots, N]."""
    key_reset, key_run = jax.random.split(key)

    def slot(state, inputs):
        index, key = inputs
        rate = workload.rate_hz(process, state, index, params)
        return workload.step(key, process, state, params), rate

    inputs = (jnp.arange(num_slots), jax.random.split(key_run, num_slots))
    return np.asarray(jax.lax.scan(slot, workload.reset(key_reset, process, params), inputs)[1])


@pytest.mark.parametrize("process", workload.PROCESSES)
def test_rates_stay_in_range_and_average_to_its_middle(key, process):
    rates = simulate(key, process, make(), 50)
    assert rates.min() >= 1.0
    assert rates.max() <= 3.0
    per_user = rates.mean(axis=0)  # users are independent, slots are not
    assert abs(per_user.mean() - 2.0) < 4 * per_user.std() / np.sqrt(len(per_user)) + 1e-6


def test_constant_never_moves_and_uniform_forgets(key):
    constant, uniform = (simulate(key, process, make(), 2) for process in ("constant", "uniform"))
    np.testing.assert_array_equal(constant[0], constant[1])
    assert abs(np.corrcoef(uniform[0], uniform[1])[0, 1]) < 4 / np.sqrt(2000)


def test_markov_keeps_to_two_rates_and_stays_with_its_probability(key):
    rates = simulate(key, "markov", make(), 50)
    assert set(np.unique(rates)) == {1.0, 3.0}
    stays = (rates[1:] == rates[:-1]).mean()
    assert abs(stays - 0.8) < 4 * np.sqrt(0.16 / rates[1:].size)


def test_diurnal_repeats_after_its_period(key):
    rates = simulate(key, "diurnal", make(), 101)
    np.testing.assert_allclose(rates[0], rates[50], atol=1e-3)
    np.testing.assert_allclose(rates[0] + rates[25], 4.0, atol=1e-3)  # half a period apart


def test_trace_replays_its_sequence_from_a_random_start(key):
    rates = simulate(key, "trace", make(trace=[0.5, 1.0, 1.5]), 7)
    np.testing.assert_allclose(rates[:3].mean(axis=0) * 1.0, rates[3:6].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(rates[0], rates[3], rtol=1e-6)
    ratios = rates[1] / rates[0]
    assert {round(float(r), 3) for r in ratios} == {2.0, 1.5, 0.333}


def test_load_trace_counts_requests_per_slot(tmp_path):
    file = tmp_path / "requests.csv"
    file.write_text("time,tokens\n0.0,1\n0.5,1\n2.2,1\n")
    np.testing.assert_allclose(workload.load_trace(file, 1.0, "time"), [2.0, 0.0, 1.0])  # mean 1 per slot


def test_load_trace_names_what_is_wrong(tmp_path):
    file = tmp_path / "requests.csv"
    file.write_text("time\nsoon\nlater\n")
    with pytest.raises(ValueError, match="columns are time"):
        workload.load_trace(file, 1.0, "when")
    with pytest.raises(ValueError, match="must hold seconds or ISO times"):
        workload.load_trace(file, 1.0, "time")


@pytest.mark.skipif(not TRACES.exists(), reason="measured traces are not here")
def test_load_trace_reads_a_public_request_log():
    trace = workload.load_trace(TRACES / "arrivals/AzureLLMInferenceTrace_conv.csv", 1.0, "TIMESTAMP")
    # 19,366 requests in one hour
    assert 3400 < len(trace) < 3700
    assert np.isclose(trace.mean(), 1.0)
    requests_per_hour = 3600 / len(trace) * 19366
    assert np.isclose(requests_per_hour, 19366, rtol=0.05)

"""Rates from files of request times."""

import os
from pathlib import Path

import numpy as np
import pytest

from jaxmec.workload import load_trace

TRACES = Path(os.environ.get("JAXMEC_TRACES", Path(__file__).parents[3] / "shared/data/traces"))


def test_load_trace_counts_requests_per_slot(tmp_path):
    file = tmp_path / "requests.csv"
    file.write_text("time,tokens\n0.0,1\n0.5,1\n2.2,1\n")
    np.testing.assert_allclose(load_trace(file, 1.0, "time"), [2.0, 0.0, 1.0])  # mean 1 per slot


def test_load_trace_reads_fractions_of_iso_seconds(tmp_path):
    # Seven digits, as in public logs; whole seconds would put the first two into one slot and leave the third apart.
    file = tmp_path / "requests.csv"
    file.write_text(
        "TIMESTAMP\n2023-11-16 18:15:46.6805900\n2023-11-16 18:15:46.9005900\n2023-11-16 18:15:47.7205900\n"
    )
    np.testing.assert_allclose(load_trace(file, 0.1), np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]) * 11 / 3)


def test_load_trace_names_what_is_wrong(tmp_path):
    file = tmp_path / "requests.csv"
    file.write_text("time\nsoon\nlater\n")
    with pytest.raises(ValueError, match="columns are time"):
        load_trace(file, 1.0, "when")
    with pytest.raises(ValueError, match="must hold seconds or ISO times"):
        load_trace(file, 1.0, "time")
    file.write_text("time\n1.0\n")
    with pytest.raises(ValueError, match="1 requests; a trace needs at least two"):
        load_trace(file, 1.0)


@pytest.mark.skipif(not TRACES.exists(), reason="measured traces are not here")
def test_load_trace_reads_a_public_request_log():
    trace = load_trace(TRACES / "arrivals/AzureLLMInferenceTrace_conv.csv", 1.0, "TIMESTAMP")
    # 19,366 requests in one hour
    assert 3400 < len(trace) < 3700
    assert np.isclose(trace.mean(), 1.0)
    assert np.isclose((trace * 19366 / len(trace)).sum(), 19366)
    per_slot = trace * 19366 / len(trace)
    np.testing.assert_allclose(per_slot, np.round(per_slot), atol=1e-6)  # whole requests

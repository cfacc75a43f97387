"""Request times from files: what is read, by hand, and every fault by file and line."""

import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import jaxmec
from jaxmec.config import ConfigError
from jaxmec.workload import load_request_times, load_trace

TRACES = Path(os.environ.get("JAXMEC_TRACES", Path(__file__).parents[3] / "shared/data/traces"))
SHIPPED = Path(__file__).parents[2] / "docs/examples/traces"


def write(tmp_path, *lines, encoding="utf-8"):
    file = tmp_path / "requests.csv"
    file.write_text("\n".join([*lines, ""]), encoding=encoding)
    return file


def test_load_trace_counts_requests_per_slot(tmp_path):
    file = write(tmp_path, "time,tokens", "0.0,1", "0.5,1", "2.2,1")
    np.testing.assert_allclose(load_trace(file, 1.0, "time"), [2.0, 0.0, 1.0])  # mean 1 per slot


def test_load_trace_reads_fractions_of_iso_seconds(tmp_path):
    # Seven digits, as in public logs; whole seconds would put the first two into one slot and leave the third apart.
    file = write(
        tmp_path,
        "TIMESTAMP",
        "2023-11-16 18:15:46.6805900",
        "2023-11-16 18:15:46.9005900",
        "2023-11-16 18:15:47.7205900",
    )
    np.testing.assert_allclose(load_trace(file, 0.1), np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]) * 11 / 3)


@pytest.mark.parametrize(
    ("texts", "expected_s"),
    [
        (["2024-05-10 00:00:00.009930+00:00", "2024-05-10 00:00:01.009930+00:00"], 1.0),
        (["2024-05-10T00:00:00.25Z", "2024-05-10T00:00:00.75Z"], 0.5),
        (["2024-05-10T02:00:00+02:00", "2024-05-10T00:00:03"], 3.0),  # no zone: UTC
        (["2024-05-09T23:00:00-01:30", "2024-05-10T00:30:00.5+00:00"], 0.5),
        (["1715299200.25", "1715299201"], 0.75),
    ],
)
def test_times_with_fractions_and_zones(tmp_path, texts, expected_s):
    np.testing.assert_allclose(load_request_times(write(tmp_path, "t", *texts)), [0.0, expected_s], atol=1e-6)


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_a_steady_trace_stays_steady_where_the_machine_changes_to_summer_time(tmp_path):
    # On 2024-03-31 Berlin has no 02:00-03:00.
    file = write(tmp_path, "t", *(f"2024-03-31 {h:02}:{m:02}:00" for h in range(5) for m in range(0, 60, 10)))
    np.testing.assert_allclose(load_request_times(file), np.arange(30) * 600.0)
    np.testing.assert_allclose(load_trace(file, 600.0), 1.0)


@pytest.mark.parametrize(("unit", "factor"), [("s", 1.0), ("ms", 1e-3), ("us", 1e-6)])
def test_numbers_have_a_unit(tmp_path, unit, factor):
    file = write(tmp_path, "time", "1000", "1500", "4000")
    np.testing.assert_allclose(load_request_times(file, "time", unit), np.array([0, 500, 3000]) * factor)


def test_a_file_without_header_loses_no_request_and_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    np.testing.assert_allclose(load_request_times(write(tmp_path, "1.0", "1.5", "", "3.0")), [0.0, 0.5, 2.0])
    marked = write(tmp_path, "time", "1.0", "1.5", encoding="utf-8-sig")
    np.testing.assert_allclose(load_request_times(marked, "time"), [0.0, 0.5])


@pytest.mark.parametrize(
    ("lines", "column", "message"),
    [
        (["time", "soon", "later"], "when", "requests.csv:1: no column 'when' among the 1 of this line"),
        (["1.0", "2.0"], "time", "requests.csv:1: no column 'time' among the 1 of this line"),
        (["time", "1"], 1, "requests.csv:1: no column 1; the first of 1 is 0"),
        (["time", "soon", "later"], "time", ":2: column 'time' must hold seconds or ISO times$"),
        (["a,b", "1,2", "3"], 1, "requests.csv:3: column 1 must hold seconds or ISO times, got ''"),
        (["time", "1", "nan"], 0, "requests.csv:3: column 0 must hold .*, got 'nan'"),
        (["nan", "1", "2"], 0, "requests.csv:1: column 0 must hold seconds or ISO times$"),
        (["time", "1", "inf"], 0, "requests.csv:3: .*, got 'inf'"),
        (["time", "-1", "1"], 0, "requests.csv:2: column 0 must hold seconds or ISO times$"),
        (["time", "2024-13-01T00:00:00"], 0, "requests.csv:2: column 0 must hold seconds or ISO times$"),
        (["time", "3", "", "5", "4"], 0, "requests.csv:5: the time lies before that of line 4"),
        (["time", "1.0"], 0, "requests.csv: 1 requests; a trace needs at least two"),
        (["time"], 0, "requests.csv: 0 requests"),
        ([], 0, "requests.csv: empty"),
        (["time", "0", "5", "1e14", "1.1e14"], 0, r":4: 1e\+14 s after line 3; .* at most 10,000,000 are allowed"),
    ],
)
def test_faults_are_told_by_file_and_line(tmp_path, lines, column, message):
    with pytest.raises(ValueError, match=message):
        load_trace(write(tmp_path, *lines), 1.0, column)


def test_a_file_that_is_no_trace_is_not_told_about(tmp_path):
    secret = "root:x:0:0:" + "s3cret" * 40
    file = write(tmp_path, "name", secret)
    for column in (0, "time"):
        with pytest.raises(ValueError, match="requests.csv:") as error:
            load_trace(file, 1.0, column)
        assert len(str(error.value).replace(str(file), "")) < 150
    file.write_bytes(b"time\n1.0\n\xff\xfe\x00s3cret\n")
    with pytest.raises(ValueError, match="not UTF-8 text") as error:
        load_trace(file, 1.0)
    assert "s3cret" not in str(error.value)
    file.write_text('time\n"' + "s3cret" * 40_000)
    with pytest.raises(ValueError, match="not a table of comma-separated values"):
        load_trace(file, 1.0)


def test_milliseconds_taken_for_seconds_are_warned_of(tmp_path):
    file = write(tmp_path, "timestamp", *(str(500 * i) for i in range(40)))
    with pytest.warns(UserWarning, match=r"requests.csv: 99.8 % of 19,501 slots of 1 s .* time_unit 's' right"):
        load_trace(file, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(load_trace(file, 1.0, time_unit="ms"), 1.0)


def test_a_scenario_names_the_unit_and_tells_faults_with_its_own_name(tmp_path):
    write(tmp_path, "ms", "0", "400", "1500", "2500")
    group = {"networks": {"alexnet": 1}, "devices": {"jetson_nano": 1}, "energy_budget_j": {"jetson_nano": 1}}
    data = {
        "users": [group],
        "server": {"device": "epyc_7742", "energy_budget_j": 5},
        "radio": {"bandwidth_hz": 5e6},
        "arrivals": {"process": "trace", "trace_file": "requests.csv", "trace_column": "ms", "time_unit": "ms"},
    }
    file = tmp_path / "mine.yaml"
    file.write_text(repr(data))
    _, params = jaxmec.make(file)
    np.testing.assert_allclose(params.workload.relative_rate, [1.5, 0.75, 0.75])
    with pytest.raises(
        ConfigError, match=r"mine.yaml: arrivals.time_unit: got 'h'; allowed is one of 's', 'ms', 'us'"
    ):
        jaxmec.make(file, arrivals={"time_unit": "h"})
    write(tmp_path, "ms", "0", "x")
    with pytest.raises(
        ConfigError, match="mine.yaml: arrivals.trace_file: .*requests.csv:3: .*milliseconds or ISO"
    ):
        jaxmec.make(file)


def test_the_shipped_recording_is_bursty():
    times_s = load_request_times(SHIPPED / "requests.csv", "time_s")
    gaps = np.diff(times_s)
    assert gaps.std() / gaps.mean() > 1.5  # 1 would be Poisson
    assert load_trace(SHIPPED / "requests.csv", 1.0).mean() == pytest.approx(1.0)


@pytest.mark.skipif(not TRACES.exists(), reason="measured traces are not here")
def test_load_trace_reads_a_public_request_log():
    trace = load_trace(TRACES / "arrivals/AzureLLMInferenceTrace_conv.csv", 1.0, "TIMESTAMP")
    # 19,366 requests in one hour
    assert 3400 < len(trace) < 3700
    assert np.isclose(trace.mean(), 1.0)
    per_slot = trace * 19366 / len(trace)
    np.testing.assert_allclose(per_slot, np.round(per_slot), atol=1e-6)  # whole requests


@pytest.mark.skipif(not TRACES.exists(), reason="measured traces are not here")
@pytest.mark.parametrize(
    ("name", "column", "unit", "requests", "variation"),
    [
        ("AzureLLMInferenceTrace_code.csv", "TIMESTAMP", "s", 8819, 13.2),
        ("AzureLLMInferenceTrace_conv.csv", 0, "s", 19366, 1.09),
        ("mooncake_conversation_3col.csv", "timestamp_ms", "ms", 12031, None),
    ],
)
def test_public_logs_have_their_published_numbers(name, column, unit, requests, variation):
    gaps = np.diff(load_request_times(TRACES / "arrivals" / name, column, unit))
    assert len(gaps) + 1 == requests
    if variation is not None:
        assert np.isclose(gaps.std() / gaps.mean(), variation, rtol=0.01)

"""Predictions and measurements against hand values."""

import numpy as np
import pytest
import scipy.stats

from jaxmec.runtime import Record, Report, StageTimes, arrivals, tandem_delays_s
from jaxmec.runtime.report import BATCHES, write_records


def test_the_recursion_by_hand():
    # Stage one is left at 2, 4, 6; stage two (1 s) at 3, 5, 7; stage three (3 s) at 6, 9, 12.
    delays = tandem_delays_s(np.array([0.0, 1.0, 1.5]), np.array([2.0, 1.0, 3.0]))
    np.testing.assert_allclose(delays, [6.0, 8.0, 10.5])
    # The same with services that differ: 1, 4 s at one stage.
    np.testing.assert_allclose(tandem_delays_s(np.array([0.0, 0.5]), np.array([[1.0], [4.0]])), [1.0, 4.5])


def test_long_poisson_runs_agree_with_the_formula():
    times = StageTimes(0.02, 0.03, 0.05, 1)
    means = []
    for seed in range(20):
        records = [Record(i, 1, t) for i, t in enumerate(arrivals("poisson", 10.0, 4000, seed))]
        means.append(Report(times, records, 10.0).recursion_s().mean())
    # 0.1 + 10 * 0.05**2 / (2 * (1 - 0.5)) = 0.125
    half = scipy.stats.t.ppf(0.999, 19) * scipy.stats.sem(means)
    assert abs(np.mean(means) - 0.125) < half
    assert Report(times, records, 10.0).formula_s() == pytest.approx(0.125)
    assert Report(times, records, 10.0, "clocked").formula_s() == pytest.approx(0.1)


def test_arrivals():
    np.testing.assert_allclose(arrivals("clocked", 4.0, 3), [0.0, 0.25, 0.5])
    gaps = np.diff(arrivals("poisson", 4.0, 10_001), prepend=0.0)
    # Exponential: mean and standard deviation 1/4.
    assert abs(gaps.mean() - 0.25) < 4 * 0.25 / 100
    assert scipy.stats.kstest(gaps, "expon", (0, 0.25)).pvalue > 1e-3
    for kind, rate_hz, requests, message in (
        ("poisson", 0.0, 1, "rate: got 0.0"),
        ("clocked", 1.0, 0, "requests: got 0"),
        ("sometimes", 1.0, 1, "arrivals: got 'sometimes'"),
    ):
        with pytest.raises(ValueError, match=message):
            arrivals(kind, rate_hz, requests)


def two_records():
    """Two requests of which the second waits for the device until 2, and finds uplink and server free."""
    first = Record(0, 1, 0.0, 0.0, 2.0, 5.0, 105.0, 105.5, 106.5, 8.0, 100, 1)
    second = Record(1, 1, 1.0, 2.0, 3.0, 6.0, 106.0, 106.5, 107.0, 9.0, 100, 1)
    return [first, second]


def test_services_of_a_run_without_their_waiting():
    report = Report(StageTimes(1.0, 2.0, 1.0, 90), two_records(), 0.1)
    # The second message is there at 3 and the link free at 5: one second.
    np.testing.assert_allclose(report.measured_stages_s, [[2.0, 3.0, 1.0], [1.0, 1.0, 0.5]])
    np.testing.assert_allclose(report.delays_s, [8.0, 8.0])
    # By the recursion they leave the server at 6 and 6.5; half a second before the server and 1.5 after it are no
    # stage's, and 0.5 and 2 for the second.
    np.testing.assert_allclose(report.hand_over_s(), [2.0, 2.5])
    text = [list(column.cells) for column in report.table("two").columns]
    assert text[0][-1] == "bytes per request"
    assert (text[1][-1], text[2][-1]) == ("90", "100")


def test_an_interval_by_batch_means():
    rng = np.random.default_rng(0)
    delays = rng.exponential(1.0, 40 * BATCHES)
    records = [Record(i, 1, 0.0, answer_s=delay) for i, delay in enumerate(delays)]
    mean, half = Report(StageTimes(1, 1, 1, 1), records, 1.0).mean_and_interval_s()
    batches = delays.reshape(BATCHES, -1).mean(axis=1)
    low, high = scipy.stats.t.interval(0.95, BATCHES - 1, batches.mean(), scipy.stats.sem(batches))
    assert (mean - half, mean + half) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))
    assert np.isnan(Report(StageTimes(1, 1, 1, 1), records[:5], 1.0).mean_and_interval_s()[1])


def test_records_as_csv(tmp_path):
    write_records(tmp_path / "r.csv", two_records())
    table = np.genfromtxt(tmp_path / "r.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["answer_s"] - table["arrival_s"], [8.0, 8.0])
    assert [file.name for file in tmp_path.iterdir()] == ["r.csv"]

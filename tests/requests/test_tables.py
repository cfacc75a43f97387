"""What a study of requests shows and leaves behind, and the rule that the validation stands beside."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.delay import independent_delay
from jaxmec.evaluation.queueing import slower_later_delay
from jaxmec.evaluation.tables import request_rows, request_table
from jaxmec.reporting.console import terminal
from jaxmec.reporting.figures.requests import delay_distributions
from jaxmec.requests import Estimate, LogHistogram, RequestReport
from jaxmec.requests.study import Tally


def test_a_slower_later_stage_that_adds_its_wait_says_a_quarter_too_much():
    ascending, descending = jnp.asarray([[0.03, 0.05, 0.0], [0.05, 0.03, 0.0]])
    first, second = 10 * 0.03**2 / (2 * 0.7), 10 * 0.05**2 / (2 * 0.5)
    rate_hz = jnp.asarray(10.0)
    assert float(slower_later_delay(ascending, rate_hz, 0.9)) == pytest.approx(0.08 + first + second)
    assert (first + second) / second == pytest.approx(1.257, abs=1e-3)
    assert float(slower_later_delay(descending, rate_hz, 0.9)) == pytest.approx(0.08 + second)
    assert float(independent_delay(descending, rate_hz, 0.9)) == pytest.approx(0.08 + first + second)


@pytest.fixture
def report():
    sketch = np.zeros((2, LogHistogram().size))
    sketch[:, 1000], sketch[:, 1100] = 15, 5
    requests, nothing = np.array([20.0, 20.0]), np.zeros(2)
    tally = Tally(requests, np.array([2.0, 4.0]), nothing, nothing, nothing, nothing, sketch)
    names = ("delay_s", "p50_s", "p95_s", "p99_s", "late", "backlog_s", "overflow")
    estimates = {name: Estimate(0.1 * number, 0.01) for number, name in enumerate(names, 1)}
    return RequestReport(estimates, tally, 5, False, True, 0.95)


def test_rows_and_table_tell_every_figure_with_its_interval(report, capsys):
    (row,) = request_rows({"greedy": report})
    assert row["p95_s"] == pytest.approx(0.3)
    assert row["p95_s_half_width"] == 0.01
    assert (row["requests"], row["replications"], row["settled"]) == (40, 2, "False")
    terminal(stderr=False).print(request_table({"greedy": report}))
    shown = capsys.readouterr().out
    assert "greedy (not settled)" in shown
    assert "50.00% ± 1.00%" in shown


def test_the_picture_of_delays_is_written(report, tmp_path):
    delay_distributions(tmp_path / "delays.png", {"greedy": report, "other": report})
    assert (tmp_path / "delays.png").stat().st_size > 10_000

"""The study of what requests meet: what its policies know, and its differences, by hand."""

import numpy as np
import pytest

import jaxmec
from jaxmec.requests import Estimate, LogHistogram, RequestReport
from jaxmec.requests.study import Tally


@pytest.fixture(scope="module")
def study(command):
    return command("request_policies")


def test_policies_differ_in_what_their_slot_problem_knows(study):
    _, params = jaxmec.make("coinfer4", fidelity="requests")
    known = study.variants(params, 5.0, 2.0)
    flags = study.Flags(waiting_scale=5.0, backlog_weight=2.0)
    assert [study.named(flags, one) for one in known] == ["formula", "factor 5", "price 2", "factor and price"]
    told = [(one.waiting_scale.tolist(), one.backlog_weight.tolist()) for one in known.values()]
    assert told == [([scale] * 4, [weight] * 4) for scale, weight in ((1, 0), (5, 0), (1, 2), (5, 2))]


def test_cuts_follow_what_is_told_and_shares_what_is_so(study):
    _, params = jaxmec.make("coinfer4", fidelity="requests")
    told = study.variants(params, 5.0, 2.0)

    def policy(key, state, params):
        return params.backlog_weight.astype(int) + (params.waiting_scale > 1)

    cuts = [study.choosing(policy, known)(None, None, params).tolist() for known in told.values()]
    assert cuts == [[0] * 4, [1] * 4, [2] * 4, [3] * 4]


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("knowing", ("formula", "prize"), "knowing: got 'prize'; allowed are formula, factor, price, both"),
        ("seeds", -1, "seeds, discounts: got -1"),
        ("discounts", (0.9, 1.0), "discounts: got 0, (0.9, 1.0); allowed are at least 0 seeds and discounts"),
    ],
)
def test_wrong_flags_are_told_before_anything_runs(study, capsys, flag, value, message):
    assert study.main(study.Flags(**{flag: value})) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_differences_are_paired_and_over_what_the_formula_reaches(study, capsys):
    def report(sums):
        nothing, requests = np.ones(3), np.full(3, 10.0)
        tally = Tally(
            requests, np.array(sums), nothing, nothing, nothing, nothing, np.ones((3, LogHistogram().size))
        )
        names = ("delay_s", "p50_s", "p95_s", "p99_s", "late", "backlog_s")
        estimates = dict.fromkeys(names, Estimate(sum(sums) / 30.0, 0.0))
        return RequestReport(estimates, tally, 0, True, True, 0.95)

    sums = {"formula": [10.0, 20.0, 30.0], "price": [6.0, 16.0, 26.0], "learned": [8.0, 18.0, 28.0]}
    reports = {name: report(values) for name, values in sums.items()}
    rows = study.difference_rows(reports, {"learned": "price"})
    assert [(row["policy"], row["over"]) for row in rows] == [
        ("price", "formula"), ("learned", "formula"), ("learned", "price"),
    ]  # fmt: skip
    assert [row["delay_s"] for row in rows] == pytest.approx([-0.4, -0.2, 0.2])  # 4 s less of 10 requests
    assert [row["delay_s_half_width"] for row in rows] == pytest.approx([0.0] * 3, abs=1e-9)
    from jaxmec.reporting.console import terminal

    for reference, said in (("formula", "-20.0% ± 0.0%"), ("price", "+12.5% ± 0.0%")):  # of 2 s, of 1.6 s
        terminal(stderr=False).print(study.difference_table(reports, rows, reference))
        assert said in capsys.readouterr().out

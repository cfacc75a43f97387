"""Sentences of the study: each from made-up rows, in both directions, and where an interval holds zero."""

import math

import made_up
import numpy as np
import pytest


@pytest.fixture(scope="module")
def findings(command):
    return command("studies.findings")


def test_an_interval_that_holds_zero_is_no_direction(findings):
    assert [findings.direction(*one) for one in ((0.2, 0.1), (-0.2, 0.1), (0.1, 0.2), (-0.1, 0.2))] == [
        1,
        -1,
        0,
        0,
    ]
    assert findings.direction(0.5, math.nan) == 0  # a single value has no interval
    assert findings.direction(0.5, math.inf) == 0


def test_policies_are_faster_slower_or_not_told_apart(findings):
    rows = made_up.policies()
    told = findings.of_policies(rows)
    assert (
        told[0]
        == "Slower than best_response at equal energy: edge_only by 60.0 ± 0.5 % and closed_form by 3.0 ± 0.5 %."
    )
    assert told[1] == "No difference from best_response at equal energy is seen: learned."
    for row in rows:
        row["over_reference"] = -row["over_reference"]
    assert findings.of_policies(rows)[0].startswith(
        "Faster than best_response at equal energy: edge_only by 60.0 ± 0.5 %"
    )


def test_what_a_single_comparison_shows_may_be_chance_among_many(findings):
    rows = made_up.policies()
    closed_form = next(row for row in rows if row["policy"] == "closed_form")
    closed_form["p_value"] = 0.02  # below 0.05 on its own; Holm asks for 0.05 / 2
    assert "closed_form by" in findings.of_policies(rows)[0]
    closed_form["p_value"] = 0.03
    told = findings.of_policies(rows)
    assert "closed_form" not in told[0]
    assert told[1] == "No difference from best_response at equal energy is seen: closed_form and learned."


@pytest.mark.parametrize(
    ("use", "half", "words"),
    [
        (0.97, 0.01, "met with 3.0 ± 1.0 % to spare"),
        (1.2, 0.01, "exceeded by 20 ± 1 %"),
        (1.004, 0.01, "used up within the interval (100.4 ± 1.0 %)"),
    ],
)
def test_budgets_are_met_or_not_with_their_margin(findings, use, half, words):
    row = {"device_energy": use, "device_energy_ci95": half}
    assert findings.budget(row, "device_energy").startswith(words.rstrip("%"))


def test_nobody_over_the_budget_is_said_so(findings):
    rows = made_up.policies()
    assert (
        "The budget of the devices is not met in the mean by edge_only (exceeded by"
        in findings.of_policies(rows)[2]
    )
    assert (
        findings.of_policies(rows[1:])[-2] == "No policy is seen to exceed the budget of the devices in the mean."
    )


def test_the_tradeoff_is_told_by_its_ends_and_its_slope(findings):
    rows = made_up.tradeoff()
    told = findings.of_tradeoff(rows)
    assert told[0] == "The mean delay of best_response falls by 67 ± 5 % from V = 1 to 1000 (0.3 and 0.1 s)."
    assert told[1].startswith("Its devices' queues grow as V to the power 1.00 ± 0.00")
    for row in rows:
        row["delay_over_first_ci95"] = 0.7
        row["device_queue"] = 4.0 + (row["tradeoff"] == 10.0)
    told = findings.of_tradeoff(rows)
    assert "is not seen to change from V = 1 to 1000" in told[0]
    assert told[1] == "Its devices' queues are not seen to grow with V over these values."


def test_a_slope_has_the_interval_of_a_regression(findings):
    scipy_stats = pytest.importorskip("scipy.stats")
    x, y = np.array([0.0, 1.0, 2.0, 4.0]), np.array([0.1, 0.9, 2.2, 3.9])
    fit = scipy_stats.linregress(x, y)
    slope, half = findings.slope_and_interval(x, y)
    assert slope == pytest.approx(fit.slope)
    assert half == pytest.approx(scipy_stats.t.ppf(0.975, 2) * fit.stderr)


def test_the_learner_is_counted_over_systems(findings):
    rows = made_up.sensitivity()
    learned = [row for row in rows if row["policy"] == "learned"]
    learned[0] |= {"over_reference": 0.04, "over_reference_ci95": 0.01}
    learned[1] |= {"over_reference": -0.02, "over_reference_ci95": 0.01}
    assert findings.of_sensitivity(rows, "learned")[-1] == (
        "learned against best_response at equal energy, of 5 systems: faster in 1 (the scenario as it is by "
        "2.0 ± 1.0 %), slower in 1 (bandwidth × 0.5 by 4.0 ± 1.0 %), no difference seen in 3."
    )


def test_of_many_systems_the_least_and_the_largest_difference_are_told(findings):
    rows = [
        {"policy": "a", "users": n, "over_reference": 0.01 * n, "over_reference_ci95": 0.005} for n in (3, 1, 2, 4)
    ]
    told = findings.everywhere(rows, "a", "b", lambda row: f"{row['users']} users")
    assert "slower in 4 (1 users by 1.0 ± 0.5 %, 2 users by 2.0 ± 0.5 %, 3 users" in told[0]
    rows += [{**rows[0], "users": n, "over_reference": 0.01 * n} for n in (5, 6)]
    told = findings.everywhere(rows, "a", "b", lambda row: f"{row['users']} users")
    assert "slower in 6 (from 1 users by 1.0 ± 0.5 % to 6 users by 6.0 ± 0.5 %), no" in told[0]


def test_cuts_name_the_pair_that_changes_most_or_nobody(findings):
    told = findings.of_cuts(made_up.cuts())
    assert told[0] == (
        "best_response: between the worst channels and the best channels the share of work on the device changes most "
        "for resnet18 on raspberry_pi_4, from 0.70 to 0.10 (-0.60 ± 0.04)."
    )
    assert (
        told[1]
        == "best_response: no difference between the emptiest energy queues and the fullest energy queues is seen."
    )


def test_percentiles_and_misses_are_compared_in_shares_of_the_references(findings):
    told = findings.of_percentiles(made_up.percentiles(), "best_response")
    assert told[0].endswith("95 % within 0.3 s, and 2.00 ± 0.20 % miss their deadline.")
    assert told[1:3] == [
        "95th percentile, larger than best_response: closed_form by 3.0 ± 1.0 %.",
        "95th percentile, no difference from best_response is seen: learned.",
    ]


def test_ablations_say_who_breaks_the_budgets(findings):
    told = findings.of_ablations(made_up.ablations())
    assert told[0] == "Faster than the full system at equal energy: energy ignored by 15 ± 2 %."
    assert told[2] == "No difference from the full system at equal energy is seen: independent queues."
    assert told[3] == 'With "energy ignored" budgets are not met: the devices by 200 ± 2 %.'


def test_other_systems_are_told_apart_by_the_sign(findings):
    told = findings.of_generality(made_up.generality())
    assert [text.split(": ")[1] for text in told] == [
        "coinfer4:3 by 1.0 ± 0.5 %.",
        "mobile by 2.0 ± 0.5 %.",
        "coinfer10.",
    ]
    assert ["faster" in told[0], "slower" in told[1], "no difference" in told[2]] == [True] * 3


def test_captions_tell_seeds_episodes_slots_warm_up_and_comparisons(findings):
    facts = made_up.size(seeds={"learned": 5})
    assert findings.caption(facts) == (
        "Seeds: learned 5; 8 episodes of 30 slots, the same for all; no slot is left out. Intervals are 95 % each, of "
        "3 comparisons here."
    )

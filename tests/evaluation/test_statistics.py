"""Intervals against SciPy, by hand, and by how often they cover the truth."""

import numpy as np
import pytest
import scipy.stats

from jaxmec.evaluation import (
    bootstrap_interval,
    holm,
    interquartile_mean,
    mean_and_interval,
    paired_difference,
    paired_p_value,
)


def test_the_interval_is_students():
    values = np.random.default_rng(3).normal(2.0, 1.0, 7)
    mean, half = mean_and_interval(values)
    low, high = scipy.stats.t.interval(0.95, 6, loc=values.mean(), scale=scipy.stats.sem(values))
    np.testing.assert_allclose([mean - half, mean + half], [low, high])
    assert np.isnan(mean_and_interval(values[:1])[1])


@pytest.mark.parametrize("number", [5, 64])
def test_the_interval_covers_the_mean_as_often_as_it_says(number):
    draws = np.random.default_rng(0).normal(1.0, 2.0, (2000, number))
    covered = [abs(mean - 1.0) <= half for mean, half in map(mean_and_interval, draws)]
    assert abs(np.mean(covered) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


def test_a_paired_difference_knows_what_pairs_share():
    rng = np.random.default_rng(1)
    shared, own = rng.normal(0.0, 10.0, 50), rng.normal(0.0, 0.1, 50)
    mean, half = paired_difference(shared + 1.0 + own, shared)
    assert np.isclose(mean, 1.0 + own.mean())
    assert np.isclose(half, mean_and_interval(own)[1])
    assert half < 0.1 * mean_and_interval(shared)[1]


def test_interquartile_mean_by_hand_and_by_scipy():
    assert interquartile_mean(np.array([100.0, 1.0, 3.0, 2.0])) == 2.5
    assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 3.0  # a quarter of three is nothing
    scores = np.random.default_rng(0).normal(size=(7, 13))
    np.testing.assert_allclose(interquartile_mean(scores), scipy.stats.trim_mean(scores, 0.25, axis=-1))


def test_bootstrap_interval_against_scipy():
    scores = np.random.default_rng(1).exponential(size=12)
    ours = bootstrap_interval([scores], resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (scores,),
        lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis),
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    np.testing.assert_allclose(ours, (theirs.low, theirs.high), rtol=0.03)


def test_bootstrap_interval_covers_the_truth_and_keeps_strata_apart():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):  # of a symmetric distribution the interquartile mean is the mean
        low, high = bootstrap_interval([rng.normal(5.0, 1.0, size=20)], resamples=500, seed=trial)
        hits += low <= 5.0 <= high
    # A percentile interval of 20 runs covers a little less than it says; four standard errors around 92 %.
    assert abs(hits / 300 - 0.92) < 4 * np.sqrt(0.92 * 0.08 / 300)
    # Tasks a hundred apart, runs that agree: resampling within tasks knows the answer exactly.
    assert bootstrap_interval([np.full(4, 0.0), np.full(4, 100.0)]) == (50.0, 50.0)
    assert np.isnan(bootstrap_interval([np.array([1.0]), np.array([2.0])])).all()
    assert bootstrap_interval([np.array([1.0, np.inf, np.inf])])[1] == np.inf


def test_p_values_are_those_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    values, reference = rng.normal(0.3, 1.0, 12), rng.normal(0.0, 1.0, 12)
    assert paired_p_value(values, reference) == pytest.approx(scipy.stats.ttest_rel(values, reference).pvalue)
    assert paired_p_value(values, values) == 1.0
    assert paired_p_value(values + 1.0, values) == pytest.approx(0.0, abs=1e-12)


def test_holm_by_hand():
    # In order: 3 × 0.01, then 2 × 0.02 and 1 × 0.03, neither below the one before; 4 × p is above one nowhere here.
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]

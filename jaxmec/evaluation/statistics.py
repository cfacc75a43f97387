"""Means and their confidence intervals: of independent values, of paired differences, and robust ones of pooled runs;
several comparisons at once.

Source of the interquartile mean and its stratified bootstrap: Agarwal, Schwarzer, Castro, Courville and Bellemare,
"Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021 (arXiv 2108.13264).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit

RESAMPLES = 2000


def mean_and_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean of independent values [E] and the half-width of its 95 % confidence interval (Student's t).

    The half-width of a single value is not a number.
    """
    number = len(values)
    if number < 2:
        return float(values.mean()), float("nan")
    quantile = stdtrit(number - 1, 0.975)
    return float(values.mean()), float(quantile * values.std(ddof=1) / np.sqrt(number))


def paired_difference(values: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Mean of values - reference, pair by pair [E], and the half-width of its 95 % interval.

    Pairs that met the same random numbers share most of their scatter, which the difference does not have.
    """
    return mean_and_interval(values - reference)


def paired_p_value(values: np.ndarray, reference: np.ndarray) -> float:
    """Two-sided probability of a mean difference at least as large, pair by pair [E], if there were none (Student's t).

    One where all differences are zero, and not a number for a single pair.
    """
    mean, half = paired_difference(values, reference)
    if half == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    number = len(values)
    return float(2.0 * stdtr(number - 1, -abs(mean) / half * stdtrit(number - 1, 0.975)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Several comparisons' p values, adjusted so that all that are below α hold together with probability 1 - α.

    Source: S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6(2)
    (1979).
    """
    order = np.argsort(p_values)
    scaled = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half over the last axis: a quarter, rounded down, is left out at either end."""
    ordered = np.sort(scores, axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def bootstrap_interval(
    strata: Sequence[np.ndarray], level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the interquartile mean over all scores.

    Runs are drawn with replacement within each stratum, so every resample holds every task as often as the data.

    Args:
      strata: for each task, the scores [R] of its independent runs; the numbers of runs may differ.
      level: probability that the interval claims.
      resamples: bootstrap draws.
      seed: of the draws.

    Returns:
      Lower and upper end; NaN where no stratum holds two runs, for then nothing is known about the spread.
    """
    if all(len(scores) < 2 for scores in strata):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = [scores[rng.integers(len(scores), size=(resamples, len(scores)))] for scores in strata]
    means = interquartile_mean(np.concatenate(drawn, axis=-1))
    # Without interpolation, which would make NaN of the infinite scores of diverged runs.
    low, high = np.quantile(means, [(1.0 - level) / 2, (1.0 + level) / 2], method="nearest")
    return float(low), float(high)

"""Means and their confidence intervals: of independent values, of paired differences, and robust ones of pooled runs.

Source of the interquartile mean and its stratified bootstrap: Agarwal, Schwarzer, Castro, Courville and Bellemare,
"Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021 (arXiv 2108.13264).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

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

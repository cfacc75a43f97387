"""How long a network takes on hardware: a model of six constants, and its fit to measured times.

A piece of network takes the sum of its arithmetic by class (3 × 3 convolutions of stride 1, for which there are
Winograd's algorithms; other convolutions; matrix products and everything else; depthwise convolutions), the bytes
that its kernels move and the number of kernels, each over a rate of its own. Measurements of a handful of networks
do not determine six rates, so the fit is pulled towards what is usual: the logarithms of the constants have a
multivariate normal prior, whose mean and covariance were estimated from public measurements of 89 devices
(`latency_prior.json`, made by eval/latency.py). This is empirical Bayes: Gelman et al., "Bayesian Data Analysis",
3rd edition 2013, chapter 5.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmec.profiles import PartitionProfile

PRIOR_FILE = Path(__file__).parent / "latency_prior.json"
TERMS = ("winograd", "conv", "matmul", "depthwise", "bytes", "kernels")
_ITERATIONS = 30
_LONGEST_STEP = 3.0  # of a logarithm, per iteration


@dataclasses.dataclass(frozen=True)
class LatencyModel:
    """Constants of the latency model; an infinite rate leaves its term out."""

    winograd_flop_per_s: float  # 3 x 3 convolutions of stride 1
    conv_flop_per_s: float  # other convolutions
    matmul_flop_per_s: float  # matrix products, pointwise convolutions and all other operations
    depthwise_flop_per_s: float
    bytes_per_s: float
    kernel_s: float  # fixed cost of a kernel

    @classmethod
    def of(cls, seconds: np.ndarray) -> LatencyModel:
        """From seconds per unit of TERMS: float64[6]."""
        winograd, conv, matmul, depthwise, byte, kernel = (float(one) for one in seconds)
        return cls(1 / winograd, 1 / conv, 1 / matmul, 1 / depthwise, 1 / byte, kernel)

    def latency_s(self, profile: PartitionProfile) -> np.ndarray:
        """Modelled seconds of everything up to each cut: float64[K]."""
        rates = list(dataclasses.astuple(self))
        seconds = np.array([*(1 / rate for rate in rates[:-1]), rates[-1]])
        return terms(profile) @ seconds


class Prior(NamedTuple):
    """What is known of a device before it is measured."""

    mean: np.ndarray  # of the logarithms of the seconds per unit of TERMS: float64[6]
    covariance: np.ndarray  # float64[6, 6]
    error: float  # standard deviation of the logarithm of a measured over a modelled time


def terms(profile: PartitionProfile) -> np.ndarray:
    """Floating-point operations by class, bytes and kernels up to each cut: float64[K, 6]."""
    return np.stack(
        [
            2 * profile.winograd_macs,
            2 * profile.conv_macs,
            2 * profile.matmul_macs + profile.other_ops,
            2 * profile.depthwise_macs,
            profile.bytes_moved,
            profile.kernels,
        ],
        axis=1,
    )


@cache
def load_prior() -> Prior:
    """The prior that comes with the package."""
    data = json.loads(PRIOR_FILE.read_text())
    return Prior(np.array(data["mean"]), np.array(data["covariance"]), float(data["error"]))


def fit(work: np.ndarray, times_s: np.ndarray, prior: Prior, weights: np.ndarray | None = None) -> np.ndarray:
    """Seconds per unit of TERMS that are most probable after measurements: float64[6].

    Args:
      work: the terms of what was measured, float64[M, 6].
      times_s: its seconds, above 0, float64[M].
      prior: what is usual.
      weights: how many independent measurements each one stands for, float64[M]; 1 if absent.
    """
    weights = np.ones(len(times_s)) if weights is None else weights
    logarithms, _ = _most_probable(work, times_s[None], prior, weights)
    return np.exp(logarithms[0])


def pool(work: np.ndarray, times_s: np.ndarray, error: float, iterations: int = 15, trim: float = 0.1) -> Prior:
    """A prior from many devices: expectation maximisation, each device's posterior taken as normal at its mode.

    Args:
      work: the terms of N networks, float64[N, 6].
      times_s: their seconds on S devices, NaN where a network was not measured, float64[S, N].
      error: of the prior, which is not estimated.
      iterations: of the maximisation.
      trim: share of the devices that fit worst, which are left out once a first prior is there.
    """
    usual = np.nanmedian(times_s, axis=0)
    shares = usual[:, None] / np.where(work > 0, work, np.nan) / work.shape[1]
    number = work.shape[1]
    # Rates differ from device to device by their speed, which is common to all terms, and each for itself.
    prior = Prior(np.log(np.nanmedian(shares, axis=0)), np.eye(number) + 1.0, error)
    kept = np.ones(len(times_s), bool)
    for i in range(iterations):
        if i == iterations // 3:
            logarithms, _ = _most_probable(work, times_s, prior, np.ones(len(work)))
            misfit = np.nanmean(np.log(np.exp(logarithms) @ work.T / times_s) ** 2, axis=1)
            kept = misfit <= np.quantile(misfit, 1 - trim)
        logarithms, spread = _most_probable(work, times_s[kept], prior, np.ones(len(work)))
        mean = logarithms.mean(axis=0)
        around = logarithms - mean
        # A few devices of variance 1/20 keep the covariance from collapsing where a term never decides.
        covariance = (around.T @ around + spread.sum(axis=0) + 0.25 * np.eye(number)) / (len(around) + 5)
        prior = Prior(mean, covariance, error)
    return prior


def _most_probable(
    work: np.ndarray, times_s: np.ndarray, prior: Prior, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the constants of S devices, and the covariances of their posteriors.

    Gauss-Newton on the squared errors of log time, a step halved until it improves.

    Args:
      work: float64[M, 6].
      times_s: float64[S, M], NaN where not measured.
      prior: of the logarithms.
      weights: of the measurements, float64[M].

    Returns:
      float64[S, 6] and float64[S, 6, 6].
    """
    measured = np.isfinite(times_s)
    log_times = np.log(np.where(measured, times_s, 1.0))
    precision = measured * weights / prior.error**2
    prior_precision = np.linalg.inv(prior.covariance)

    def residuals(x: np.ndarray) -> np.ndarray:
        return np.log(np.exp(x) @ work.T) - log_times

    def cost(x: np.ndarray) -> np.ndarray:
        away = x - prior.mean
        return (precision * residuals(x) ** 2).sum(axis=1) + np.einsum("si,ij,sj->s", away, prior_precision, away)

    def curvature(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = np.exp(x)[:, None, :] * work
        slope = parts / parts.sum(axis=-1, keepdims=True)
        return slope, np.einsum("sm,smk,sml->skl", precision, slope, slope) + prior_precision

    x = np.tile(prior.mean, (len(times_s), 1))
    x -= (measured * residuals(x)).sum(axis=1, keepdims=True) / measured.sum(axis=1, keepdims=True)
    best = cost(x)
    for _ in range(_ITERATIONS):
        slope, hessian = curvature(x)
        gradient = np.einsum("sm,smk->sk", precision * residuals(x), slope) + (x - prior.mean) @ prior_precision
        step = -np.linalg.solve(hessian, gradient[..., None])[..., 0]
        step *= np.minimum(1.0, _LONGEST_STEP / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
        for _ in range(12):
            new = cost(x + step)
            worse = new > best
            if not worse.any():
                break
            step = np.where(worse[:, None], step / 2, step)
        x, best = np.where((new <= best)[:, None], x + step, x), np.minimum(new, best)
    return x, np.linalg.inv(curvature(x)[1])

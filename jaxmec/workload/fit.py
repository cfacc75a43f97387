"""A two-state Markov arrival process fitted to recorded requests, and how well it fits.

The numbers of requests per slot are Poisson given a hidden Markov chain of two rates, so the likelihood is maximised
by the Baum-Welch algorithm. How bursty the result is over longer times than a slot is not fitted but told beside the
recording: the index of dispersion for counts, variance over mean of the requests in a window.

Sources: L. R. Rabiner, "A Tutorial on Hidden Markov Models", Proc. IEEE 77 (1989); W. Fischer and K. Meier-Hellstern,
"The Markov-modulated Poisson process (MMPP) cookbook", Performance Evaluation 18 (1993); R. Gusella,
"Characterizing the Variability of Arrival Processes with Indexes of Dispersion", IEEE JSAC 9 (1991).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxmec.recordings import MAX_SLOTS

FEWEST_WINDOWS = 20  # that a variance is estimated from
SMALLEST = 1e-9  # probability; what is impossible is never learned to be possible
LOWEST_RATE = 1e-3  # requests per slot and mean; a rate of zero would never be left by the likelihood


@dataclasses.dataclass(frozen=True)
class MarkovFit:
    """The process and its error."""

    low_hz: float
    high_hz: float
    stay_probability: tuple[float, float]  # at the low and at the high rate, from slot to slot
    slot_s: float
    log_likelihood: float  # per slot, nats
    poisson_log_likelihood: float  # the same of a single rate
    window_s: np.ndarray  # [W] over which dispersion is told
    dispersion: np.ndarray  # [W] index of the recording; 1 is Poisson
    fitted_dispersion: np.ndarray  # [W] index of the process

    @property
    def high_share(self) -> float:
        """Share of the slots at the high rate."""
        leave_low, leave_high = (1.0 - stay for stay in self.stay_probability)
        return leave_low / (leave_low + leave_high)

    @property
    def mean_hz(self) -> float:
        """Mean rate of the process."""
        return self.low_hz + (self.high_hz - self.low_hz) * self.high_share

    @property
    def dispersion_error(self) -> np.ndarray:
        """[W] relative error of the process's index of dispersion."""
        return self.fitted_dispersion / self.dispersion - 1.0


def fit_markov(
    times_s: np.ndarray, slot_s: float, window_s: Sequence[float] | None = None, iterations: int = 100
) -> MarkovFit:
    """Fit two rates and the probabilities of staying at each to the times of requests.

    Args:
      times_s: [R] in order, s, as `load_request_times` gives them.
      slot_s: length of a slot, s; rates last for whole slots.
      window_s: lengths of time to tell the index of dispersion for; by default one slot and its doublings, as long
        as the recording has twenty of them.
      iterations: passes of the Baum-Welch algorithm.

    Raises:
      ValueError: if the recording has fewer than twenty slots, more than ten million, fewer than twenty windows, or
        the same number of requests in every slot.
    """
    num_slots = (times_s[-1] - times_s[0]) / slot_s
    if not FEWEST_WINDOWS <= num_slots <= MAX_SLOTS:
        raise ValueError(
            f"slot_s: got {slot_s:g}, {num_slots:.3g} slots; allowed are {FEWEST_WINDOWS} to {MAX_SLOTS:,}"
        )
    counts = np.bincount(((times_s - times_s[0]) / slot_s).astype(int)).astype(float)
    if window_s is None:
        doublings = int(np.log2(len(counts) / FEWEST_WINDOWS))
        window_s = [slot_s * 2.0**i for i in range(doublings + 1)]
    window_slots = np.maximum(np.round(np.asarray(window_s) / slot_s).astype(int), 1)
    longest = int(window_slots.max())
    if len(counts) // longest < FEWEST_WINDOWS:
        raise ValueError(
            f"window_s: got {longest * slot_s:g}; the recording must have {FEWEST_WINDOWS} windows "
            f"and lasts {len(counts) * slot_s:g} s"
        )
    rates, stay = _start(counts)
    for _ in range(iterations):
        rates, stay, log_likelihood = _improve(counts, rates, stay)
    return MarkovFit(
        low_hz=float(rates[0]) / slot_s,
        high_hz=float(rates[1]) / slot_s,
        stay_probability=(float(stay[0]), float(stay[1])),
        slot_s=slot_s,
        log_likelihood=log_likelihood / len(counts),
        poisson_log_likelihood=float(
            np.mean(counts * np.log(counts.mean()) - counts.mean() - _log_factorial(counts))
        ),
        window_s=window_slots * slot_s,
        dispersion=np.array([_dispersion(counts, window) for window in window_slots]),
        fitted_dispersion=process_dispersion(rates, stay, window_slots),
    )


def _start(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rates per slot [2] below and above the mean, and the observed probabilities [2] of staying there."""
    high = counts > counts.mean()
    if not high.any():
        raise ValueError("times_s: every slot has as many requests as the others; there are no two rates to fit")
    rates = np.array([counts[~high].mean(), counts[high].mean()])
    stay = [np.mean(high[1:][high[:-1] == state] == state) for state in (False, True)]
    return np.maximum(rates, LOWEST_RATE * counts.mean()), np.clip(stay, 0.05, 0.95)


def _improve(counts: np.ndarray, rates: np.ndarray, stay: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """One pass of Baum-Welch: better rates and probabilities, and the log likelihood of those that were given."""
    log_emission = counts[:, None] * np.log(rates) - rates - _log_factorial(counts)[:, None]
    scale = log_emission.max(axis=1)
    emission = np.exp(log_emission - scale[:, None])
    move = np.array([[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]])
    predicted, filtered, evidence = _filter(emission, move)
    smoothed = _smooth(predicted, filtered, move)
    # Expected moves from state i to j: filtered_i move_ij smoothed_j / predicted_j
    moves = move * (filtered[:-1].T @ (smoothed[1:] / predicted[1:]))
    rates = np.maximum(smoothed.T @ counts / smoothed.sum(axis=0), LOWEST_RATE * counts.mean())
    stay = np.clip(np.diag(moves) / moves.sum(axis=1), SMALLEST, 1 - SMALLEST)
    return rates, stay, float(np.log(evidence).sum() + scale.sum())


def _filter(emission: np.ndarray, move: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of the states [T, 2] before and after each count, and how likely [T] the count was."""
    (_, rise), (fall, hold) = move.tolist()
    high = rise / (rise + fall)
    predicted, filtered, evidence = [], [], []
    for at_low, at_high in emission.tolist():
        likely = (1 - high) * at_low + high * at_high
        predicted.append((1 - high, high))
        high = min(max(high * at_high / likely, SMALLEST), 1 - SMALLEST)
        filtered.append((1 - high, high))
        evidence.append(likely)
        high = (1 - high) * rise + high * hold
    return np.array(predicted), np.array(filtered), np.array(evidence)


def _smooth(predicted: np.ndarray, filtered: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Probabilities of the states [T, 2] given all counts."""
    fall, hold = move[1].tolist()
    high = float(filtered[-1, 1])
    smoothed = [high]
    for (next_low, next_high), now_high in zip(
        predicted[:0:-1].tolist(), filtered[-2::-1, 1].tolist(), strict=True
    ):
        high = now_high * (fall * (1 - high) / next_low + hold * high / next_high)
        smoothed.append(high)
    high_share = np.array(smoothed[::-1])
    return np.stack([1 - high_share, high_share], axis=1)


def _dispersion(counts: np.ndarray, window: int) -> float:
    """Variance over mean of the requests in windows of so many slots."""
    whole = len(counts) // window * window
    sums = counts[:whole].reshape(-1, window).sum(axis=1)
    return float(sums.var(ddof=1) / sums.mean())


def process_dispersion(rates: np.ndarray, stay: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Variance over mean of the requests of a process in windows of n slots: [W].

    1 + v/m (1 + 2 Σ_k (1 - k/n) r^k), summed over k = 1..n-1, of the rate's mean m, variance v and correlation r.

    Args:
      rates: [2] requests per slot.
      stay: [2] probabilities of staying at each.
      windows: int[W] slots.
    """
    leave = 1.0 - stay
    high_share = leave[0] / leave.sum()
    mean = rates[0] + (rates[1] - rates[0]) * high_share
    variance = high_share * (1 - high_share) * (rates[1] - rates[0]) ** 2
    lags = [np.arange(1, n) for n in windows]
    memory = [1 + 2 * np.sum((1 - k / n) * (1 - leave.sum()) ** k) for k, n in zip(lags, windows, strict=True)]
    return 1.0 + variance / mean * np.array(memory)


def _log_factorial(counts: np.ndarray) -> np.ndarray:
    """log(n!) of whole numbers [T]."""
    table = np.append(0.0, np.cumsum(np.log(np.arange(1, counts.max() + 1))))
    return table[counts.astype(int)]

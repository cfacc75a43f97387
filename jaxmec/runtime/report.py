"""Predicted beside measured: stage times, mean and p95 delay, bytes."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
from rich.table import Table

from jaxmec.delay import serial_delay
from jaxmec.runtime.device import Record, StageTimes

STAGES = ("device", "uplink", "server")
BATCHES = 20  # of consecutive requests, for the interval of the mean
KNEE = 0.99  # utilisation past which the formula is continued along its tangent
_T_975 = 2.093  # of Student's t with BATCHES - 1 degrees of freedom

Arrivals = Literal["poisson", "clocked"]


def arrivals(kind: Arrivals, rate_hz: float, requests: int, seed: int = 0) -> np.ndarray:
    """Times of requests, seconds from the start: float64[requests].

    Args:
      kind: "poisson", with exponential gaps, or "clocked", with equal ones.
      rate_hz: requests per second.
      requests: how many.
      seed: of the gaps.

    Raises:
      ValueError: for another kind, or a rate or number out of range.
    """
    if not 0 < rate_hz < math.inf:
        raise ValueError(f"rate: got {rate_hz}; allowed is a finite number above 0")
    if requests < 1:
        raise ValueError(f"requests: got {requests}; allowed is a whole number of at least 1")
    if kind == "clocked":
        return np.arange(requests) / rate_hz
    if kind != "poisson":
        raise ValueError(f"arrivals: got {kind!r}; allowed are 'poisson' and 'clocked'")
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate_hz, requests))


def tandem_delays_s(arrival_s: np.ndarray, service_s: np.ndarray) -> np.ndarray:
    """Delays of requests through queues in series, first come, first served: Lindley's recursion, stage by stage.

    Source: D. V. Lindley, "The theory of queues with a single server", Proc. Cambridge Phil. Soc. 48:277 (1952).

    Args:
      arrival_s: in order, [R].
      service_s: of each request at each stage, [R, stages], or of every request, [stages].

    Returns:
      Seconds from arrival to the end of the last stage, [R].
    """
    service_s = np.broadcast_to(service_s, (len(arrival_s), np.shape(service_s)[-1]))
    ready_s = np.array(arrival_s, float)
    for stage in service_s.T:
        free_s = -math.inf
        for index, seconds in enumerate(stage):
            free_s = ready_s[index] = max(free_s, ready_s[index]) + seconds
    return ready_s - arrival_s


@dataclasses.dataclass(frozen=True)
class Report:
    """What was measured at one cut, beside what the stage times of halves alone predict."""

    predicted: StageTimes
    records: Sequence[Record]  # of one cut, in order of arrival
    rate_hz: float
    kind: Arrivals = "poisson"

    @property
    def predicted_stages_s(self) -> np.ndarray:
        """Device, uplink and server, each alone: float64[3]."""
        return np.array([self.predicted.device_s, self.predicted.uplink_s, self.predicted.server_s])

    @property
    def measured_stages_s(self) -> np.ndarray:
        """Service times in the run, without waiting: float64[R, 3].

        A stage's service of a request begins when the request is there and the one before has left.
        """
        times = np.array(
            [
                [
                    *(one.device_start_s, one.device_end_s),
                    one.uplink_end_s,
                    *(one.server_start_s, one.server_end_s),
                ]
                for one in self.records
            ]
        )
        before = np.concatenate([[-math.inf], times[:-1, 2]])
        uplink_s = times[:, 2] - np.maximum(times[:, 1], before)
        return np.stack([times[:, 1] - times[:, 0], uplink_s, times[:, 4] - times[:, 3]], axis=-1)

    @property
    def delays_s(self) -> np.ndarray:
        """From scheduled arrival to answer: float64[R]."""
        return np.array([one.delay_s for one in self.records])

    def formula_s(self, stages_s: np.ndarray | None = None) -> float:
        """Mean delay by `jaxmec.delay.serial_delay`; without waiting where arrivals are clocked.

        Args:
          stages_s: [3]; those of the halves alone if absent.
        """
        stages_s = self.predicted_stages_s if stages_s is None else stages_s
        rate_hz = self.rate_hz if self.kind == "poisson" else 0.0
        return float(serial_delay(jnp.asarray(stages_s), jnp.asarray(rate_hz), KNEE))

    def recursion_s(self) -> np.ndarray:
        """Delays of this run's own arrivals through the halves' times alone: float64[R]."""
        return tandem_delays_s(self._arrivals_s(), self.predicted_stages_s)

    def hand_over_s(self) -> np.ndarray:
        """What no stage accounts for, such as waking a thread: delays less those of the measured services: [R]."""
        return self.delays_s - tandem_delays_s(self._arrivals_s(), self.measured_stages_s)

    def mean_and_interval_s(self) -> tuple[float, float]:
        """Mean delay and half the width of its 95 % interval by batch means; nan with too few requests."""
        delays_s = self.delays_s
        if len(delays_s) < 2 * BATCHES:
            return float(delays_s.mean()), math.nan
        means = [batch.mean() for batch in np.array_split(delays_s, BATCHES)]
        return float(delays_s.mean()), _T_975 * float(np.std(means, ddof=1)) / math.sqrt(BATCHES)

    def table(self, title: str) -> Table:
        """For a terminal."""
        table = Table(title=title, highlight=False)
        for header in ("", "predicted", "measured"):
            table.add_column(header, justify="left" if not header else "right")
        measured = self.measured_stages_s
        for index, name in enumerate(STAGES):
            mean_s, high_s = measured[:, index].mean(), np.quantile(measured[:, index], 0.95)
            table.add_row(
                f"{name} (ms)",
                f"{1e3 * self.predicted_stages_s[index]:.2f}",
                f"{1e3 * mean_s:.2f} (p95 {1e3 * high_s:.2f})",
            )
        table.add_row("hand-overs (ms)", "", f"{1e3 * self.hand_over_s().mean():.2f}")
        mean_s, half_s = self.mean_and_interval_s()
        recursion_s = self.recursion_s()
        table.add_row("mean delay (ms), formula", f"{1e3 * self.formula_s():.2f}", "")
        table.add_row(
            "mean delay (ms), these arrivals",
            f"{1e3 * recursion_s.mean():.2f}",
            f"{1e3 * mean_s:.2f} ± {1e3 * half_s:.2f}",
        )
        p95_s = (float(np.quantile(delays, 0.95)) for delays in (recursion_s, self.delays_s))
        table.add_row("p95 delay (ms), these arrivals", *(f"{1e3 * seconds:.2f}" for seconds in p95_s))
        sent = np.mean([one.message_bytes for one in self.records])
        table.add_row("bytes per request", f"{self.predicted.message_bytes}", f"{sent:.0f}")
        return table

    def _arrivals_s(self) -> np.ndarray:
        return np.array([one.arrival_s for one in self.records])


def write_records(path: Path, records: Sequence[Record]) -> None:
    """One row per answered request as CSV, written beside and renamed."""
    beside = path.with_name(path.name + ".part")
    with beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=[field.name for field in dataclasses.fields(Record)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(one) for one in records)
    beside.replace(path)

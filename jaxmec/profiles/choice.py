"""Where to cut against the rate of the uplink, and whether cutting is worth it at all."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from jaxmec.profiles.table import PartitionProfile, Stages

OBJECTIVES = ("latency", "energy", "throughput", "memory")


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a cut costs, by objective.

    latency: seconds of one request, alone and with all speed; energy: joules of the device and its radio per
    request; throughput: seconds of the slowest stage, whose inverse is the highest rate of requests; memory: bytes
    that the device holds, activations at their peak and parameters.
    """

    device_power_w: float  # active, at full speed
    tx_power_w: float = 0.2
    downlink_bps: float = math.inf
    round_trip_s: float = 0.0

    def of(self, objective: str, table: PartitionProfile, stages: Stages, rate_bps: np.ndarray) -> np.ndarray:
        """The cost of every cut at every uplink rate [R]: float64[R, K].

        Raises:
          ValueError: for an unknown objective, or memory of a table without it.
        """
        if objective == "latency":
            return np.array([stages.delay_s(rate, self.downlink_bps, self.round_trip_s) for rate in rate_bps])
        uplink_s = stages.uplink_bits / rate_bps[:, None]
        if objective == "energy":
            return self.device_power_w * stages.device_work_s + self.tx_power_w * uplink_s
        if objective == "throughput":
            others = np.stack(
                [stages.device_work_s, stages.server_work_s, stages.downlink_bits / self.downlink_bps]
            )
            return np.maximum(uplink_s, others.max(axis=0))
        if objective == "memory":
            if table.device_peak_bytes is None or table.device_weight_bytes is None:
                raise ValueError(f"profile {table.name!r}: device_peak_bytes: got None; memory is not known")
            return np.broadcast_to(table.device_peak_bytes + table.device_weight_bytes, uplink_s.shape)
        raise ValueError(f"objective: got {objective!r}; allowed are {', '.join(OBJECTIVES)}")


@dataclasses.dataclass(frozen=True)
class Choice:
    """The best cut at every uplink rate; arrays [R]."""

    objective: str
    rate_bps: np.ndarray
    best: np.ndarray  # int
    cost: np.ndarray  # of this cut
    end_loss: np.ndarray  # how much more the better of all-on-the-server and all-on-the-device costs, relative
    error_loss: np.ndarray  # how much more than the best this cut costs where the seconds err, relative, at most
    last: int  # the cut that runs all on the device

    @property
    def is_middle(self) -> np.ndarray:
        """Whether a cut inside beats both ends: bool[R]."""
        return (self.best > 0) & (self.best < self.last) & (self.end_loss > 0)

    @property
    def is_worth_it(self) -> np.ndarray:
        """Whether it beats them by more than an error of the model may cost: bool[R]."""
        return self.is_middle & (self.end_loss > self.error_loss)

    def verdict(self) -> str:
        """The answer in a sentence."""
        middle = np.flatnonzero(self.is_middle)
        if not len(middle):
            ends = {"all on the server": self.best == 0, "all on the device": self.best > 0}
            parts = [f"{name} {self._rates(np.flatnonzero(where))}" for name, where in ends.items() if where.any()]
            return f"{self.objective}: cutting is not worth it: {', '.join(parts)}"
        most = middle[np.argmax(self.end_loss[middle])]
        text = (
            f"{self.objective}: a cut inside is best {self._rates(middle)}, by at most {self.end_loss[most]:.1%} "
            f"(cut {self.best[most]} at {_readable(self.rate_bps[most])})"
        )
        worth = np.flatnonzero(self.is_worth_it)
        if not len(worth):
            return f"{text}; the model's error may cost more: cutting is not worth it"
        return text + (
            "" if len(worth) == len(middle) else f"; by more than the model's error may cost {self._rates(worth)}"
        )

    def _rates(self, which: np.ndarray) -> str:
        """Indices of rates as ranges."""
        if len(which) == len(self.rate_bps):
            return "at every rate"
        ranges = np.split(which, np.flatnonzero(np.diff(which) > 1) + 1)
        texts = [f"{_readable(self.rate_bps[one[0]])} to {_readable(self.rate_bps[one[-1]])}" for one in ranges]
        return f"from {' and '.join(texts)}"


def choose(
    table: PartitionProfile,
    stages: Stages,
    rate_bps: np.ndarray,
    costs: Costs,
    objective: str = "latency",
    device_error: float = 0.0,
    server_error: float = 0.0,
) -> Choice:
    """The best cut at every uplink rate, and what it is worth.

    Args:
      table: the cut table.
      stages: its demands, see `jaxmec.devices.stage_seconds`.
      rate_bps: of the uplink, bits per second, [R].
      costs: powers and the way back.
      objective: one of OBJECTIVES.
      device_error: relative error of the device's seconds. `error_loss` is the largest loss where the truth is
        1 + error times the modelled seconds, or the modelled seconds over 1 + error, on each of the two.
      server_error: likewise.
    """
    rate_bps = np.asarray(rate_bps, float)
    rows = np.arange(len(rate_bps))
    cost = costs.of(objective, table, stages, rate_bps)
    best = cost.argmin(axis=1)
    at_best = cost[rows, best]
    error_loss = np.zeros(len(rate_bps))
    device_factors, server_factors = ((1 + error, 1 / (1 + error)) for error in (device_error, server_error))
    for device, server in itertools.product(device_factors, server_factors):
        truth = dataclasses.replace(
            stages, device_work_s=device * stages.device_work_s, server_work_s=server * stages.server_work_s
        )
        true_cost = costs.of(objective, table, truth, rate_bps)
        error_loss = np.maximum(error_loss, _over(true_cost[rows, best], true_cost.min(axis=1)))
    return Choice(
        objective=objective,
        rate_bps=rate_bps,
        best=best,
        cost=at_best,
        end_loss=_over(np.minimum(cost[:, 0], cost[:, -1]), at_best),
        error_loss=error_loss,
        last=len(table) - 1,
    )


def _over(cost: np.ndarray, least: np.ndarray) -> np.ndarray:
    """How much more than the least a cost is, relative; nothing at all is infinitely less than something."""
    relative = cost / np.where(least > 0, least, 1.0) - 1
    return np.where(least > 0, relative, np.where(cost > 0, np.inf, 0.0))


def _readable(rate_bps: float) -> str:
    return f"{rate_bps / 1e9:.3g} Gbit/s" if rate_bps >= 1e9 else f"{rate_bps / 1e6:.3g} Mbit/s"

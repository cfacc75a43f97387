"""The fidelity of the environment at which every request is simulated."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.requests.queue import Slot, serve

if TYPE_CHECKING:
    from jaxmec.env import Decision, EnvParams, EnvState

_SMALLEST_S = 1e-3  # backlogs shorter than this look alike
_RAREST = 1e-6  # expected requests of a user that has none


class Carried(struct.PyTreeNode):
    """What a slot leaves to the next."""

    arrivals: Any  # of the process of requests
    backlog_s: Array  # [N, 3] until each stage has finished every request that has arrived


@dataclasses.dataclass(frozen=True)
class RequestFidelity:
    """Every request through the three queues, what is unfinished carried over; see `jaxmec.fidelity.Fidelity`.

    `max_requests`, R, is the most that a user's slot has room for; `record` tells the times of each request.
    """

    max_requests: int
    record: bool = False

    user_features = ("device backlog", "uplink backlog", "server backlog", "deadline")
    reward_signals = ("objective", "late", "environment")

    def init(self, key: Array, params: EnvParams) -> Carried:
        """Empty queues."""
        num_users = params.deadline_s.shape[0]
        return Carried(params.requests.init(key, num_users), jnp.zeros((num_users, 3), params.deadline_s.dtype))

    def backlog_price(self, state: EnvState, delay_price: Array, params: EnvParams) -> Array | None:
        """Weight times unfinished work times the price of delay: [N].

        Work that a slot adds to a backlog of Q seconds makes all requests wait longer until the backlog is gone, for
        Q / (1 - ρ) seconds if later slots have load ρ: the weight of a fluid is 1 / (1 - ρ).
        """
        if params.backlog_weight is None:
            return None
        return params.backlog_weight * delay_price * state.fidelity.backlog_s[:, -1]

    def play(
        self, key: Array, state: EnvState, decision: Decision, params: EnvParams
    ) -> tuple[Carried, dict[str, Array]]:
        """Draw the slot's requests and serve them.

        Returns:
          What is carried on, and of the requests that arrived in the slot:
            request_count int32[N]; request_delay_s, request_delay_max_s [N], zero where none arrived;
            late int32[N] that miss the deadline; overflow int32[N] that came beyond `max_requests`, not simulated;
            backlog_s [N, 3] after the slot's end until each stage has finished every request so far;
            request_objective [] the slot objective with the delay per expected request for the mean delay;
            late_objective [] the same if a request costs its deadline when it misses it, and nothing else;
            where they are recorded, request_arrival_s [R, N] and request_departure_s [R, N, 3] from each stage, both
            after the slot's start and without meaning past `request_count`, and request_return_s [N] from the last
            stage back to the user.
        """
        problem, carried = decision.problem, state.fidelity
        expected = problem.arrival_rate_hz * params.slot_s
        drawn = params.requests.draw(key, carried.arrivals, self.max_requests)
        met = params.slot_s, decision.stage_times, carried.backlog_s, params.deadline_s, problem.return_s
        slot = Slot(drawn, expected, *met)
        served = serve(params.requests.intervals, slot, self.record)
        carried = Carried(
            arrivals=params.requests.step(carried.arrivals, drawn, served.count, served.wait),
            backlog_s=jnp.maximum(served.free_s - params.slot_s, 0.0),
        )

        def objective(seconds: Array) -> Array:
            per_request = seconds / jnp.maximum(expected, _RAREST)
            return decision.outcome.objective + jnp.sum(
                problem.delay_price * (per_request - decision.outcome.delay_s)
            )

        info = {
            "request_count": served.count,
            "request_delay_s": served.total_s / jnp.maximum(served.count, 1),
            "request_delay_max_s": served.max_s,
            "late": served.late,
            "overflow": served.overflow,
            "backlog_s": carried.backlog_s,
            "request_objective": objective(served.total_s),
            "late_objective": objective(served.late * params.deadline_s),
        }
        if served.arrival_s is not None and served.departure_s is not None:
            info |= {
                "request_arrival_s": served.arrival_s,
                "request_departure_s": served.departure_s,
                "request_return_s": jnp.zeros_like(expected) if problem.return_s is None else problem.return_s,
            }
        return carried, info

    def features(self, state: EnvState, params: EnvParams) -> tuple[Array, ...]:
        """Backlogs of the three stages and the deadline, base-10 logarithms of seconds, each [N]."""
        backlog_s = state.fidelity.backlog_s
        seconds = backlog_s[:, 0], backlog_s[:, 1], backlog_s[:, 2], params.deadline_s
        return tuple(jnp.log10(each + _SMALLEST_S) for each in seconds)

    def signal(self, name: str, info: dict[str, Array], log_expected: Array) -> Array:
        """Minus the objective of the requests, or of those that are late, over what the closed form expected: [].

        No logarithm here, as that of the formula has: the mean of a logarithm would forgive overload.
        """
        objective = info["late_objective" if name == "late" else "request_objective"]
        return -objective * jnp.exp(-log_expected)

    def metrics(self, info: dict[str, Array]) -> dict[str, Array]:
        """Of all requests of the slot, each []: mean delay, share that is late, and the longest backlog's mean."""
        count = jnp.maximum(jnp.sum(info["request_count"]), 1)
        return {
            "request_delay_s": jnp.sum(info["request_count"] * info["request_delay_s"]) / count,
            "late": jnp.sum(info["late"]) / count,
            "backlog_s": jnp.mean(info["backlog_s"][:, -1]),
            "overflow": jnp.sum(info["overflow"]) / count,
        }

"""The fidelity of the environment at which every request is simulated."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.requests.queue import serve

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

    `max_requests` is the most that a user's slot has room for.
    """

    max_requests: int

    user_features = ("device backlog", "uplink backlog", "server backlog", "deadline")
    reward_signals = ("objective", "late", "environment")

    def init(self, key: Array, params: EnvParams) -> Carried:
        """Empty queues."""
        num_users = params.deadline_s.shape[0]
        return Carried(params.requests.init(key, num_users), jnp.zeros((num_users, 3), params.deadline_s.dtype))

    def play(
        self, key: Array, state: EnvState, decision: Decision, params: EnvParams
    ) -> tuple[Carried, dict[str, Array]]:
        """Draw the slot's requests and serve them.

        Returns:
          What is carried on, and of the requests that arrived in the slot:
            request_count int32[N]; request_delay_s, request_delay_max_s [N], zero where none arrived;
            late int32[N] that miss the deadline; overflow int32[N] that came beyond `max_requests`, not simulated;
            backlog_s [N, 3] after the slot's end until each stage has finished every request so far;
            request_delays_s [R, N] of each request, zero past `request_count`;
            request_objective [] the slot objective with the delay per expected request for the mean delay;
            late_objective [] the same if a request costs its deadline when it misses it, and nothing else.
        """
        problem = decision.problem
        expected = problem.arrival_rate_hz * params.slot_s
        process, arrived = params.requests.draw(key, state.fidelity.arrivals, expected, self.max_requests)
        arrival_s = arrived.time / jnp.maximum(expected, _RAREST) * params.slot_s
        departure_s, free_s = serve(arrival_s, arrived.count, decision.stage_times, state.fidelity.backlog_s)
        exists = jnp.arange(self.max_requests, dtype=arrived.count.dtype)[:, None] < arrived.count
        delays_s = jnp.where(exists, departure_s[..., -1] - arrival_s, 0.0)
        total_s = jnp.sum(delays_s, axis=0)
        late = jnp.sum(delays_s > params.deadline_s, axis=0, dtype=jnp.int32)
        backlog_s = jnp.maximum(free_s - params.slot_s, 0.0)

        def objective(seconds: Array) -> Array:
            per_request = seconds / jnp.maximum(expected, _RAREST)
            return decision.outcome.objective + jnp.sum(
                problem.delay_price * (per_request - decision.outcome.delay_s)
            )

        return Carried(process, backlog_s), {
            "request_count": arrived.count,
            "request_delay_s": total_s / jnp.maximum(arrived.count, 1),
            "request_delay_max_s": jnp.max(delays_s, axis=0),
            "late": late,
            "overflow": arrived.overflow,
            "backlog_s": backlog_s,
            "request_delays_s": delays_s,
            "request_objective": objective(total_s),
            "late_objective": objective(late * params.deadline_s),
        }

    def features(self, state: EnvState, params: EnvParams) -> Array:
        """Backlogs and deadline, base-10 logarithms of seconds: [N, 4]."""
        seconds = jnp.concatenate([state.fidelity.backlog_s, params.deadline_s[:, None]], axis=-1)
        return jnp.log10(seconds + _SMALLEST_S)

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

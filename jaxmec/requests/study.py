"""What users are judged by: percentiles, deadline misses and backlog of a policy, with confidence intervals.

Replications are independent: each has its own population, channels, arrivals and requests. What they count is added
up, and the estimates are functions of the sums; their intervals come from the jackknife, which leaves out one
replication after the other (B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), ch. 11).

The first slots, in which queues fill, are cut by the MSER-5 rule: of the means of five slots each, over all
replications, as many are left out as make the standard error of the mean of the rest smallest, at most half (K. P.
White, "An Effective Truncation Heuristic for Bias Reduction in Simulation Output", Simulation 69(6) (1997)).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from scipy.special import stdtrit

from jaxmec.config import ConfigError, build, number
from jaxmec.environment import Policy
from jaxmec.requests.fidelity import RequestFidelity
from jaxmec.requests.sketch import LogHistogram
from jaxmec.rollout import Slot, rollout

if TYPE_CHECKING:
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState

PILOT_SLOTS = 400  # in which the warm-up is looked for
BATCH_SLOTS = 5  # of the rule
CHUNK_SLOTS = 50  # that are simulated at a time: memory does not grow with the length of a run
PERCENTILES = (50, 95, 99)


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """How much is simulated."""

    num_slots: int = number(1000, at_least=CHUNK_SLOTS, at_most=10**9)
    """Of a replication, after the warm-up; rounded up to chunks."""
    replications: int = number(32, at_least=2, at_most=10**6)  # of the first round, and of every further one
    max_replications: int = number(512, at_least=2, at_most=10**6)
    precision: float | None = number(None, above=0, at_most=1e3)
    """Half-width of the mean delay's interval over it; None: one round."""
    level: float = number(0.95, above=0, at_most=0.9999)  # of the intervals
    warm_up_slots: int | None = number(None, at_least=0, at_most=10**9)  # None: by MSER-5

    def __post_init__(self) -> None:
        if self.max_replications < self.replications:
            raise ConfigError(
                f"max_replications: got {self.max_replications}; allowed is at least replications = {self.replications}"
            )


class Estimate(NamedTuple):
    """A figure and half the width of its confidence interval."""

    value: float
    half_width: float


@dataclasses.dataclass(frozen=True)
class RequestReport:
    """What a study found. E replications."""

    estimates: dict[str, Estimate]
    """delay_s, p50_s, p95_s, p99_s of requests; late, the share that misses its deadline; backlog_s, mean over users
    and slots of the time that a user's stages need for what has arrived; overflow, requests not simulated per request
    that was."""
    tally: Tally  # of the replications, leaves [E, ...]
    warm_up_slots: int
    settled: bool  # whether the warm-up was found before half of the pilot; if not, the system may be overloaded
    precise: bool  # whether the precision that was asked for is reached
    level: float
    sketch: LogHistogram = LogHistogram()

    @property
    def means_s(self) -> np.ndarray:
        """Mean delay of each replication [E]."""
        return self.tally.delay_s / self.tally.requests

    @property
    def counts(self) -> np.ndarray:
        """Sketch of all delays [size]."""
        return self.tally.sketch.sum(axis=0)

    @property
    def requests(self) -> int:
        """How many were simulated."""
        return int(self.tally.requests.sum())

    def over(self, reference: RequestReport) -> dict[str, Estimate]:
        """Differences of the estimates from another policy's of the same study, with paired intervals.

        Both met the same populations, channels and requests, whose scatter is not in the differences.

        Raises:
          ValueError: if the reports have different numbers of replications.
        """
        if len(self.means_s) != len(reference.means_s):
            raise ValueError(
                f"reference: got {len(reference.means_s)} replications; allowed are {len(self.means_s)}, the same ones"
            )
        both = self.tally, reference.tally

        def difference(statistic: Callable[[Tally], np.ndarray], both: tuple[Tally, Tally]) -> np.ndarray:
            return statistic(both[0]) - statistic(both[1])

        return {
            name: estimate(both, partial(difference, statistic), self.level)
            for name, statistic in STATISTICS.items()
        }


class Tally(struct.PyTreeNode):
    """What replications count; leaves [E, ...]."""

    requests: Any
    delay_s: Any  # sum
    late: Any
    overflow: Any
    backlog_s: Any  # sum over slots of the mean over users
    slots: Any
    sketch: Any  # [E, size]


def simulate_requests(
    key: Array, env: EdgeInferenceEnv, params: EnvParams, policy: Policy, config: StudyConfig = StudyConfig()
) -> RequestReport:
    """Simulate every request under a policy.

    Args:
      key: random key; the same key gives the same report.
      env: made with `fidelity="requests"`.
      params: of the system.
      policy: policy(key, state, params) -> int32[N].
      config: how much.

    Raises:
      ValueError: for an environment of another fidelity, or a configuration outside its limits.
    """
    return compare_requests(key, env, params, {"policy": policy}, config)["policy"]


def compare_requests(
    key: Array,
    env: EdgeInferenceEnv,
    params: EnvParams,
    policies: Mapping[str, Policy],
    config: StudyConfig = StudyConfig(),
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, RequestReport]:
    """As `simulate_requests`, of several policies that meet the same populations, channels and requests."""
    if not isinstance(env.fidelity, RequestFidelity):
        raise ValueError(
            f"env: got fidelity {type(env.fidelity).__name__}; allowed is an environment made with "
            'fidelity="requests"'
        )
    config = build(StudyConfig, dataclasses.asdict(config), "config")
    recording = dataclasses.replace(env, fidelity=dataclasses.replace(env.fidelity, record=True))
    chosen = tuple(policies.values())
    reports = {}
    for number_, name in enumerate(policies):
        tell(f"simulating the requests of {name}, {number_ + 1} of {len(policies)}")
        run = partial(_chunk, recording, chosen, jnp.asarray(number_), params)
        reports[name] = _study(key, recording, params, run, config)
    return reports


def mser5(series: np.ndarray) -> tuple[int, bool]:
    """Slots to leave out of a series [T], and whether the best cut lies before half of it."""
    means = series[: len(series) // BATCH_SLOTS * BATCH_SLOTS].reshape(-1, BATCH_SLOTS).mean(axis=1)
    cuts = range(max(len(means) // 2, 1))
    errors = [means[cut:].var() / (len(means) - cut) for cut in cuts]
    best = int(np.argmin(errors))
    return best * BATCH_SLOTS, best + 1 < len(cuts)


def estimate(tally: Any, statistic: Callable[[Any], np.ndarray], level: float) -> Estimate:
    """A statistic of the sum over replications with its jackknife interval.

    Args:
      tally: leaves [E, ...]; one or several of them.
      statistic: of tallies [..., of one replication] -> [...].
      level: of the interval.
    """
    total = jax.tree.map(lambda leaf: leaf.sum(axis=0), tally)
    without = statistic(jax.tree.map(lambda whole, leaf: whole - leaf, total, tally))
    replications = len(without)
    error = np.sqrt((replications - 1) / replications * np.sum((without - without.mean()) ** 2))
    return Estimate(float(statistic(total)), float(stdtrit(replications - 1, 0.5 * (1.0 + level)) * error))


def _percentile(level: int, tally: Tally) -> np.ndarray:
    return LogHistogram().quantile(tally.sketch, level / 100)


# Name of an estimate -> statistic of a tally.
STATISTICS: dict[str, Callable[[Tally], np.ndarray]] = {
    "delay_s": lambda tally: tally.delay_s / tally.requests,
    **{f"p{level}_s": partial(_percentile, level) for level in PERCENTILES},
    "late": lambda tally: tally.late / tally.requests,
    "backlog_s": lambda tally: tally.backlog_s / tally.slots,
    "overflow": lambda tally: tally.overflow / tally.requests,
}

_Run = Callable[..., tuple["EnvState", Array, Tally]]


def _study(key: Array, env: EdgeInferenceEnv, params: EnvParams, run: _Run, config: StudyConfig) -> RequestReport:
    """One policy's report: the pilot, and rounds of replications until they are enough."""
    key_pilot, key = jax.random.split(key)
    warm_up, settled = config.warm_up_slots, True
    if warm_up is None:
        series, _ = _replicate(key_pilot, env, params, run, config.replications, 0, PILOT_SLOTS)
        warm_up, settled = mser5(series)
    tallies: list[Tally] = []
    while True:
        round_key = jax.random.fold_in(key, len(tallies))
        _, tally = _replicate(round_key, env, params, run, config.replications, warm_up, config.num_slots)
        tallies.append(tally)
        whole = jax.tree.map(lambda *leaves: np.concatenate(leaves), *tallies)
        delay = estimate(whole, STATISTICS["delay_s"], config.level)
        precise = config.precision is None or delay.half_width <= config.precision * delay.value
        if precise or len(whole.requests) + config.replications > config.max_replications:
            break
    return RequestReport(
        estimates={name: estimate(whole, statistic, config.level) for name, statistic in STATISTICS.items()},
        tally=whole,
        warm_up_slots=warm_up,
        settled=settled,
        precise=precise,
        level=config.level,
    )


def _replicate(
    key: Array,
    env: EdgeInferenceEnv,
    params: EnvParams,
    run: _Run,
    replications: int,
    warm_up: int,
    num_slots: int,
) -> tuple[np.ndarray, Tally]:
    """Fresh replications: mean delay of every slot, and the tally of the slots after the warm-up."""
    key_reset, key_run = jax.random.split(key)
    _, states = _reset(env, jax.random.split(key_reset, replications), params)
    keys = jax.random.split(key_run, replications)
    series: list[np.ndarray] = []
    whole: Any = 0.0
    for first in range(0, warm_up + num_slots, CHUNK_SLOTS):
        states, means, tally = run(keys, states, first, warm_up)
        series.append(np.asarray(means))
        tally = jax.tree.map(lambda leaf: np.asarray(leaf).astype(float), tally)
        whole = tally if first == 0 else jax.tree.map(np.add, whole, tally)
    return np.concatenate(series), whole


@partial(jax.jit, static_argnums=0)
def _reset(env: EdgeInferenceEnv, keys: Array, params: EnvParams) -> tuple[Array, EnvState]:
    return jax.vmap(env.reset, (0, None))(keys, params)


@partial(jax.jit, static_argnums=(0, 1))
def _chunk(
    env: EdgeInferenceEnv,
    policies: tuple[Policy, ...],
    number_: Array,
    params: EnvParams,
    keys: Array,
    states: EnvState,
    first: Array,
    warm_up: Array,
) -> tuple[EnvState, Array, Tally]:
    """Slots from `first` on, of all replications, under the policy of a number; only those after the warm-up count.

    Returns:
      States, the mean delay in every slot [CHUNK_SLOTS], and the tally.
    """

    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        return jax.lax.switch(number_, policies, key, state, params)

    def measure(slot: Slot) -> tuple[Tally, Array, Array]:
        info = slot.info
        count = info["request_count"]
        told = Tally(
            requests=jnp.sum(count),
            delay_s=jnp.sum(count * info["request_delay_s"]),
            late=jnp.sum(info["late"]),
            overflow=jnp.sum(info["overflow"]),
            backlog_s=jnp.mean(info["backlog_s"][:, -1]),
            slots=jnp.ones((), jnp.int32),
            sketch=None,
        )
        delays_s = (
            info["request_departure_s"][..., -1] - info["request_arrival_s"] + info["request_return_s"][None]
        )
        return told, delays_s, jnp.arange(len(delays_s))[:, None] < count[None]

    def replication(key: Array, state: EnvState) -> tuple[EnvState, Tally, Tally]:
        chunk_key = jax.random.fold_in(key, first)
        state, (told, delays_s, exists) = rollout(env, policy, chunk_key, state, params, CHUNK_SLOTS, measure)
        counts = first + jnp.arange(CHUNK_SLOTS) >= warm_up
        tally = jax.tree.map(lambda leaf: jnp.sum(jnp.where(counts, leaf, 0)), told)
        sketch = LogHistogram().count(delays_s, exists & counts[:, None, None])
        return state, told, tally.replace(sketch=sketch)

    states, told, tally = jax.vmap(replication)(keys, states)
    means_s = jnp.sum(told.delay_s, axis=0) / jnp.maximum(jnp.sum(told.requests, axis=0), 1)
    return states, means_s, tally

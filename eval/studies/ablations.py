"""The system without one of its parts, judged by the true one: its delays, its energies, its budgets.

Every variant has cuts by the same search, which sees the variant as if it were the truth. All meet the same
populations, channels and arrivals, and start alike.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxmec
from jaxmec import long_run
from jaxmec.allocation import evaluate, stage_times
from jaxmec.config import merge, read_yaml
from jaxmec.delay import independent_delay
from jaxmec.env import Decision, EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.environment import Policy
from jaxmec.evaluation import Slots, long_runs, mean_and_interval, paired_difference
from jaxmec.evaluation.tables import Row
from jaxmec.lyapunov import FixedMultipliers, SlotPrices
from jaxmec.policies import make_policy
from jaxmec.scenario import find
from studies.study import SETTLED, WITHIN, Found, Size, Study

Kind = TypeVar("Kind", bound=EdgeInferenceEnv)

SEARCH = "best_response"
FULL = "full system"
ROUNDS = 24  # of the search for the prices that keep a slot within its budgets
SMALLEST_QUEUE, LARGEST_QUEUE = 1e-3, 1e6  # that it tries
FIRST_QUEUE = 10.0


@dataclasses.dataclass(frozen=True)
class Config:
    """Which variants, and how much is simulated of each."""

    size: Size
    variants: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class EqualShares(EdgeInferenceEnv):
    """Those who send share the band equally, those who use the server the server; devices run as fast as ever."""

    def decide(self, state: EnvState, cuts: Array, params: EnvParams) -> Decision:
        """See `EdgeInferenceEnv.decide`."""
        decision = super().decide(state, cuts, params)
        problem, shares = decision.problem, decision.allocation

        def equal(works: Array) -> Array:
            return (works > 0) / jnp.maximum(jnp.sum(works > 0), 1).astype(works.dtype)

        changed = shares.device_share, equal(problem.uplink_bits), equal(problem.server_work_s)
        outcome = evaluate(problem, *changed)
        allocation = shares.replace(
            bandwidth_share=changed[1], server_share=changed[2], objective=outcome.objective
        )
        return decision.replace(allocation=allocation, outcome=outcome, stage_times=stage_times(problem, *changed))


@dataclasses.dataclass(frozen=True)
class EnergyIgnored(FixedMultipliers):
    """No energy has a price: the least delay of every slot."""

    def prices(self, *queues: Array) -> SlotPrices:
        """As `slot_prices`, of empty queues."""
        prices = super().prices(*queues)
        return prices.replace(
            energy=jnp.zeros_like(prices.energy), server_energy=jnp.zeros_like(prices.server_energy)
        )


@dataclasses.dataclass(frozen=True)
class BudgetPerSlot(EdgeInferenceEnv):
    """Every slot keeps the budgets for itself, as far as its cuts let it; no queue tells what others have saved.

    The prices of energy are those at which the slot uses its budgets up, found by proportional steps.
    """

    def decide(self, state: EnvState, cuts: Array, params: EnvParams) -> Decision:
        """See `EdgeInferenceEnv.decide`."""
        return super().decide(self.within_budgets(state, cuts, params), cuts, params)

    def within_budgets(self, state: EnvState, cuts: Array, params: EnvParams) -> EnvState:
        """The state with the queues whose prices these cuts need."""
        budget_j = self.device_budget_j(state, params)

        def step(queue: Array, use: Array) -> Array:
            return jnp.clip(queue * use, SMALLEST_QUEUE, LARGEST_QUEUE)

        def closer(_: int, state: EnvState) -> EnvState:
            outcome = super(BudgetPerSlot, self).decide(state, cuts, params).outcome
            return state.replace(
                device_queue=step(state.device_queue, outcome.device_energy_j / budget_j),
                server_queue=step(state.server_queue, outcome.server_energy_j / params.server_budget_j),
            )

        first = state.replace(
            device_queue=jnp.full_like(state.device_queue, FIRST_QUEUE),
            server_queue=jnp.full_like(state.server_queue, FIRST_QUEUE),
        )
        return jax.lax.fori_loop(0, ROUNDS, closer, first)


@dataclasses.dataclass(frozen=True)
class IndependentQueues(EdgeInferenceEnv):
    """Cuts are compared by delays as if every stage had Poisson arrivals of its own; the shares are the layer's."""

    def objective(self, state: EnvState, cuts: Array, params: EnvParams) -> Array:
        """See `EdgeInferenceEnv.objective`."""
        decision = self.decide(state, cuts, params)
        problem = decision.problem
        scale = 1.0 if problem.waiting_scale is None else problem.waiting_scale
        believed_s = independent_delay(decision.stage_times, problem.arrival_rate_hz, problem.knee, scale)
        if problem.return_s is not None:
            believed_s += problem.return_s
        return decision.outcome.objective + jnp.sum(problem.delay_price * (believed_s - decision.outcome.delay_s))


@dataclasses.dataclass(frozen=True)
class Variant:
    """The environment that plays, its numbers, and who chooses the cuts."""

    env: EdgeInferenceEnv
    params: EnvParams
    policy: Policy


def _searching(env: EdgeInferenceEnv, params: EnvParams) -> Variant:
    return Variant(env, params, make_policy(SEARCH, env))


def as_kind(kind: type[Kind], env: EdgeInferenceEnv) -> Kind:
    """The environment as one of another class."""
    return kind(**{field.name: getattr(env, field.name) for field in dataclasses.fields(env)})


def _full(study: Study) -> Variant:
    return _searching(study.env, study.params)


def _equal_shares(study: Study) -> Variant:
    return _searching(as_kind(EqualShares, study.env), study.params)


def _energy_ignored(study: Study) -> Variant:
    return _searching(dataclasses.replace(study.env, constraints=EnergyIgnored()), study.params)


def _budget_per_slot(study: Study) -> Variant:
    """A search at the prices of the closed form's cuts: each candidate's own would take `ROUNDS` times as long."""
    env = as_kind(BudgetPerSlot, study.env)
    search, first = make_policy(SEARCH, study.env), make_policy("closed_form", study.env)

    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        return search(key, env.within_budgets(state, first(key, state, params), params), params)

    return Variant(env, study.params, policy)


def _independent_queues(study: Study) -> Variant:
    return _searching(as_kind(IndependentQueues, study.env), study.params)


def _full_precision(study: Study) -> Variant:
    wire = merge(read_yaml(find(study.scenario)).get("wire") or {}, {"activation_bits": 32})
    return _searching(*jaxmec.make(study.scenario, wire=wire))


def _ends_only(study: Study) -> Variant:
    return _searching(dataclasses.replace(study.env, num_cuts=2), ends_of(study.params))


def ends_of(params: EnvParams) -> EnvParams:
    """The system with two cuts of every network: all on the server, all on the device."""
    last = jnp.sum(params.valid_cut, axis=-1) - 1

    def ends(table: Array) -> Array:
        index = jnp.broadcast_to(last.reshape(-1, *[1] * (table.ndim - 1)), (*table.shape[:-1], 1))
        return jnp.concatenate([table[..., :1], jnp.take_along_axis(table, index, axis=-1)], axis=-1)

    tables = ("device_work_s", "uplink_bits", "server_work_s", "valid_cut", "return_s")
    kept: dict[str, Any] = {name: ends(table) for name in tables if (table := getattr(params, name)) is not None}
    return dataclasses.replace(params, **kept)


VARIANTS: dict[str, Callable[[Study], Variant]] = {
    FULL: _full,
    "equal shares": _equal_shares,
    "energy ignored": _energy_ignored,
    "budget per slot": _budget_per_slot,
    "independent queues": _independent_queues,
    "full precision": _full_precision,
    "ends only": _ends_only,
}


def run(study: Study, config: Config) -> Found:
    """One row per variant, paired with the full system."""
    asked = dataclasses.asdict(config.size)
    started = functools.cache(lambda: study.started(config.size))
    runs = {}
    for turn, name in enumerate((FULL, *config.variants), start=1):
        study.tell(f"{name}, {turn} of {len(config.variants) + 1}")

        def compute(name=name) -> dict:
            return _measured(study, VARIANTS[name](study), config.size, *started())

        runs[name] = study.remembered("ablations", {"variant": name, "size": asked}, [], compute)
    rows = [variant_row(name, found, runs[FULL]) for name, found in runs.items()]
    return Found(rows, {**asked, "warm_up": SETTLED, "comparisons": len(config.variants)})


def _measured(
    study: Study, variant: Variant, size: Size, start: EnvState, multipliers: long_run.Multipliers
) -> dict[str, np.ndarray]:
    """Episode by episode [E], with the energies' prices of the full system."""
    policies = {SEARCH: variant.policy}
    whole = variant.env is study.env and SEARCH in study.policies  # which the study has compiled already
    slots = study.slots if whole else Slots(variant.env, policies)
    runs = long_runs(
        variant.env,
        policies,
        study.key_episodes,
        variant.params,
        size.episodes,
        size.slots,
        start,
        study.tell,
        slots,
    )
    use, metrics = runs[SEARCH].use, runs[SEARCH].metrics
    kept = ("delay_s", "device_energy", "server_energy", "device_energy_excess", "stable")
    return {name: metrics[name] for name in kept} | {
        "equal_energy": long_run.lagrangian(metrics["cost"], use, multipliers),
        "devices_over": (use["device_energy"] > 1.0 + WITHIN).mean(axis=-1),
    }


def variant_row(name: str, found: dict[str, list[float]], full: dict[str, list[float]]) -> Row:
    """Means and intervals of a variant, and how much more it needs than the full system, pair by pair."""
    row: Row = {"variant": name}
    for metric, values in found.items():
        row[metric], row[f"{metric}_ci95"] = mean_and_interval(np.asarray(values))
    for metric in ("delay_s", "equal_energy"):
        mean, half = paired_difference(np.asarray(found[metric]), np.asarray(full[metric]))
        scale = float(np.mean(full[metric]))
        row[f"{metric}_over_full"], row[f"{metric}_over_full_ci95"] = mean / scale, half / scale
    return row

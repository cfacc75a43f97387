"""The system that a study is about, who plays in it, and what every part needs of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jax import Array

from jaxmec import long_run
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.environment import Policy, State
from jaxmec.evaluation import (
    Comparison,
    EvaluationConfig,
    Slots,
    evaluate_policies,
    paired_difference,
    paired_p_value,
)
from jaxmec.evaluation.tables import Row, paired_rows, same_state_rows
from studies.cache import Cache

EPISODES = "delays_s"
WITHIN = 0.01  # of a budget: who uses less than this much too much keeps it
SETTLED = (
    "episodes start with queues at the level of the long-run problem's multipliers, so that no slot is left out"
)


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is simulated of every system."""

    episodes: int
    slots: int
    ascent_slots: int = long_run.ASCENT_SLOTS  # of each phase of the search for the budgets' multipliers


@dataclasses.dataclass(frozen=True)
class Found:
    """What a part has found: rows, and what a caption has to say of them."""

    rows: list[Row]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    left_out: str = ""  # why there is nothing, if so


@dataclasses.dataclass(frozen=True)
class Study:
    """One system, and its policies by name: all parts run them in one compiled programme."""

    scenario: str
    env: EdgeInferenceEnv
    params: EnvParams
    policies: Mapping[str, Policy]
    sources: Mapping[str, str]  # policy -> what `make_policies` calls it, or a run's folder
    identities: Mapping[str, str]  # policy -> what decides what it does, beside its name
    reference: str  # that the others are paired with
    learned: str | None  # the policy that stands for the learners
    own: tuple[str, ...]  # policies of the user's, which play in every part
    further: frozenset[str]  # runs of learners beyond the first, which only `learning` looks at
    cache: Cache
    seed: int
    tell: Callable[[str], None]
    mix: Path | None = None  # folder of a run that was trained on a mix of systems

    @cached_property
    def slots(self) -> Slots:
        """Compiled at the first use, for all systems of these shapes."""
        return Slots(self.env, self.policies)

    @property
    def players(self) -> list[str]:
        """Everybody who is shown by name."""
        return [name for name in self.policies if name not in self.further]

    def remembered(
        self, part: str, asked: Mapping[str, Any], names: Sequence[str], compute: Callable[[], Any]
    ) -> Any:
        """What was found for exactly this with these policies, computed where it is not there yet."""
        who = {name: self.identities[name] for name in names}
        return self.cache.get(part, {**asked, "policies": who, "seed": self.seed}, compute)

    def evaluated(
        self,
        params: EnvParams,
        names: Sequence[str],
        size: Size,
        *,
        timed: bool = False,
        start: tuple[State, long_run.Multipliers] | None = None,
    ) -> Comparison:
        """The policies in a system of the study's shapes, always at the same random numbers."""
        reference = self.reference if self.reference in names else names[0]
        config = EvaluationConfig(
            size.episodes,
            size.slots,
            time_decisions=timed,
            seed=self.seed,
            ascent_slots=size.ascent_slots,
            reference=reference,
        )
        chosen = {name: self.policies[name] for name in names}
        return evaluate_policies(self.env, params, chosen, config, self.tell, self.slots, start)

    def as_it_is(self, names: Sequence[str], size: Size) -> list[Row]:
        """Rows of the scenario itself, which several parts have among their systems."""
        asked = {"size": dataclasses.asdict(size)}
        return self.remembered(
            "policies", asked, names, lambda: system_rows(self.evaluated(self.params, names, size))
        )

    def started(self, size: Size) -> tuple[State, long_run.Multipliers]:
        """The states that `evaluated` starts from, of the system as it is, and its budgets' multipliers."""
        key_start, _, _ = EvaluationConfig(seed=self.seed).keys()
        return long_run.ascend(self.env, key_start, self.params, size.episodes, size.ascent_slots)

    @property
    def key_episodes(self) -> Array:
        """Of the episodes that `evaluated` plays."""
        return EvaluationConfig(seed=self.seed).keys()[1]


def known(names: Sequence[str], study: Study) -> list[str]:
    """Those of the names that play in the study, in its order; reference, learner and own policies always do."""
    always = (study.reference, study.learned, *study.own)
    return [name for name in study.policies if name in names or name in always]


def system_rows(comparison: Comparison, **labels: float | str) -> list[Row]:
    """One row per policy of one system: every metric, paired differences, slot gaps, and budgets user by user.

    `p_value` is that of no difference from the reference at equal energy; `devices_over` the share of devices that use
    more than their budget, by more than `WITHIN` of it; `EPISODES` the delays [E], for `over_first`.
    """
    reference = comparison.long_run[comparison.reference].metrics["equal_energy"]
    rows = []
    for paired, same in zip(paired_rows(comparison), same_state_rows(comparison), strict=True):
        run = comparison.long_run[str(paired["policy"])]
        rows.append(
            {
                **labels,
                **paired,
                "reference": comparison.reference,
                "p_value": paired_p_value(run.metrics["equal_energy"], reference),
                "devices_over": float(np.mean(run.use["device_energy"] > 1.0 + WITHIN)),
                **{name: same[name] for name in ("certified_gap_mean", "certified_gap_p99", "decision_us")},
                EPISODES: run.metrics["delay_s"].tolist(),
            }
        )
    return rows


def without_episodes(rows: Sequence[Row]) -> list[Row]:
    """Rows for a table."""
    return [{name: value for name, value in row.items() if name != EPISODES} for row in rows]


def over_first(rows: Sequence[Row]) -> list[Row]:
    """Rows of several systems with the same episodes, each paired with its policy's first one.

    `delay_over_first` is the difference of the delays, relative to the first one's.
    """
    first: dict[str, np.ndarray] = {}
    found = []
    for row, plain in zip(rows, without_episodes(rows), strict=True):
        delays = np.asarray(row[EPISODES])
        base = first.setdefault(str(row["policy"]), delays)
        mean, half = paired_difference(delays, base)
        found.append(plain | {"delay_over_first": mean / base.mean(), "delay_over_first_ci95": half / base.mean()})
    return found

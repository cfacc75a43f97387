"""What requests meet: percentiles, deadline misses and backlog at request fidelity."""

from __future__ import annotations

import dataclasses

import jax

import jaxmec
from jaxmec.evaluation.tables import request_rows
from jaxmec.policies import make_policies
from jaxmec.requests import StudyConfig, compare_requests
from studies.learning import Learner
from studies.study import Found, Study, known

ON_REQUESTS = "learned on requests"


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is simulated, and who plays."""

    replications: int
    slots: int
    warm_up_slots: int | None  # None: by MSER-5
    policies: tuple[str, ...]
    learner: Learner | None  # that is trained on requests, which none of the other parts has


def run(study: Study, config: Config) -> Found:
    """One row per policy, with the paired differences from the reference."""
    names = known(config.policies, study)
    if config.learner is not None and config.learner.name in study.sources:
        names.append(config.learner.name)

    def compute() -> list:
        env, params = jaxmec.make(study.scenario, fidelity="requests")
        # A learner that was not trained on requests does not see them, here neither.
        seeing = [name for name in names if name != study.learned]
        made = make_policies([study.sources[name] for name in seeing], env, study.tell)
        policies = dict(study.policies) | dict(zip(seeing, made.values(), strict=True))
        asked = StudyConfig(
            num_slots=config.slots, replications=config.replications, warm_up_slots=config.warm_up_slots
        )
        chosen = {name: policies[name] for name in names}
        reports = compare_requests(jax.random.key(study.seed), env, params, chosen, asked, study.tell)
        rows = request_rows(reports)
        for row, report in zip(rows, reports.values(), strict=True):
            row["reference"] = study.reference
            for name, difference in report.over(reports[study.reference]).items():
                row[f"{name}_over_reference"], row[f"{name}_over_reference_half_width"] = difference
        return rows

    asked = {name: value for name, value in dataclasses.asdict(config).items() if name != "learner"}
    rows = study.remembered("percentiles", asked, names, compute)
    left_out = [row for row in rows if row["settled"] != "True"]
    warm_up = (
        f"the first {rows[0]['warm_up_slots']} slots are left out"
        if config.warm_up_slots is not None
        else "the first slots are left out by MSER-5, for each policy its own"
    )
    unsettled = f"; not settled: {', '.join(str(row['policy']) for row in left_out)}" if left_out else ""
    facts = {"episodes": config.replications, "slots": config.slots, "warm_up": warm_up + unsettled}
    return Found(rows, facts | {"comparisons": len(names) - 1})

"""The Lyapunov trade-off: delay, queues and energy against V."""

from __future__ import annotations

import dataclasses
import functools

from jaxmec import long_run
from studies.study import SETTLED, Found, Size, Study, known, over_first, system_rows


@dataclasses.dataclass(frozen=True)
class Config:
    """Which V, over the scenario's, and how much is simulated of each."""

    size: Size
    factors: tuple[float, ...]
    policies: tuple[str, ...]


def run(study: Study, config: Config) -> Found:
    """One row per V and policy."""
    names = known(config.policies, study)
    started = functools.cache(lambda: study.started(config.size))  # the long-run problem does not depend on V
    rows = []
    for turn, factor in enumerate(sorted(config.factors), start=1):
        study.tell(f"V times {factor:g}, {turn} of {len(config.factors)}")
        params = study.params.replace(tradeoff=factor * study.params.tradeoff)

        def compute(params=params) -> list:
            states, multipliers = started()
            start = long_run.priced_states(study.env, states, multipliers, params), multipliers
            return system_rows(study.evaluated(params, names, config.size, start=start))

        asked = {"factor": factor, "size": dataclasses.asdict(config.size)}
        found = (
            study.as_it_is(names, config.size)
            if factor == 1.0
            else study.remembered("tradeoff", asked, names, compute)
        )
        rows += [{"tradeoff": float(params.tradeoff), **row} for row in found]
    facts = {"warm_up": SETTLED, "comparisons": len(config.factors) * (len(names) - 1)}
    return Found(over_first(rows), dataclasses.asdict(config.size) | facts)

"""Everyone in the scenario as it is."""

from __future__ import annotations

import dataclasses

from studies.study import SETTLED, Found, Size, Study, system_rows, without_episodes


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is simulated."""

    size: Size
    timed: bool = True  # decisions, each policy compiled once more for it


def run(study: Study, config: Config) -> Found:
    """One row per policy."""
    names = study.players

    def compute() -> list:
        return system_rows(study.evaluated(study.params, names, config.size, timed=config.timed))

    rows = study.remembered("policies", dataclasses.asdict(config), names, compute)
    rows = without_episodes(rows)
    return Found(rows, {**dataclasses.asdict(config.size), "warm_up": SETTLED, "comparisons": len(names) - 1})

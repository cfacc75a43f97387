"""What the band, the arrivals, the server, the energy budgets and the distances make of everyone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxmec.env import EnvParams
from jaxmec.evaluation.tables import Row
from studies.study import SETTLED, Found, Size, Study, known, over_first, system_rows


@dataclasses.dataclass(frozen=True)
class Config:
    """Which multiples of the scenario's numbers, and how much is simulated of each."""

    size: Size
    factors: dict[str, tuple[float, ...]]  # quantity -> multiples
    policies: tuple[str, ...]


def _bandwidth(params: EnvParams, factor: float) -> EnvParams:
    return params.replace(bandwidth_hz=factor * params.bandwidth_hz)


def _arrival_rate(params: EnvParams, factor: float) -> EnvParams:
    """Every process has a range of rates for each user."""
    process: Any = params.workload
    scaled = {name: factor * getattr(process, name) for name in ("low_hz", "high_hz")}
    return params.replace(workload=process.replace(**scaled))


def _server_capacity(params: EnvParams, factor: float) -> EnvParams:
    """As of so many servers, each with its own power; the energy of a task at full capacity stays."""
    return params.replace(
        server_work_s=params.server_work_s / factor, server_power_w=factor * params.server_power_w
    )


def _energy_budgets(params: EnvParams, factor: float) -> EnvParams:
    """Of the devices and the server."""
    return params.replace(
        device_budget_j=factor * params.device_budget_j, server_budget_j=factor * params.server_budget_j
    )


def _distance(params: EnvParams, factor: float) -> EnvParams:
    return params.replace(distance_m=factor * params.distance_m)


QUANTITIES: dict[str, Callable[[EnvParams, float], EnvParams]] = {
    "bandwidth": _bandwidth,
    "arrival rate": _arrival_rate,
    "server capacity": _server_capacity,
    "energy budgets": _energy_budgets,
    "distance": _distance,
}


def run(study: Study, config: Config) -> Found:
    """One row per quantity, multiple and policy."""
    names = known(config.policies, study)
    systems = [(quantity, factor) for quantity, factors in config.factors.items() for factor in sorted(factors)]
    rows: list[Row] = []
    for turn, (quantity, factor) in enumerate(systems, start=1):
        study.tell(f"{quantity} times {factor:g}, {turn} of {len(systems)}")

        def compute(quantity=quantity, factor=factor) -> list:
            params = QUANTITIES[quantity](study.params, factor)
            return system_rows(study.evaluated(params, names, config.size))

        asked = {"quantity": quantity, "factor": factor, "size": dataclasses.asdict(config.size)}
        found = (
            study.as_it_is(names, config.size)
            if factor == 1.0
            else study.remembered("sensitivity", asked, names, compute)
        )
        rows += [{"quantity": quantity, "factor": factor, **row} for row in found]
    facts = {"warm_up": SETTLED, "comparisons": len(systems) * (len(names) - 1)}
    rows = [
        row
        for quantity in config.factors
        for row in over_first([one for one in rows if one["quantity"] == quantity])
    ]
    return Found(rows, dataclasses.asdict(config.size) | facts)

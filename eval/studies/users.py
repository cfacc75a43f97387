"""The number of users, with the band and the server that they have now, and with as much more of both as there are."""

from __future__ import annotations

import dataclasses

import jaxmec
from jaxmec.config import ConfigError
from jaxmec.env import EnvParams
from jaxmec.evaluation import EvaluationConfig, Slots, evaluate_policies
from jaxmec.policies import make_policies
from studies.study import SETTLED, Found, Size, Study, system_rows, without_episodes

MODES = ("fixed", "growing")  # band and server


@dataclasses.dataclass(frozen=True)
class Config:
    """Which numbers, who plays, and how much is simulated of each."""

    size: Size
    numbers: tuple[int, ...]
    policies: tuple[str, ...]
    searches: tuple[str, ...]  # that play up to `most_searched` users only, for their time
    most_searched: int


def run(study: Study, config: Config) -> Found:
    """One row per number, mode and policy, paired with the closed form."""
    rows = []
    size = dataclasses.asdict(config.size)
    if not config.numbers:
        return Found([], size, left_out="a quick study has one number of users")
    try:
        jaxmec.make(study.scenario, num_users=config.numbers[0])
    except ConfigError as error:
        return Found([], size, left_out=str(error))
    comparisons = 0
    for turn, number in enumerate(config.numbers, start=1):
        names = [*config.policies, *(config.searches if number <= config.most_searched else ())]
        names += [name for name in (study.learned, *study.own) if name]
        comparisons += len(MODES) * (len(names) - 1)
        study.tell(f"{number} users, {turn} of {len(config.numbers)}")

        def compute(number=number, names=names) -> list:
            return _rows(study, number, names, config.size)

        rows += study.remembered("users", {"number": number, "size": size}, names, compute)
    return Found(without_episodes(rows), {**size, "warm_up": SETTLED, "comparisons": comparisons})


def _rows(study: Study, number: int, names: list[str], size: Size) -> list:
    """Both modes, which share a compilation."""
    env, params = jaxmec.make(study.scenario, num_users=number)
    made = make_policies([study.sources[name] for name in names], env, study.tell)
    policies = dict(zip(names, made.values(), strict=True))
    slots = Slots(env, policies)
    config = EvaluationConfig(
        size.episodes, size.slots, seed=study.seed, ascent_slots=size.ascent_slots, reference=names[0]
    )
    found = []
    for mode in MODES:
        system = grown(params, number / study.env.num_users) if mode == "growing" else params
        comparison = evaluate_policies(env, system, policies, config, study.tell, slots)
        found += system_rows(comparison, users=number, mode=mode)
    return found


def grown(params: EnvParams, factor: float) -> EnvParams:
    """The system with so many times the band, the server and its energy budget."""
    return params.replace(
        bandwidth_hz=factor * params.bandwidth_hz,
        server_work_s=params.server_work_s / factor,
        server_power_w=factor * params.server_power_w,
        server_budget_j=factor * params.server_budget_j,
    )

"""A policy that was trained on this system in others: other numbers of users, other networks, other devices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from transfer import BASELINES, judge, make_task

from jaxmec.evaluation import EvaluationConfig, evaluate_policies
from jaxmec.policies import LEARNED, make_policies
from studies.cache import digest
from studies.study import SETTLED, Found, Size, Study


@dataclasses.dataclass(frozen=True)
class Config:
    """The systems, scenarios with ":N" for another number of users, and how much is simulated of each."""

    size: Size
    tasks: tuple[str, ...]


def run(study: Study, config: Config) -> Found:
    """One row per system and policy that was trained: this study's learner, and the mix's if there is one."""
    size = dataclasses.asdict(config.size)
    if study.learned is None:
        return Found([], size, left_out="no learner takes part")
    if not config.tasks:
        return Found([], size, left_out="a quick study has no other systems")
    sources = {"trained here": study.sources[study.learned]}
    if study.mix is not None:
        sources["trained on a mix"] = str(study.mix)
    rows = []
    for turn, task in enumerate(config.tasks, start=1):
        study.tell(f"{task}, {turn} of {len(config.tasks)}")
        for trained, source in sources.items():

            def compute(task=task, trained=trained, source=source) -> list:
                return [{**_judged(study, task, source, config.size), "policy": trained}]

            weights = digest((Path(source) / "policy.msgpack").read_bytes())
            asked = {"task": task, "size": size, "run": weights}
            rows += study.remembered("generality", asked, [], compute)
    return Found(rows, {**size, "warm_up": SETTLED, "comparisons": len(rows)})


def _judged(study: Study, task: str, source: str, size: Size) -> dict:
    env, params = make_task(task)
    policies = make_policies(BASELINES, env, study.tell) | {
        LEARNED: next(iter(make_policies([source], env).values()))
    }
    config = EvaluationConfig(size.episodes, size.slots, seed=study.seed, ascent_slots=size.ascent_slots)
    return judge(task, False, evaluate_policies(env, params, policies, config, study.tell))

"""What the learner owes to which of its parts: variants of one recipe, several seeds each.

python eval/ablation.py [--seeds 3] [--total-steps 400000] [--variants default "no closed form" ...]

Every variant is trained for the same number of steps and judged by the certified gap of its most probable cuts at
the states that `best_response` visits on held-out episodes.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.table import Table

import jaxmec
from jaxmec.agents import PPO, Algorithm, Imitation, Learner, WhiteBox
from jaxmec.compilation import keep_compiled
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.evaluation import evaluate_policies, objectives_at
from jaxmec.observation import Observation
from jaxmec.policies import make_policy
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.tables import table
from jaxmec.scenario import DEFAULT

CLOSED_FORM = Observation(
    held=(("expected cost", 0.0), ("expected cost over the best cut's", 0.0), ("expected regret", 0.0))
)
IMITATED = Imitation(total_steps=10 * 4096, num_envs=4096)


@dataclasses.dataclass(frozen=True)
class Variant:
    """What differs from the default recipe."""

    config: dict[str, Any] = dataclasses.field(default_factory=dict)  # fields of the algorithm
    algorithm: type = PPO
    env: dict[str, Any] = dataclasses.field(default_factory=dict)  # fields of the environment
    warm_start: bool = False
    candidates: int = 1
    of: str | None = None  # the variant whose training it shares


VARIANTS = {
    "default": Variant(),
    "best of 4": Variant(candidates=4, of="default"),
    "best of 16": Variant(candidates=16, of="default"),
    "white box": Variant(algorithm=WhiteBox),
    "white box, best of 16": Variant(algorithm=WhiteBox, candidates=16, of="white box"),
    "no closed form": Variant(env={"observation": CLOSED_FORM}),
    "mlp head": Variant({"network": "mlp", "width": 256}),
    "discount 0.9": Variant({"discount": 0.9, "num_steps": 4, "num_minibatches": 128}),
    "environment's reward": Variant({"reward": "environment"}),
    "no masks": Variant(env={"observation": Observation(held=(("valid", 1.0),))}),
    "warm start from price": Variant(warm_start=True),
}


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train variants of the default recipe and compare them."""

    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which."""
    scenario: str = DEFAULT
    """Name or YAML file."""
    seeds: int = 3
    """Runs of each."""
    total_steps: int = 400_000
    """Slots of each run."""
    out: Path = Path("runs/ablation")
    """Folder of ablation.csv."""


def main(flags: Flags) -> int:
    """Train, judge, print and write; returns the exit status."""
    console = terminal()
    keep_compiled()
    unknown = [name for name in flags.variants if name not in VARIANTS]
    if unknown:
        return fail(console, f"variants: got {unknown[0]!r}; allowed are {', '.join(VARIANTS)}")
    try:
        env, params = jaxmec.make(flags.scenario)
        flags.out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        return fail(console, error)
    best = {"best_response": make_policy("best_response", env)}
    comparison = evaluate_policies(env, params, best, tell=functools.partial(say, console))
    trained = functools.cache(functools.partial(_trained, env, params, flags.total_steps, flags.seeds))
    rows: list[dict[str, float | str]] = []
    for name in flags.variants:
        variant = VARIANTS[name]
        seen, algorithm = _system(env, variant, flags.total_steps)
        gaps = []
        for seed, (learner, seconds) in enumerate(trained(variant.of or name)):
            policy = {name: algorithm.policy(seen, learner, variant.candidates)}
            reached = objectives_at(seen, policy, jax.random.key(1), params, comparison.states)[name]
            gaps.append(reached / comparison.bound - 1.0)
            rows.append(
                {
                    "variant": name,
                    "seed": seed,
                    "gap_mean": float(gaps[-1].mean()),
                    "gap_p99": float(np.percentile(gaps[-1], 99)),
                    "seconds": seconds,
                }
            )
            write_csv(flags.out / "ablation.csv", rows)
        say(console, f"{name}: {np.mean(gaps):.3%}")
    terminal(stderr=False).print(show(rows))
    return 0


def _system(env: EdgeInferenceEnv, variant: Variant, total_steps: int) -> tuple[EdgeInferenceEnv, Algorithm]:
    algorithm = variant.algorithm(total_steps=total_steps, **variant.config)
    return dataclasses.replace(env, **variant.env), algorithm


def _trained(
    env: EdgeInferenceEnv, params: EnvParams, total_steps: int, num_seeds: int, name: str
) -> list[tuple[Learner, float]]:
    """Per seed a finished learner, and the seconds that its training took without compilation."""
    seen, algorithm = _system(env, VARIANTS[name], total_steps)
    init = jax.jit(lambda key: algorithm.init(seen, key, params))
    learners = [init(jax.random.key(seed)) for seed in range(num_seeds)]
    if VARIANTS[name].warm_start:
        imitators = [_updated(seen, params, IMITATED, learner)[0] for learner in learners]
        learners = [one.replace(model=other.model) for one, other in zip(learners, imitators, strict=True)]
    return [_updated(seen, params, algorithm, learner) for learner in learners]


def _updated(
    env: EdgeInferenceEnv, params: EnvParams, algorithm: Algorithm, learner: Learner
) -> tuple[Learner, float]:
    """The learner after a whole run of updates, and their seconds."""
    update = _compiled(env, algorithm)  # type: ignore[arg-type]
    jax.block_until_ready(update(learner, params))
    started = time.perf_counter()
    for _ in range(algorithm.num_updates):
        learner = update(learner, params)
    jax.block_until_ready(learner.model)
    return learner, time.perf_counter() - started


@functools.cache
def _compiled(env: EdgeInferenceEnv, algorithm: Algorithm) -> Any:
    return jax.jit(lambda learner, params: algorithm.update(env, learner, params)[0])


def show(rows: list[dict[str, float | str]]) -> Table:
    """The rows for a terminal: means over seeds."""
    body = []
    for name in dict.fromkeys(row["variant"] for row in rows):
        means, tails, seconds = (
            np.array([row[column] for row in rows if row["variant"] == name], float)
            for column in ("gap_mean", "gap_p99", "seconds")
        )
        spread = f"{means.min():.3%} to {means.max():.3%}"
        body.append([name, f"{means.mean():.3%}", spread, f"{tails.mean():.2%}", f"{seconds.mean():.0f}"])
    return table(
        "Certified gap, mean over seeds",
        ["variant", "mean gap", "least to greatest", "p99 gap", "training s"],
        body,
    )


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))

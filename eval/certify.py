"""How far policies truly are from the optimum: cuts proven by branch and bound, at the same states.

python eval/certify.py [--scenario NAME|FILE] [--run DIR] [--policies …] [--num-envs N]
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.progress import track
from rich.table import Table

import jaxmec
from jaxmec.agents import load_policy
from jaxmec.agents.run import scenario_of
from jaxmec.allocation import Certificate, certify
from jaxmec.compilation import keep_compiled
from jaxmec.evaluation import EvaluationConfig, evaluate_policies
from jaxmec.policies import make_policy
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.tables import table
from jaxmec.scenario import DEFAULT


@dataclasses.dataclass(frozen=True)
class Flags:
    """Prove optima at states of one scenario and compare policies with them."""

    run: Path | None = None
    """Folder of a training run: its policy joins as "learned", and its scenario is the default."""
    scenario: str | None = None
    """Name or YAML file; district10 without a run."""
    policies: tuple[str, ...] = ("closed_form", "best_response", "price")
    """Rules and searches to compare; the states are the reference's."""
    reference: str = "best_response"
    """The policy whose trajectories give the states."""
    num_envs: int = 8
    """Episodes, each with its own population."""
    num_slots: int = 100
    """Slots per episode."""
    state_every: int = EvaluationConfig.state_every
    """Slots between the states."""
    seed: int = EvaluationConfig.seed
    """Of the held-out episodes."""
    gap: float = 1e-4
    """Relative gap that ends a proof."""
    max_seconds: float = 60.0
    """Limit of each proof."""
    out: Path | None = None
    """CSV of every state's certificate and objectives; runs/certify-SCENARIO.csv if absent."""


def main(flags: Flags) -> int:
    """Run the command; returns the exit status."""
    keep_compiled()
    messages = terminal()
    try:
        scenario: str | Path = flags.scenario or (scenario_of(flags.run) if flags.run else DEFAULT)
        env, params = jaxmec.make(scenario)
        policies = {name: make_policy(name, env) for name in flags.policies}
        if flags.run:
            policies["learned"] = load_policy(flags.run, env)
        config = EvaluationConfig(
            num_envs=flags.num_envs,
            num_slots=flags.num_slots,
            seed=flags.seed,
            state_every=flags.state_every,
            reference=flags.reference,
        )
        report = evaluate_policies(env, params, policies, config, tell=partial(say, messages))
        problems, masks = jax.jit(
            jax.vmap(lambda state: (env.cut_problems(state, params), env.action_mask(state, params)))
        )(report.states)
        certificates = [
            certify(
                jax.tree.map(lambda leaf, i=i: leaf[i], problems),
                masks[i],
                flags.gap,
                env.solver,
                max_seconds=flags.max_seconds,
            )
            for i in track(range(len(masks)), "proving optima", console=messages)
        ]
    except (ValueError, OSError) as error:
        return fail(messages, error)
    out = flags.out or Path("runs") / f"certify-{Path(scenario).stem}.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_csv(out, rows(certificates, report.objectives))
    console = terminal(stderr=False)
    console.print(show(certificates, report.objectives, str(scenario)))
    say(console, summary(certificates, report.bound))
    say(console, f"written to {out}")
    return 0


def rows(certificates: list[Certificate], objectives: dict[str, np.ndarray]) -> list[dict[str, float | str]]:
    """One row per state."""
    return [
        {
            "optimum": certificate.objective,
            "bound": certificate.bound,
            "gap": certificate.gap,
            "nodes": certificate.nodes,
            "seconds": certificate.seconds,
            "status": certificate.status.value,
            **{name: float(values[i]) for name, values in objectives.items()},
        }
        for i, certificate in enumerate(certificates)
    ]


def show(certificates: list[Certificate], objectives: dict[str, np.ndarray], scenario: str) -> Table:
    """How far every policy's cuts are above the best cuts, over the states."""
    best = np.array([certificate.objective for certificate in certificates])
    body = []
    for name, values in objectives.items():
        above = values / best - 1.0
        figures = (above.mean(), *np.percentile(above, (50, 90, 99, 100)))
        body.append([name, *(f"{figure:.3%}" for figure in figures), f"{(above <= 2e-5).mean():.0%}"])
    title = f"{scenario}: objective above the proven optimum, {len(best)} states"
    return table(title, ["policy", "mean", "p50", "p90", "p99", "max", "optimal"], body)


def summary(certificates: list[Certificate], bound: np.ndarray) -> str:
    """How the proofs went, and how far the dual's bound was from the optima."""
    best = np.array([certificate.objective for certificate in certificates])
    nodes = np.array([certificate.nodes for certificate in certificates])
    seconds = np.array([certificate.seconds for certificate in certificates])
    ends = ", ".join(f"{n} {status}" for status, n in Counter(c.status.value for c in certificates).items())
    return (
        f"{ends}; largest gap {max(c.gap for c in certificates):.1e}; nodes median {np.median(nodes):.0f}, "
        f"max {nodes.max()}; seconds median {np.median(seconds):.3f}, max {seconds.max():.1f} (with compilation); "
        f"duality gap of the bound: mean {np.mean(1 - bound / best):.3%}, max {np.max(1 - bound / best):.3%}"
    )


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))

"""Is a scenario a real decision? Prints what near-optimal cuts look like, how far fixed rules fall behind, and
what leaving out dominated cuts costs.

python eval/calibration.py [--scenario NAME|FILE] [--num-envs N]
"""

from __future__ import annotations

import dataclasses
import sys

import jax
import numpy as np
import tyro

import jaxmec
from jaxmec.compilation import keep_compiled
from jaxmec.evaluation import EvaluationConfig, evaluate_policies, objectives_at
from jaxmec.policies import make_policy
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.tables import table

FIXED_RULES = ("local_only", "edge_only")


@dataclasses.dataclass(frozen=True)
class Flags:
    """Check a scenario's calibration."""

    scenario: str = "coinfer10"
    """Name or YAML file."""
    num_envs: int = 32
    """Episodes."""


def main(flags: Flags) -> int:
    """Print the criteria and what was found; returns the exit status."""
    keep_compiled()
    messages, console = terminal(), terminal(stderr=False)
    try:
        env, params = jaxmec.make(flags.scenario)
    except ValueError as error:
        return fail(messages, error)
    policies = {name: make_policy(name, env) for name in ("best_response", *FIXED_RULES)}
    config = EvaluationConfig(num_envs=flags.num_envs)
    report = evaluate_policies(env, params, policies, config, tell=lambda what: say(messages, what))
    near_optimal = {name: values.mean() for name, values in report.long_run["best_response"].metrics.items()}
    best = report.objectives["best_response"]
    ratios = {name: report.objectives[name] / best for name in FIXED_RULES}
    least_worse = min(np.median(ratio) for ratio in ratios.values()) - 1

    criteria = [
        ("users that cut in the middle", 0.15, near_optimal["middle"]),
        ("users that run all on the server", 0.20, near_optimal["edge"]),
        ("users that run all on the device", 0.20, near_optimal["local"]),
        ("users whose energy budget binds", 0.50, near_optimal["device_energy_binding"]),
        ("best fixed rule worse, median of the states", 0.30, least_worse),
    ]
    body = [
        [name, f"at least {asked:.0%}", f"{found:.1%}", "holds" if found >= asked else "FAILS"]
        for name, asked, found in criteria
    ]
    title = f"{flags.scenario}: {flags.num_envs} episodes under best_response"
    console.print(table(title, ["criterion", "asked", "found", ""], body))

    say(
        console,
        f"stable user-slots {near_optimal['stable']:.2%}; delay {near_optimal['delay_s']:.3f} s; "
        f"energy over budget: devices {near_optimal['device_energy']:.3f}, "
        f"server {near_optimal['server_energy']:.3f}",
    )
    say(console, f"slot objective of best_response: {_percentiles(best)}")
    for name, ratio in ratios.items():
        mean_ratio = report.objectives[name].mean() / best.mean()
        say(console, f"{name} over best_response: {_percentiles(ratio)}; ratio of means {mean_ratio:.2f}")

    whole, whole_params = jaxmec.make(flags.scenario, wire={"prune": False})
    policy = {"best_response": make_policy("best_response", whole)}
    unpruned = objectives_at(whole, policy, jax.random.key(0), whole_params, report.states)["best_response"]
    say(
        console,
        f"pruning leaves {env.num_cuts} of {whole.num_cuts} cuts and costs "
        f"{best.mean() / unpruned.mean() - 1:+.3%} "
        f"of the mean objective of best_response, {np.percentile(best / unpruned, 99) - 1:+.2%} at p99",
    )
    return 0


def _percentiles(values: np.ndarray) -> str:
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    return f"mean {values.mean():.2f}, p50 {p50:.2f}, p90 {p90:.2f}, p99 {p99:.2f}"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))

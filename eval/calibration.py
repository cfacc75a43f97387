"""Who decides a scenario: a lookup table, the first slot, the closed form, or only search and learning?

python eval/calibration.py [--scenario NAME|FILE] [--num-envs 64]
python eval/calibration.py --tradeoffs 10 30 100 300 1000     # what a larger V buys

Policies are compared at equal energy, on held-out episodes that start with queues at their stationary level (see
`jaxmec.long_run`), and by the slot objective at the same states.
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

import jaxmec
from jaxmec import long_run
from jaxmec.compilation import keep_compiled
from jaxmec.config import check_limits
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.evaluation import Comparison, EvaluationConfig, Slots, evaluate_policies, long_runs, paired_difference
from jaxmec.policies import make_policy
from jaxmec.policies.static import save_table
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.figures.comparison import cut_counts
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.tables import table
from jaxmec.scenario import DEFAULT

POLICIES = ("static", "once", "closed_form", "best_response")
USED = 0.15  # of a network's slots: a cut that is chosen as often matters


@dataclasses.dataclass(frozen=True)
class Flags:
    """Check a scenario's calibration."""

    scenario: str = DEFAULT
    """Name or YAML file."""
    num_envs: int = 64
    """Episodes."""
    num_slots: int | None = 200
    """Of each; the scenario's own length if None."""
    tradeoffs: tuple[float, ...] = ()
    """V at which best_response is run instead, beside the scenario's own."""
    out: Path | None = None
    """Folder of calibration.csv and of static.json, the fitted table, which is a policy of its own, or of
    tradeoffs.csv; if any."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A criterion of a problem that is worth solving."""

    criterion: str
    asked: str
    found: float
    holds: bool
    interval: float = float("nan")  # half-width of the 95 % interval

    def row(self) -> list[str]:
        """For a table."""
        plus = f" ± {self.interval:.1%}" if self.interval == self.interval else ""
        return [self.criterion, self.asked, f"{self.found:.1%}{plus}", "holds" if self.holds else "fails"]


def findings(env: EdgeInferenceEnv, comparison: Comparison) -> list[Finding]:
    """The criteria, from a comparison of `POLICIES`."""
    runs = comparison.long_run
    best = runs["best_response"]
    equal = {name: run.metrics["equal_energy"] for name, run in runs.items()}

    def slower(name: str) -> tuple[float, float]:
        mean, half = paired_difference(equal[name], equal["best_response"])
        return mean / equal["best_response"].mean(), half / equal["best_response"].mean()

    def gap(name: str) -> np.ndarray:
        return comparison.objectives[name] / comparison.bound - 1.0

    static, once = slower("static"), slower("once")
    search = float(np.mean(gap("closed_form") - gap("best_response")))
    counts = cut_counts(best, len(env.network_names), len(env.device_names)).sum(axis=1)
    shares = np.sort(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), axis=1)
    second = float(shares[:, -2].min()) if shares.shape[1] > 1 else 0.0
    binding = float(best.metrics["device_energy_binding"].mean())
    used = max(float(best.metrics[name].mean()) for name in ("device_energy", "server_energy"))
    unstable = 1.0 - float(best.metrics["stable"].mean())
    over = float(best.metrics["long_run_gap"].mean())
    return [
        Finding("a static table is slower by", "≥ 15 %", static[0], static[0] >= 0.15, static[1]),
        Finding("cuts kept from the first slot are slower by", "≥ 8 %", once[0], once[0] >= 0.08, once[1]),
        Finding("the closed form's slot gap exceeds best_response's by", "≥ 1 %", search, search >= 0.01),
        Finding("devices whose budget binds", "≥ 50 %", binding, binding >= 0.5),
        Finding("mean energy over budget, devices or server", "≤ 100 %", used, used <= 1.0),
        Finding("second most frequent cut of any network", f"≥ {USED:.0%}", second, second >= USED),
        Finding("unstable user-slots", "< 0.5 %", unstable, unstable < 0.005),
        Finding("drift-plus-penalty above the long-run bound", "≤ 2 %", over, over <= 0.02),
    ]


def verdict(found: list[Finding]) -> str:
    """Who decides the scenario, in words."""
    static, once, search = (one.found for one in found[:3])
    if static < 0.03:
        return (
            f"A lookup table decides it: the best of them is within {static:.1%} of the search, at equal energy."
        )
    if once < 0.03:
        return f"The first slot decides it: what is chosen there and kept is within {once:.1%} of the search."
    if search < 0.005:
        return f"The closed form decides it: its slot objective is within {search:.1%} of the search's."
    return (
        f"Only search and learning decide it: a table is {static:.0%} slower, the first slot's cuts {once:.0%}, and "
        f"the closed form leaves {search:.1%} of the slot objective."
    )


def tradeoff_rows(
    env: EdgeInferenceEnv, params: EnvParams, config: EvaluationConfig, tradeoffs: tuple[float, ...]
) -> list[dict[str, float]]:
    """What best_response reaches with other V, on the same episodes: from stationary queues and from empty ones.

    The long-run problem does not depend on V, so all have the multipliers that are found at the scenario's own.
    `from_empty_slots` are those until the mean queue is at nine tenths of its stationary level.
    """
    rows = []
    policies = {"best_response": make_policy("best_response", env)}
    slots = Slots(env, policies)
    key_start, key_episodes, _ = config.keys()
    states, multipliers = long_run.ascend(env, key_start, params, config.num_envs, config.ascent_slots)
    nothing = jax.tree.map(jnp.zeros_like, multipliers)
    names = ("delay_s", "device_energy", "device_energy_excess", "server_energy", "device_queue", "long_run_gap")
    for tradeoff in tradeoffs:
        changed = params.replace(tradeoff=tradeoff + 0.0 * params.tradeoff)
        start = long_run.priced_states(env, states, multipliers, changed)
        run = evaluate_policies(env, changed, policies, config, slots=slots, start=(start, multipliers)).long_run[
            "best_response"
        ]
        row = {"tradeoff": tradeoff} | {name: float(run.metrics[name].mean()) for name in names}
        empty, num_slots = long_run.priced_states(env, states, nothing, changed), len(run.curves["device_queue"])
        started = long_runs(env, policies, key_episodes, changed, config.num_envs, num_slots, empty, slots=slots)[
            "best_response"
        ]
        there = started.curves["device_queue"] >= 0.9 * row["device_queue"]
        row |= {f"from_empty_{name}": float(started.metrics[name].mean()) for name in names[:2]}
        rows.append(row | {"from_empty_slots": float(there.argmax()) if there.any() else float("inf")})
    return rows


def main(flags: Flags) -> int:
    """Print the criteria and what was found; returns the exit status."""
    keep_compiled()
    messages, console = terminal(), terminal(stderr=False)
    try:
        config = EvaluationConfig(num_envs=flags.num_envs, num_slots=flags.num_slots)
        check_limits(config)
        env, params = jaxmec.make(flags.scenario)
        if flags.out is not None:
            flags.out.mkdir(parents=True, exist_ok=True)
        if flags.tradeoffs:
            _show_tradeoffs(console, tradeoff_rows(env, params, config, flags.tradeoffs), flags)
            return 0
        policies = {name: make_policy(name, env) for name in POLICIES}
    except (ValueError, OSError) as error:
        return fail(messages, error)
    comparison = evaluate_policies(env, params, policies, config, tell=partial(say, messages))
    for shown in comparison.tables():
        console.print(shown)
    found = findings(env, comparison)
    title = f"{flags.scenario}: {flags.num_envs} episodes, at equal energy"
    console.print(table(title, ["criterion", "asked", "found", ""], [one.row() for one in found]))
    say(console, verdict(found))
    if flags.out is not None:
        write_csv(flags.out / "calibration.csv", [dataclasses.asdict(one) for one in found])
        table_of_cuts = policies["static"].table  # type: ignore[attr-defined]
        save_table(flags.out / "static.json", table_of_cuts, env.network_names, env.device_names)
    return 0


def _show_tradeoffs(console: Console, rows: list[dict[str, float]], flags: Flags) -> None:
    headers = ["V", "delay", "devices", "excess", "server", "queue", "gap", "delay", "devices", "slots"]
    forms = ("{:g}", "{:.3f}", "{:.3f}", "{:.1%}", "{:.3f}", "{:.0f}", "{:.1%}", "{:.3f}", "{:.3f}", "{:.0f}")
    body = [[form.format(value) for form, value in zip(forms, row.values(), strict=True)] for row in rows]
    title = (
        f"{flags.scenario}: best_response against V: seconds, energies over budgets, gap to the long-run bound; the "
        "last three columns from empty queues, with the slots until they are nine tenths full"
    )
    console.print(table(title, headers, body))
    if flags.out is not None:
        write_csv(flags.out / "tradeoffs.csv", rows)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))

"""Who is fastest with the same energy: delay against energy, with paired intervals.

python eval/equal_energy.py [--scenario NAME] [--run FOLDER] [--num-envs 64]

See `jaxmec.evaluation.equal_energy`. The table has the delay of every policy at the energy that the budgets allow.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tyro

import jaxmec
from jaxmec.compilation import keep_compiled
from jaxmec.environment import Policy
from jaxmec.evaluation import mean_and_interval, paired_difference
from jaxmec.evaluation.equal_energy import Curve, delay_against_energy, static_tables
from jaxmec.policies import make_policy
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.figures import equal_energy as figure
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.tables import table
from jaxmec.scenario import DEFAULT

SEARCH = "best_response"  # that the others are compared with


@dataclasses.dataclass(frozen=True)
class Flags:
    """Compare policies at equal energy."""

    scenario: str = DEFAULT
    """Name or YAML file."""
    run: Path | None = None
    """Folder of a training run, whose policy takes part."""
    policies: tuple[str, ...] = ("closed_form", SEARCH)
    """That take part; a lookup table does in any case, fitted for each multiple."""
    multiples: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    """Of the long-run problem's multipliers."""
    num_envs: int = 64
    """Episodes."""
    num_slots: int = 200
    """Of each."""
    out: Path = Path("runs/equal_energy")
    """Folder of equal_energy.csv and equal_energy.png."""


def rows(curves: dict[str, Curve], energy: float = 1.0) -> list[dict[str, float | str]]:
    """Every policy's delay at an energy, and how much that is over the search's, with paired 95 % intervals.

    Episodes in which some policy's curve does not reach the energy are left out for all.
    """
    delays = {name: curve.delay_at(energy) for name, curve in curves.items()}
    kept = np.all([np.isfinite(values) for values in delays.values()], axis=0)
    found: list[dict[str, float | str]] = []
    for name, values in delays.items():
        delay, half = mean_and_interval(values[kept])
        over, over_half = paired_difference(values[kept], delays[SEARCH][kept])
        reference = float(delays[SEARCH][kept].mean())
        found.append(
            {
                "policy": name,
                "episodes": int(kept.sum()),
                "delay_s": delay,
                "delay_s_ci95": half,
                "over_search": over / reference,
                "over_search_ci95": over_half / reference,
            }
        )
    return found


def main(flags: Flags) -> int:
    """Run, print, write and draw; returns the exit status."""
    keep_compiled()
    messages, console = terminal(), terminal(stderr=False)
    try:
        env, params = jaxmec.make(flags.scenario)
        if SEARCH not in flags.policies:
            raise ValueError(f"policies: got {', '.join(flags.policies)}; {SEARCH} has to be among them")
        named = {name: make_policy(name, env) for name in flags.policies}
        if flags.run is not None:
            named["learned"] = make_policy(flags.run, env)
        flags.out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        return fail(messages, error)
    say(messages, "fitting lookup tables")
    tables = static_tables(env, params, flags.multiples)
    policies: dict[str, Policy | Sequence[Policy]] = {"static": tables, **named}
    curves = delay_against_energy(
        env,
        params,
        policies,
        flags.multiples,
        flags.num_envs,
        flags.num_slots,
        tell=partial(say, messages),
    )
    found = rows(curves)
    write_csv(flags.out / "equal_energy.csv", found)
    figure.delay_against_energy(
        flags.out / "equal_energy.png", curves, SEARCH, f"{env.name}, {flags.num_envs} episodes"
    )
    console.print(
        table(
            f"{env.name}: delay with the energy that the budgets allow, {found[0]['episodes']} episodes, ± 95 %",
            ["policy", "delay [s]", f"over {SEARCH}"],
            [
                [
                    str(row["policy"]),
                    f"{row['delay_s']:.4f} ± {row['delay_s_ci95']:.4f}",
                    f"{row['over_search']:+.1%} ± {row['over_search_ci95']:.1%}",
                ]
                for row in found
            ],
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))

"""The delay formula against simulated requests, where it holds and where it does not: a table and a figure.

python eval/validation.py [--users 200] [--requests 20000]
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import tyro

from jaxmec.compilation import keep_compiled
from jaxmec.evaluation.queueing import Point, points
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.figures.validation import RULES, said_over_simulated
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.tables import table


@dataclasses.dataclass(frozen=True)
class Flags:
    """Simulate requests through three queues, and compare their delays with the formula and with two other rules."""

    users: int = 100
    """Independent users of each case; intervals are over them."""
    requests: int = 10_000
    """Requests of each user; more where queues remember for long."""
    seed: int = 0
    """Of all cases."""
    out: Path = Path("runs/validation")
    """Folder of the table (CSV) and the figure (PNG)."""


def main(flags: Flags) -> int:
    """Run the command; returns the exit status."""
    messages, results = terminal(), terminal(stderr=False)
    keep_compiled()
    if flags.users < 2 or flags.requests < 100:
        return fail(
            messages,
            f"users, requests: got {flags.users}, {flags.requests}; allowed are at least 2 users and 100 requests",
        )
    found: list[Point] = []
    try:
        flags.out.mkdir(parents=True, exist_ok=True)
        for point in points(flags.users, flags.requests, flags.seed):
            say(messages, f"{point.study}, {point.case}: {point.simulated_s:.5f} s")
            found.append(point)
        write_csv(flags.out / "validation.csv", [dataclasses.asdict(point) for point in found])
        said_over_simulated(flags.out / "validation.png", found)
    except OSError as error:
        return fail(messages, error)
    headers = ["study", "case", "simulated [s]", "± 95 %", *RULES.values()]
    rows = []
    for point in found:
        said = (f"{getattr(point, field) / point.simulated_s - 1.0:+.2%}" for field in RULES)
        rows.append([point.study, point.case, f"{point.simulated_s:.5f}", f"{point.half_width_s:.5f}", *said])
    results.print(table("What is said of the mean delay, over what requests met", headers, rows, left=2))
    say(results, f"written to {flags.out}: validation.csv, validation.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))

"""How long everything takes, and how accurate it is: one run, one machine, one table.

python eval/benchmark.py [--sections allocate clarabel env policies learner] [--users 5 10] [--batches 4096]
python eval/benchmark.py --sections accuracy --users 1 2 5 10 20 50      # 136,000 problems

For figures per core pin it to one: `taskset -c 0 python eval/benchmark.py`.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib
import os
import platform
from pathlib import Path
from typing import Literal

import jax
import tyro
from benchmarks.common import Row, Settings
from rich.table import Table

from jaxmec.reporting.console import say, terminal
from jaxmec.reporting.style import colour, drawing, plain_log

# A section is a function from Settings to rows; a new one is an entry here and a name in `SectionName`. It is imported
# when it runs, for some need libraries that others do without.
SECTIONS = {
    "accelerator": "accelerator",
    "accuracy": "layer",
    "allocate": "layer",
    "clarabel": "clarabel_solver",
    "compile": "compilation",
    "eager": "compilation",
    "env": "system",
    "peers": "peers",
    "policies": "system",
    "learner": "learner",
    "requests": "requests",
}
SectionName = Literal[
    "accelerator",
    "accuracy",
    "allocate",
    "clarabel",
    "compile",
    "eager",
    "env",
    "peers",
    "policies",
    "learner",
    "requests",
]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Measure time and accuracy."""

    sections: tuple[SectionName, ...] = (
        "allocate",
        "clarabel",
        "compile",
        "env",
        "policies",
        "learner",
        "requests",
    )
    """What is measured; accuracy takes the longest and is not among the defaults."""
    users: tuple[int, ...] = (5, 10, 20, 50, 200)
    """Numbers of users."""
    batches: tuple[int, ...] = (1, 16, 256, 4096, 65536)
    """Problems at once; more than two million user rows are left out."""
    seconds: float = 0.3
    """How long one timing repeats."""
    count: int = 16384
    """Problems in each set of the accuracy study of up to five users; larger ones get fewer."""
    out: Path = Path("runs/benchmark")
    """Folder of the table (CSV) and the figure (PNG)."""


def machine() -> str:
    """Processor, cores that this process may use, accelerator, and versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
        cpu = names[0] if names else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.devices()[0].device_kind
    return f"{cpu}, {cores} core(s); {device}; jax {jax.__version__}, Python {platform.python_version()}"


def table(rows: list[Row]) -> Table:
    """Rows for the eye."""
    shown = Table(title=machine())
    for header in ("what", "N", "batch", "dtype", "µs each", "gap p99.9", "gap max", "compile s", "note"):
        shown.add_column(header, justify="left" if header in ("what", "note") else "right")

    def number(value: float, pattern: str) -> str:
        return format(value, pattern) if value == value else ""

    for row in rows:
        shown.add_row(
            row.what,
            str(row.users),
            str(row.batch),
            row.dtype,
            number(row.microseconds, ",.2f"),
            number(row.gap_p999, ".1e"),
            number(row.gap_max, ".1e"),
            number(row.compile_s, ".1f"),
            row.note,
            end_section=False,
        )
    return shown


def comparison(row: Row, rows: list[Row]) -> str:
    """How many times `allocate` a solver takes, where both were measured."""
    ours = [r for r in rows if (r.section, r.users, r.dtype) == ("allocate", row.users, "float32")]
    if row.section not in ("clarabel", "peers") or not ours:
        return ""
    if row.section == "peers":
        ours = [r for r in ours if r.batch == row.batch]
    times = ", ".join(f"{row.microseconds / r.microseconds:,.0f} (batch {r.batch})" for r in ours)
    return f"; times allocate in float32: {times}"


def figure(rows: list[Row], path: Path) -> None:
    """Time per problem over the batch, one line per number of users, Clarabel's as dashes."""
    ours = [row for row in rows if row.section == "allocate" and row.dtype == "float32"]
    with drawing(path, figsize=(7.0, 4.0)) as (figure_, axis):
        for index, users in enumerate(sorted({row.users for row in ours})):
            line = [row for row in ours if row.users == users]
            batches, times = [row.batch for row in line], [row.microseconds for row in line]
            axis.plot(batches, times, "o-", ms=4, color=colour(index), label=f"{users} users")
            for row in rows:
                if row.what.startswith("Clarabel") and row.users == users:
                    axis.axhline(row.microseconds, color=colour(index), ls="--", lw=0.9)
        axis.set(xlabel="problems in a batch", ylabel="µs per problem")
        axis.set_title("allocate (solid, float32) and Clarabel's own solve time (dashed)", fontsize=10)
        for each in (axis.xaxis, axis.yaxis):
            plain_log(each)
        figure_.legend(loc="outside right center")


def main(flags: Flags) -> None:
    """Run the sections, print the table, write it."""
    console = terminal(stderr=False)
    flags.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    settings = Settings(flags.users, flags.batches, flags.seconds, flags.count)
    for name in flags.sections:
        with console.status(name):
            section = getattr(importlib.import_module(f"benchmarks.{SECTIONS[name]}"), f"{name}_section")
            for row in section(settings):
                rows.append(row)
                timed = row.microseconds == row.microseconds
                took = f"{row.microseconds:.2f} µs" if timed else f"compiled in {row.compile_s:.1f} s"
                console.log(f"{row.what}, N {row.users}, batch {row.batch}, {row.dtype}: {took}")
    rows = [dataclasses.replace(row, note=row.note + comparison(row, rows)) for row in rows]
    console.print(table(rows))
    with (flags.out / "benchmark.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Row)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)
    if any(row.section == "allocate" for row in rows):
        figure(rows, flags.out / "benchmark.png")
    say(console, f"written to {flags.out}")


if __name__ == "__main__":
    main(tyro.cli(Flags))

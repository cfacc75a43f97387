"""What was reached with how much training: a page from result files, and a result file from a run.

python eval/scoreboard.py                                                   # docs/scoreboard.md from docs/scoreboard/
python eval/scoreboard.py --run runs/mine --name "set, seed 0" --seconds 69 --machine "two cores" --commit d2ef1bd

A result file is what `jaxmec eval --run RUN` left in the run's folder, and with `--requests` the requests' part of it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from jaxmec.agents import RunConfig, load_config
from jaxmec.agents.run import algorithm_name, plain_run
from jaxmec.config import ConfigError, build, number, read_json
from jaxmec.policies import LEARNED
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.files import read_csv, replace_file

DOCS = Path(__file__).parents[1] / "docs"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One result: what was trained, with how much of everything, and what it reached."""

    name: str
    scenario: str  # with its version, "district10-v1"
    algorithm: str  # none of a rule or search
    machine: str  # that trained
    commit: str  # of the code that trained
    command: str
    slots: int = number(at_least=0, at_most=10**12)  # of training
    seconds: float = number(at_least=0, at_most=1e9)  # of training, compilation apart
    gap_mean: float = number(at_least=0, at_most=1e6)  # certified, at the states of best_response
    gap_p99: float = number(at_least=0, at_most=1e6)
    delay_s: float = number(at_least=0, at_most=1e6)  # mean, on its own trajectories
    p95_s: float | None = number(None, at_least=0, at_most=1e6)  # of requests, where they were simulated


# The budgets: a result stands wherever it keeps within one.
BUDGETS: dict[str, Callable[[Entry], bool]] = {
    "1 million slots": lambda entry: entry.slots <= 1_000_000,
    "6 million slots": lambda entry: entry.slots <= 6_000_000,
    "1 minute": lambda entry: entry.seconds <= 60,
    "10 minutes": lambda entry: entry.seconds <= 600,
}
HEADERS = (
    "result", "slot gap, mean", "p99", "delay s", "p95 s", "slots", "seconds", "machine", "commit",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Flags:
    """Write the scoreboard, or a result file for it."""

    run: Path | None = None
    """Folder of a finished run that `jaxmec eval --run` has evaluated: a result file is written first."""
    policy: str = LEARNED
    """Of that evaluation; also a rule or a search, or the folder of another run, beside the run."""
    name: str | None = None
    """How the result is called."""
    seconds: float | None = None
    """Of training, as `jaxmec train` told them."""
    machine: str | None = None
    """That trained, in words."""
    commit: str | None = None
    """Of the code that trained."""
    docs: Path = DOCS
    """Where scoreboard.md and scoreboard/ lie."""


def read_entries(folder: Path) -> list[Entry]:
    """All result files of a folder, the smallest mean gap first.

    Raises:
      ConfigError: naming file, field and value.
    """
    entries = [build(Entry, read_json(path), path) for path in sorted(folder.glob("*.json"))]
    return sorted(entries, key=lambda entry: entry.gap_mean)


def entry_of(flags: Flags) -> Entry:
    """The result of an evaluated run.

    Raises:
      ConfigError: if something is missing.
    """
    for field in ("name", "seconds", "machine", "commit"):
        if getattr(flags, field) is None:
            raise ConfigError(f"{field}: got none; allowed is a value for every result")
    assert flags.run is not None
    folder = flags.run / "evaluation"
    mine = flags.run if flags.policy == LEARNED else Path(flags.policy)
    same, long_run = (_row(folder / name, flags.policy) for name in ("same_states.csv", "long_run.csv"))
    requests = folder / "requests.csv"
    config = load_config(mine) if (mine / "config.yaml").exists() else None
    entry = {
        "name": flags.name,
        "scenario": same["scenario"],
        "algorithm": algorithm_name(config.algorithm) if config else "none",
        "slots": config.algorithm.total_steps if config else 0,
        "seconds": flags.seconds if config else 0.0,
        "machine": flags.machine,
        "gap_mean": float(same["certified_gap_mean"]),
        "gap_p99": float(same["certified_gap_p99"]),
        "delay_s": float(long_run["delay_s"]),
        "p95_s": float(_row(requests, flags.policy)["p95_s"]) if requests.exists() else None,
        "commit": flags.commit,
        "command": training_command(config) if config else "jaxmec eval",
    }
    return build(Entry, entry, "flags")


def training_command(config: RunConfig) -> str:
    """What trains such a run: algorithm and seed, and whatever else is not the default."""
    algorithm = algorithm_name(config.algorithm)
    run, usual = (plain_run(one) for one in (config, RunConfig(algorithm=type(config.algorithm)())))
    run |= run.pop(algorithm)
    usual |= usual.pop(algorithm)
    changed = {name: value for name, value in run.items() if value != usual[name]}
    flags = {"algorithm": algorithm, "seed": config.seed} | changed
    return " ".join(["jaxmec train", *(_flag(name.replace("_", "-"), value) for name, value in flags.items())])


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {value}"


def _row(path: Path, policy: str) -> dict[str, str]:
    try:
        rows = {row["policy"]: row for row in read_csv(path)}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; evaluate the run first") from None
    if policy not in rows:
        raise ConfigError(f"policy: got {policy!r}; allowed are {', '.join(rows)} of {path}")
    return rows[policy]


def page(entries: Sequence[Entry]) -> str:
    """The page: a table for every scenario and budget."""
    lines = [INTRODUCTION]
    for scenario in dict.fromkeys(entry.scenario for entry in entries):
        for budget, within in BUDGETS.items():
            kept = [entry for entry in entries if entry.scenario == scenario and within(entry)]
            lines += [
                f"## {scenario}, at most {budget}",
                "",
                f"| {' | '.join(HEADERS)} |",
                "|" + "---|" * len(HEADERS),
            ]
            lines += [f"| {' | '.join(_cells(entry))} |" for entry in kept]
            lines.append("")
    return "\n".join([*lines, SUBMITTING])


def _cells(entry: Entry) -> tuple[str, ...]:
    trained = entry.algorithm != "none"
    return (
        entry.name.replace("|", "\\|"),
        f"{100 * entry.gap_mean:.2f} %",
        f"{100 * entry.gap_p99:.1f} %",
        f"{entry.delay_s:.4f}",
        "" if entry.p95_s is None else f"{entry.p95_s:.3f}",
        f"{entry.slots:,}" if trained else "",
        f"{entry.seconds:.3g}" if trained else "",
        entry.machine.replace("|", "\\|") if trained else "",
        entry.commit,
    )


INTRODUCTION = """# Scoreboard

What learners reach with a fixed budget of slots or of seconds, compilation apart, beside rules and searches that need
no training. The slot gap is certified (`lower_bound`), at the states that `best_response` visits in every tenth slot of
32 held-out episodes; the delay is on a policy's own trajectories, and p95 that of all requests, where they were
simulated. A result stands in every table whose budget it keeps; seconds are those of the machine that is named. This
page is written by `python eval/scoreboard.py` from the files in `docs/scoreboard`.
"""

SUBMITTING = """## How to submit a result

    jaxmec train --out runs/mine                  # any algorithm; it tells its seconds at the end
    jaxmec eval --run runs/mine --requests        # the held-out episodes and the requests of every result here
    python eval/scoreboard.py --run runs/mine --name "mine, seed 0" --seconds 69 --machine "two cores" --commit HASH

writes `docs/scoreboard/mine-seed-0.json` and this page; send both. The commit is that of the code that trained, so
that everybody can run it again. One seed is one result: send several, and leave none out. They may share an evaluation,
`--policies best_response runs/other`; the last command then takes `--policy runs/other`.
"""


def main(flags: Flags) -> int:
    """Run the command; returns the exit status."""
    console = terminal()
    try:
        folder = flags.docs / "scoreboard"
        if flags.run is not None:
            entry = entry_of(flags)
            path = folder / f"{re.sub(r'[^a-z0-9]+', '-', entry.name.lower()).strip('-')}.json"
            replace_file(path, json.dumps(dataclasses.asdict(entry), indent=1) + "\n")
            say(console, f"written: {path}")
        replace_file(flags.docs / "scoreboard.md", page(read_entries(folder)))
        say(console, f"written: {flags.docs / 'scoreboard.md'}")
    except (ValueError, OSError) as error:
        return fail(console, error)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))

"""A sweep's folder.

sweep.yaml        everything that decides the results
plan.json         a digest of all settings, and how each group was compiled and cut into chunks
trials.csv        one row per trial; grows as chunks end
ranking.csv       settings from best to worst
best.yaml         the best setting as a configuration of `jaxmec train`, where only hyperparameters were swept
winners.png, curves.png
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from jaxmec.agents.run import dump_algorithm
from jaxmec.config import ConfigError, build, check_file, number, read_json
from jaxmec.reporting.files import read_csv, replace_file, write_csv
from jaxmec.sweeps import config as schema
from jaxmec.sweeps.config import SweepConfig, cell

Row = dict[str, str]
FINISHED = ("ok", "diverged")  # the status of trials that need not run again
LARGEST_TABLE = 2_000_000_000  # bytes of trials.csv
DAMAGED = "damaged, no row of a trial; restore the file, or start anew in another folder"


class Folder:
    """The files of a sweep; every one is replaced whole, so a crash at any moment leaves no torn file."""

    def __init__(self, path: Path, config: SweepConfig, fingerprint: str, resume: bool) -> None:
        """Start a folder, or open one that holds trials of the same sweep.

        Raises:
          ConfigError: if the folder holds trials and `resume` is not asked for, or holds those of another sweep.
        """
        self.path = path
        self._table, self._plan = path / "trials.csv", path / "plan.json"
        self.rows: list[Row] = []
        check(path, resume)
        if self._table.exists():
            check_same(path, config)
            self.plan = dataclasses.asdict(build(_Plan, read_json(self._plan), self._plan))
            if self.plan["fingerprint"] != fingerprint:
                raise ConfigError(
                    f"out: the settings of {path} were built from other numbers: the scenario's file, its "
                    "profiles, jaxmec's defaults or the precision have changed since; name another folder"
                )
            self.rows = _read_rows(self._table)
        else:
            path.mkdir(parents=True, exist_ok=True)
            self.plan = {"fingerprint": fingerprint, "groups": {}}
            replace_file(path / "sweep.yaml", dump(config))
            replace_file(self._plan, json.dumps(self.plan, indent=1))

    def chunk(self, group: int) -> int | None:
        """The chunk size that a group had when it last ran: results can depend on it in the last digits."""
        return self.plan["groups"].get(str(group), {}).get("chunk")

    def note_group(self, group: int, facts: Mapping[str, Any]) -> None:
        """Keep how a group runs."""
        self.plan["groups"][str(group)] = dict(facts)
        replace_file(self._plan, json.dumps(self.plan, indent=1))

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add trials to the table; a trial's earlier row is replaced."""
        known = {row["trial"]: row for row in self.rows}
        known |= {str(row["trial"]): {name: cell(value) for name, value in row.items()} for row in rows}
        self.rows = sorted(known.values(), key=lambda row: int(row["trial"]))
        write_csv(self._table, self.rows)

    def finished(self) -> set[int]:
        """Ids of the trials that need not run again."""
        return {int(row["trial"]) for row in self.rows if row["status"] in FINISHED}


@dataclasses.dataclass(frozen=True)
class _Group:
    """How a group was compiled."""

    chunk: int = number(at_least=1, at_most=10**9)
    trials: int | None = number(None, at_least=1, at_most=10**9)
    memory_bytes: int | None = number(None, at_least=0, at_most=2**63)
    compile_s: float | None = number(None, at_least=0, at_most=1e9)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What `plan.json` holds."""

    fingerprint: str
    groups: dict[str, _Group] = dataclasses.field(default_factory=dict)


def _read_rows(path: Path) -> list[Row]:
    """The rows of `trials.csv`.

    Raises:
      ConfigError: telling line and column of what is no trial.
    """
    check_file(path, LARGEST_TABLE)
    try:
        rows = read_csv(path)
    except (ValueError, csv.Error):
        rows = []
    for line, row in enumerate(rows, 2):
        whole = None not in row and None not in row.values() and row.get("status") in (*FINISHED, "failed")
        ids = (row.get(name, "0") for name in ("trial", "setting", "group", "seed"))
        if not whole or "trial" not in row or not all(text.isdecimal() for text in ids):
            raise ConfigError(f"{path}: line {line}: {DAMAGED}")
    if not rows:
        raise ConfigError(f"{path}: {DAMAGED}")
    return rows


def check(path: Path, resume: bool) -> None:
    """Refuse a folder that a sweep must not write into.

    Raises:
      ConfigError: if it holds a sweep that is not to be resumed, or anything else.
    """
    if not path.is_dir():
        return
    if (path / "trials.csv").exists() and not resume:
        raise ConfigError(f"out: {path} holds a sweep; continue it with --resume, or name another folder")
    others = [one.name for one in path.iterdir() if one.name != ".lock"]
    if others and not (path / "sweep.yaml").exists():
        raise ConfigError(f"out: {path} is not empty and holds no sweep; name another folder")


def stored(path: Path) -> SweepConfig:
    """The configuration of a folder's sweep.

    Raises:
      ConfigError: if the folder holds none.
    """
    return schema.load(path / "sweep.yaml")


def check_same(path: Path, config: SweepConfig) -> None:
    """Refuse to mix two sweeps.

    Raises:
      ConfigError: naming the fields that differ, and both values.
    """
    old, new = plain(stored(path)), plain(config)
    changed = [
        f"{name} was {old.get(name)!r} and is now {new[name]!r}" for name in new if old.get(name) != new[name]
    ]
    if changed:
        raise ConfigError(f"out: {path} holds another sweep ({'; '.join(changed)}); name another folder")


def plain(config: SweepConfig) -> dict[str, Any]:
    """The configuration as its file has it."""
    data = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name != "algorithm"}
    data["space"] = {path: dataclasses.asdict(space) for path, space in config.space.items()}
    for name in ("evaluation", "curves"):
        data[name] = data[name] and dataclasses.asdict(data[name])
    return json.loads(json.dumps(data | dump_algorithm(config.algorithm)))


def dump(config: SweepConfig) -> str:
    """The configuration as the text of a sweep's file."""
    data = plain(config)
    data["space"] = {
        path: {name: values for name, values in space.items() if values is not None}
        for path, space in data["space"].items()
    }
    return yaml.safe_dump(data, sort_keys=False)

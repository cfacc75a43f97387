"""What a sweep leaves at its end: the ranking, the figures, and the best setting as a training configuration."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import yaml

from jaxmec.agents.run import RunConfig
from jaxmec.agents.sweep import figures
from jaxmec.agents.sweep.config import SweepConfig
from jaxmec.agents.sweep.folder import Folder, Row, write, write_rows
from jaxmec.agents.sweep.plan import Setting
from jaxmec.agents.sweep.ranking import rank, ranking_rows, short, short_value

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 10


def write_report(folder: Folder, config: SweepConfig) -> list[Row]:
    """Write `ranking.csv` and the figures from the trials so far; returns the ranking's rows."""
    ranked = rank(folder.rows, config)
    rows = ranking_rows(ranked, config.metric)
    if rows:
        write_rows(folder.path / "ranking.csv", rows)
        figures.winners(folder.path / "winners.png", ranked, config.metric)
        if config.curves is not None:
            figures.curves(folder.path / "curves.png", folder.rows, config)
    return rows


def write_best(folder: Folder, scenario: str, best: Setting) -> None:
    """Write the best setting as a configuration of train/main.py."""
    run = RunConfig(scenario=scenario, ppo=best.ppo)
    write(folder.path / "best.yaml", yaml.safe_dump(dataclasses.asdict(run), sort_keys=False))


def ranking_table(rows: list[Row], config: SweepConfig) -> Table:
    """The best settings for a terminal."""
    from rich import box
    from rich.table import Table

    better = "lower" if config.mode == "min" else "higher"
    table = Table(
        title=f"{config.metric}, {better} is better",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    paths = [path for path in config.space if path not in config.across]
    table.add_column("rank", justify="right")
    for path in paths:
        table.add_column(short(path), justify="right")
    for header in ("runs", "IQM", "95 % low", "high"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows[:SHOWN]:
        estimates = (row[f"{config.metric}_{end}"] for end in ("iqm", "low95", "high95"))
        table.add_row(
            row["rank"],
            *(short_value(row[path]) for path in paths),
            row["runs"],
            *(f"{float(estimate):.4g}" for estimate in estimates),
        )
    return table

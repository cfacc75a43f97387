"""What a sweep leaves at its end: the ranking, the figures, and the best setting as a training configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import yaml

from jaxmec.agents.run import RunConfig, plain_run
from jaxmec.reporting.figures import sweep as figures
from jaxmec.reporting.files import replace_file, write_csv
from jaxmec.reporting.tables import table
from jaxmec.sweeps.config import Curves, SweepConfig
from jaxmec.sweeps.folder import Folder, Row
from jaxmec.sweeps.plan import Setting
from jaxmec.sweeps.ranking import candidates, label, rank, ranking_rows, short, short_value

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 10


def write_report(folder: Folder, config: SweepConfig) -> list[Row]:
    """Write `ranking.csv` and the figures from the trials so far; returns the ranking's rows."""
    ranked = rank(folder.rows, config)
    rows = ranking_rows(ranked, config.metric)
    if rows:
        write_csv(folder.path / "ranking.csv", rows)
        best = [(label(one.values), one) for one in ranked if np.isfinite(one.estimate)][:SHOWN]
        figures.winners(folder.path / "winners.png", best, config.metric)
        if config.curves is not None:
            _draw_curves(folder, config, config.curves)
    return rows


def _draw_curves(folder: Folder, config: SweepConfig, wanted: Curves) -> None:
    """Metrics against a swept field: interquartile means and intervals over everything that is not shown."""
    shown = [wanted.x] if wanted.lines is None else [wanted.lines, wanted.x]
    others = [path for path in config.space if path not in shown]
    panels: dict[str, figures.Lines] = {}
    for metric in wanted.y:
        found = candidates(folder.rows, [*shown, *others], metric, across=others, worst=np.nan)
        lines: dict[str, list[tuple[str, figures.Estimate]]] = {}
        for one in sorted(found, key=lambda one: [figures.place_of(one.values[path]) for path in shown]):
            if np.isfinite(one.estimate):
                name = short_value(one.values[wanted.lines]) if wanted.lines is not None else ""
                lines.setdefault(name, []).append((one.values[wanted.x], one))
        panels[metric] = lines
    figures.curves(folder.path / "curves.png", panels, wanted.x, wanted.lines)


def write_best(folder: Folder, config: SweepConfig, best: Setting) -> None:
    """Write the best setting as a configuration of `jaxmec train`."""
    run = RunConfig(scenario=config.scenario, algorithm=best.algorithm, fidelity=config.fidelity)
    replace_file(folder.path / "best.yaml", yaml.safe_dump(plain_run(run), sort_keys=False))


def ranking_table(rows: list[Row], config: SweepConfig) -> Table:
    """The best settings for a terminal."""
    better = "lower" if config.mode == "min" else "higher"
    paths = [path for path in config.space if path not in config.across]
    body = []
    for row in rows[:SHOWN]:
        estimates = (row[f"{config.metric}_{end}"] for end in ("iqm", "low95", "high95"))
        body.append(
            [
                row["rank"],
                *(short_value(row[path]) for path in paths),
                row["runs"],
                *(f"{float(estimate):.4g}" for estimate in estimates),
            ]
        )
    headers = ["rank", *map(short, paths), "runs", "IQM", "95 % low", "high"]
    return table(f"{config.metric}, {better} is better", headers, body, left=0)

"""A comparison of policies as rows for CSV files and as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxmec.evaluation.statistics import mean_and_interval, paired_difference
from jaxmec.reporting.tables import number, table

if TYPE_CHECKING:
    from rich.table import Table

    from jaxmec.evaluation.comparison import Comparison, LongRun
    from jaxmec.requests import RequestReport

Row = dict[str, float | str]

# What the terminal shows of the metrics that there are: header and form. Everything is in the CSV.
SHOWN = {
    "long_run_gap": ("long-run gap", "{:.1%}"),
    "delay_s": ("delay [s]", "{:.4g}"),
    "device_energy": ("device", "{:.3f}"),
    "server_energy": ("server", "{:.3f}"),
    "stable": ("stable", "{:.1%}"),
    "device_energy_excess": ("excess", "{:.1%}"),
}
OTHERWISE = {
    "reward": ("reward", "{:.4g}"),
    "objective": ("objective", "{:.4g}"),
}  # of an environment without those


def long_run_rows(results: Mapping[str, LongRun]) -> list[Row]:
    """One row per policy: every metric's mean and the half-width of its 95 % interval."""
    rows = []
    for policy, result in results.items():
        row: Row = {"policy": policy}
        for name, values in result.metrics.items():
            row[name], row[f"{name}_ci95"] = mean_and_interval(values)
        rows.append(row)
    return rows


def paired_rows(comparison: Comparison) -> list[Row]:
    """As `long_run_rows`, with the paired differences from the reference policy.

    `delay_over_reference_s` is of the delay, `over_reference` of that at equal energy, relative to the reference's.
    """
    reference = comparison.long_run[comparison.reference].metrics
    scale = float(reference["equal_energy"].mean())
    rows = long_run_rows(comparison.long_run)
    for row in rows:
        metrics = comparison.long_run[str(row["policy"])].metrics
        delay = paired_difference(metrics["delay_s"], reference["delay_s"])
        equal = paired_difference(metrics["equal_energy"], reference["equal_energy"])
        row["delay_over_reference_s"], row["delay_over_reference_s_ci95"] = delay
        row["over_reference"], row["over_reference_ci95"] = equal[0] / scale, equal[1] / scale
    return rows


def same_state_rows(comparison: Comparison) -> list[Row]:
    """One row per policy: objectives at the same states, against the reference policy and the bound."""
    best, bound = comparison.objectives[comparison.reference], comparison.bound
    nowhere = np.full_like(bound, np.nan)
    rows: list[Row] = []
    for policy in comparison.long_run:
        values = comparison.objectives.get(policy, nowhere)
        row: Row = {
            "policy": policy,
            "objective_mean": float(values.mean()),
            "objective_p50": float(np.percentile(values, 50)),
            "objective_p99": float(np.percentile(values, 99)),
            "mean_over_reference": float(values.mean() / best.mean()),
            "ratio_to_reference_mean": float((values / best).mean()),
            "ratio_to_reference_p99": float(np.percentile(values / best, 99)),
            "certified_gap_mean": float((values / bound - 1.0).mean()),
            "certified_gap_p99": float(np.percentile(values / bound - 1.0, 99)),
            "decision_us": 1e6 * comparison.decision_s.get(policy, float("nan")),
        }
        rows.append(row)
    return rows


def long_run_table(comparison: Comparison) -> Table:
    """The long-run metrics for a terminal of eighty columns; the half-width of a 95 % interval behind the first."""
    rows = long_run_rows(comparison.long_run)
    shown = {name: how for name, how in (SHOWN | OTHERWISE).items() if name in rows[0]}
    if any(name in shown for name in SHOWN):
        shown = {name: how for name, how in shown.items() if name in SHOWN}
    first = next(iter(shown))
    body = [
        [
            row["policy"],
            shown[first][1].format(row[first]),
            number(float(row[f"{first}_ci95"]), "± " + shown[first][1]),
            *(form.format(row[name]) for name, (_, form) in shown.items() if name != first),
        ]
        for row in rows
    ]
    title = f"{comparison.scenario}, long run: energies over budgets, gap to the certified bound at equal energy"
    headers = [header for header, _ in shown.values()]
    return table(title, ["policy", headers[0], "", *headers[1:]], body)


def same_state_table(comparison: Comparison) -> Table:
    """The objectives at the same states for a terminal of eighty columns."""
    forms = {
        "objective_mean": ("mean", "{:.4g}"),
        "ratio_to_reference_mean": ("ratio", "{:.4f}"),
        "ratio_to_reference_p99": ("ratio p99", "{:.3f}"),
        "certified_gap_mean": ("gap", "{:.2%}"),
        "certified_gap_p99": ("gap p99", "{:.2%}"),
    }
    if comparison.decision_s:
        forms["decision_us"] = ("µs/slot", "{:,.1f}")
    return table(
        f"{comparison.scenario}, slot objective at the same states; ratio to {comparison.reference}, gap to the "
        "certified bound",
        ["policy", *(header for header, _ in forms.values())],
        [
            [row["policy"], *(number(float(row[name]), form) for name, (_, form) in forms.items())]
            for row in same_state_rows(comparison)
        ],
    )


# What the terminal shows of the requests: header and form.
REQUESTS_SHOWN = {
    "delay_s": ("mean [s]", "{:.4g}"),
    "p99_s": ("p99", "{:.3g}"),
    "late": ("late", "{:.2%}"),
    "p95_s": ("p95", "{:.3g}"),
    "p50_s": ("p50", "{:.3g}"),
    "backlog_s": ("backlog [s]", "{:.3g}"),
}


def request_rows(reports: Mapping[str, RequestReport]) -> list[Row]:
    """One row per policy: every estimate and half the width of its interval, and how it was found."""
    rows = []
    for policy, report in reports.items():
        row: Row = {"policy": policy}
        for name, estimate in report.estimates.items():
            row[name], row[f"{name}_half_width"] = estimate
        row |= {
            "level": report.level,
            "requests": report.requests,
            "replications": len(report.means_s),
            "warm_up_slots": report.warm_up_slots,
            "settled": str(report.settled),
            "quantile_error": report.sketch.relative_error,
        }
        rows.append(row)
    return rows


def request_table(reports: Mapping[str, RequestReport]) -> Table:
    """The requests for a terminal of eighty columns: each figure with half the width of its interval."""
    first = next(iter(reports.values()))
    rows = []
    for policy, report in reports.items():
        cells = []
        for name, (_, form) in REQUESTS_SHOWN.items():
            value, half_width = report.estimates[name]
            cells.append(f"{form.format(value)} ± {form.format(half_width)}")
        rows.append([policy if report.settled else f"{policy} (not settled)", *cells])
    return table(
        f"Every request, with {first.level:.0%} intervals; percentiles within {first.sketch.relative_error:.1%}",
        ["policy", *(header for header, _ in REQUESTS_SHOWN.values())],
        rows,
    )

"""Tables and figures of a report from the rows of each part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxmec.evaluation.tables import Row
from jaxmec.reporting.interactive import Line, Panel, dots, heat, panels
from jaxmec.reporting.report import Figure, Section, Table
from studies import findings
from studies.cuts import STATES
from studies.findings import number
from studies.study import Found

Cell = Callable[[Row], str]
DELAY = "mean delay [s]"
OVER = "delay at equal energy over {} [%]"
LARGE = 100.0  # decimals of a number as large as this tell nothing
UNITS = {"channel": "dB", "queue": "", "arrivals": "per s"}


def with_interval(name: str, given: str, scale: float = 1.0) -> Cell:
    """A cell "value ± half", without decimals where it is large."""

    def cell(row: Row) -> str:
        value, half = scale * number(row, name), scale * number(row, f"{name}_ci95")
        if not np.isfinite(value):
            return "–"
        form = ".0f" if abs(value) >= LARGE else given
        return f"{value:{form}} ± {half:{form}}" if np.isfinite(half) else f"{value:{form}}"

    return cell


def margin(name: str) -> Cell:
    """A cell that says whether a budget is met, and by how much of it."""

    def cell(row: Row) -> str:
        left, half = 100 * (1.0 - number(row, name)), 100 * number(row, f"{name}_ci95")
        word = {-1: "over", 1: "left", 0: "left or over"}[findings.direction(left, half)]
        return f"{abs(left):.1f} ± {half:.1f} {word}"

    return cell


def plain(name: str, form: str = "", scale: float = 1.0) -> Cell:
    """A cell of a number, or of a text."""

    def cell(row: Row) -> str:
        value = row[name]
        if isinstance(value, str):
            return value
        return f"{scale * float(value):{form}}" if np.isfinite(float(value)) else "–"

    return cell


def table(rows: Sequence[Row], columns: Mapping[str, Cell], caption: str) -> Table:
    """A table with a column for each cell."""
    return Table(tuple(columns), [[cell(row) for cell in columns.values()] for row in rows], caption)


def line(rows: Sequence[Row], x: str, y: str, scale: float = 1.0) -> Line:
    """Rows as a line, in the order of x, with intervals where there are any."""
    ordered = sorted(rows, key=lambda row: number(row, x))
    half = [scale * number(row, f"{y}_ci95") for row in ordered] if f"{y}_ci95" in ordered[0] else ()
    return Line([number(row, x) for row in ordered], [scale * number(row, y) for row in ordered], half)


def against_v(rows: Sequence[Row]) -> Line:
    """Delays against V; bars are of the change from the least V, in the same episodes."""
    found = line(rows, "tradeoff", "delay_s")
    shares = line(rows, "tradeoff", "delay_over_first_ci95").y
    return Line(found.x, found.y, [share * found.y[0] for share in shares])


def by(rows: Sequence[Row], column: str) -> dict[str, list[Row]]:
    """Rows by what a column says, in order of appearance."""
    return {
        name: [row for row in rows if str(row[column]) == name]
        for name in dict.fromkeys(str(row[column]) for row in rows)
    }


def delay_and_gap(rows: Sequence[Row], x: str, title: str, order: Sequence[str]) -> dict[str, Any]:
    """Delay and long-run gap of every policy against a column."""
    groups = by(rows, "policy")
    delay = {name: line(one, x, "delay_s") for name, one in groups.items()}
    gap = {name: line(one, x, "long_run_gap", 100) for name, one in groups.items()}
    return panels(
        [Panel(delay, title, DELAY, True, True), Panel(gap, title, "gap to the certified bound [%]", True)], order
    )


def policies(found: Found, order: Sequence[str], learned: str | None) -> Section:
    """The main table, and the differences from the reference drawn."""
    rows = found.rows
    reference = str(rows[0]["reference"])
    columns = {
        "policy": plain("policy"),
        "delay [s]": with_interval("delay_s", ".4f"),
        f"over {reference} [%]": with_interval("over_reference", ".2f", 100),
        "long-run gap [%]": with_interval("long_run_gap", ".2f", 100),
        "slot gap [%]": plain("certified_gap_mean", ".2f", 100),
        "p99 [%]": plain("certified_gap_p99", ".1f", 100),
        "devices' energy / budget": with_interval("device_energy", ".3f"),
        "server's": with_interval("server_energy", ".3f"),
        "devices over theirs [%]": plain("devices_over", ".1f", 100),
        "stable [%]": plain("stable", ".1f", 100),
        "µs a slot": plain("decision_us", ",.1f"),
    }
    caption = (
        f"Every policy in the same episodes. “Over {reference}” is the delay at equal energy, paired, relative to "
        f"{reference}'s; gaps are to certified bounds on all policies. "
    )
    categories = [str(row["policy"]) for row in rows if row["policy"] != reference]
    shown = {
        name: Line([100 * number(row, "over_reference")], [index], [100 * number(row, "over_reference_ci95")])
        for index, name in enumerate(categories)
        for row in rows
        if row["policy"] == name
    }
    near = {name: one for name, one in shown.items() if one.x[0] < 100}
    figure = dots(
        {name: Line(one.x, [list(near).index(name)], one.half) for name, one in near.items()},
        list(near),
        OVER.format(reference),
        order,
    )
    far = [name for name in categories if name not in near]
    told = findings.caption(found.facts)
    return Section(
        "policies",
        "Policies",
        findings.of_policies(rows),
        [table(rows, columns, caption + told)],
        [
            Figure(
                figure,
                f"Delay at equal energy over {reference}'s, paired differences.{_left_out(far, reference)} {told}",
            )
        ],
    )


def _left_out(far: Sequence[str], reference: str) -> str:
    """What a figure has no room for, in words."""
    return f" More than twice the delay of {reference}, and not drawn: {findings.listed(far)}." if far else ""


def learning(found: Found, order: Sequence[str], learned: str | None) -> Section:
    """Curves against slots and against seconds: the median over seeds, and all of them around it."""
    curves = by([row for row in found.rows if row["kind"] == "curve"], "learner")
    middle: dict[str, dict[str, Line]] = {"steps": {}, "seconds": {}}
    for name, rows in curves.items():
        for axis in middle:
            middle[axis][name] = _median(rows, axis)
    title = "slot objective, geometric mean"
    figure = panels(
        [
            Panel(middle["steps"], "slots", title, log_x=True, log_y=True, marks=False),
            Panel(middle["seconds"], "seconds, compilation apart", title, log_y=True, marks=False),
        ],
        order,
    )
    columns = {
        "learner": plain("learner"),
        "seed": plain("seed", "g"),
        "slots": plain("steps", ",.0f"),
        "seconds": plain("seconds", ".0f"),
        "slot gap [%]": plain("gap_mean", ".3f", 100),
        "p99 [%]": plain("gap_p99", ".2f", 100),
    }
    told = findings.caption(found.facts)
    runs = [row for row in found.rows if row["kind"] == "run"]
    return Section(
        "learning",
        "Learning",
        findings.of_learning(found.rows),
        [table(runs, columns, f"What each run has learned, at the same held-out states. {told}")],
        [
            Figure(
                figure,
                "Cuts are drawn, not the most probable ones, while a policy learns. Medians over seeds with the least "
                f"and the greatest as bars. {told}",
            )
        ],
        "Pooled gaps are interquartile means over seeds with stratified bootstrap intervals; a single seed has none.",
    )


def _median(rows: Sequence[Row], axis: str) -> Line:
    """Median over seeds at each point of a curve, with half the range over seeds."""
    points = [sorted(mine, key=lambda row: number(row, "steps")) for mine in by(rows, "seed").values()]
    x = np.median([[number(row, axis) for row in mine] for mine in points], axis=0)
    y = np.array([[number(row, "objective") for row in mine] for mine in points])
    half = (y.max(axis=0) - y.min(axis=0)) / 2 if len(points) > 1 else ()
    return Line(x.tolist(), np.median(y, axis=0).tolist(), list(half))


def tradeoff(found: Found, order: Sequence[str], learned: str | None) -> Section:
    """Delay and queues against V with the guides of the theory, and energies against the budget."""
    rows = found.rows
    reference = str(rows[0]["reference"])
    groups = by(rows, "policy")
    mine = against_v(groups[reference])
    queue = line(groups[reference], "tradeoff", "device_queue")
    falls = Line(mine.x, [mine.y[-1] + (mine.y[0] - mine.y[-1]) * mine.x[0] / x for x in mine.x])
    rises = Line(queue.x, [queue.y[-1] * x / queue.x[-1] for x in queue.x])
    at = "trade-off constant V"
    first = panels(
        [
            Panel(
                {name: against_v(one) for name, one in groups.items()},
                at, DELAY, log_x=True, log_y=True, guides={"O(1/V)": falls},
            ),
            Panel(
                {name: line(one, "tradeoff", "device_queue") for name, one in groups.items()},
                at, "mean energy queue of a device", log_x=True, log_y=True, guides={"O(V)": rises},
            ),
        ],
        order,
    )  # fmt: skip
    second = panels(
        [
            Panel(
                {name: line(one, "tradeoff", metric) for name, one in groups.items()},
                at,
                title,
                log_x=True,
                level=1.0,
            )
            for metric, title in (
                ("device_energy", "devices' energy / budget"),
                ("server_energy", "server's energy / budget"),
            )
        ],
        order,
    )
    told = findings.caption(found.facts)
    columns = {
        "policy": plain("policy"),
        "V": plain("tradeoff", "g"),
        "delay [s]": with_interval("delay_s", ".4f"),
        "queue": plain("device_queue", ".3g"),
        "devices' budget [%]": margin("device_energy"),
        "server's budget [%]": margin("server_energy"),
        f"over {reference} [%]": with_interval("over_reference", ".2f", 100),
    }
    return Section(
        "tradeoff",
        "Delay against queues: V",
        findings.of_tradeoff(rows),
        [table(rows, columns, f"Budgets by V. {told}")],
        [
            Figure(
                first,
                "Bars of the delay: its change from the least V, in the same episodes. Dotted: O(1/V) from the first "
                f"value to the last, and O(V) through the last. {told}",
            ),
            Figure(second, f"Mean energy over the budget; the line is the budget. {told}"),
        ],
    )


def sensitivity(found: Found, order: Sequence[str], learned: str | None) -> Section:
    """One pair of panels per quantity."""
    reference = str(found.rows[0]["reference"])
    told = findings.caption(found.facts)
    figures = []
    for quantity, rows in by(found.rows, "quantity").items():
        shown = delay_and_gap(rows, "factor", f"{quantity}, times the scenario's", order)
        figures.append(Figure(shown, f"{quantity[0].upper()}{quantity[1:]}. {told}"))
    columns = {
        "policy": plain("policy"),
        "quantity": plain("quantity"),
        "times": plain("factor", "g"),
        "delay [s]": with_interval("delay_s", ".4f"),
        "long-run gap [%]": with_interval("long_run_gap", ".2f", 100),
        f"over {reference} [%]": with_interval("over_reference", ".2f", 100),
        "devices' budget [%]": margin("device_energy"),
        "server's budget [%]": margin("server_energy"),
    }
    return Section(
        "sensitivity",
        "What the system makes of them",
        findings.of_sensitivity(found.rows, learned),
        [table(found.rows, columns, f"All systems. {told}")],
        figures,
        "Gaps are of the delay at equal energy, to a certified bound on every policy. Multiples of the server's "
        "capacity are so many servers, each with its power.",
    )


def users(found: Found, order: Sequence[str], learned: str | None) -> Section:
    """Delay and gap against the number of users, in both modes."""
    told = findings.caption(found.facts)
    words = {
        "fixed": "The band and the server stay.",
        "growing": "Band, server and its budget grow with the users.",
    }
    figures = []
    for mode, rows in by(found.rows, "mode").items():
        shown = delay_and_gap(rows, "users", "users", order)
        figures.append(Figure(shown, f"{words[mode]} {told}"))
    columns = {
        "policy": plain("policy"),
        "users": plain("users", "g"),
        "band and server": plain("mode"),
        "delay [s]": with_interval("delay_s", ".4f"),
        "long-run gap [%]": with_interval("long_run_gap", ".2f", 100),
        "over closed_form [%]": with_interval("over_reference", ".2f", 100),
        "stable [%]": plain("stable", ".1f", 100),
        "devices' budget [%]": margin("device_energy"),
        "server's budget [%]": margin("server_energy"),
    }
    return Section(
        "users",
        "The number of users",
        findings.of_users(found.rows, learned),
        [table(found.rows, columns, f"All numbers. {told}")],
        figures,
    )


def trajectories(found: Found, order: Sequence[str], learned: str | None) -> Section:
    """Delay, queues and running means of energy, slot by slot."""
    groups = by(found.rows, "policy")

    def panel(metric: str, title: str, **how: Any) -> Panel:
        lines = {name: line(one, "slot", metric) for name, one in groups.items()}
        return Panel(lines, "slot", title, marks=False, **how)

    first = panels([panel("delay_s", DELAY, log_y=True), panel("device_queue", "energy queue of a device")], order)
    second = panels(
        [
            panel("device_energy", "devices' mean energy so far / budget", level=1.0),
            panel("server_energy", "server's mean energy so far / budget", level=1.0),
        ],
        order,
    )
    told = findings.caption(found.facts)
    return Section(
        "trajectories",
        "Slot by slot",
        findings.of_trajectories(found.rows),
        (),
        [
            Figure(first, f"Means over episodes and over the slots between two points. {told}"),
            Figure(
                second, f"The mean of all slots so far, which the budget limits; the line is the budget. {told}"
            ),
        ],
    )


def cuts(found: Found, order: Sequence[str], learned: str | None) -> Section:
    """Share of work on the device, by network and device, and by quarters of each state."""
    told = findings.caption(found.facts)
    figures = []
    quarters = ["lowest", "2nd", "3rd", "highest"]
    for policy, rows in by(found.rows, "policy").items():
        pairs = sorted({(str(row["network"]), str(row["device"])) for row in rows})
        cells = {(row["network"], row["device"], row["state"], int(number(row, "quarter"))): row for row in rows}
        grids, hover = {}, {}
        for state in STATES:
            mine = [[cells.get((*pair, state, quarter)) for quarter in range(1, 5)] for pair in pairs]
            grids[state] = [[number(cell, "on_device") if cell else float("nan") for cell in row] for row in mine]
            hover[state] = [
                [_told(cell, UNITS[state]) if cell else "does not occur" for cell in row] for row in mine
            ]
        labels = [f"{network} on {device}" for network, device in pairs]
        shown = heat(grids, quarters, labels, hover, "on the device")
        figures.append(
            Figure(
                shown,
                f"{policy}: mean share of a network's work that runs on the device, by quarters of the channel's SNR, "
                f"the device's energy queue and the arrival rate over all users and slots. {told}",
            )
        )
    return Section("cuts", "Which cut, and when", findings.of_cuts(found.rows), (), figures)


def _told(cell: Row, unit: str) -> str:
    return (
        f"{number(cell, 'on_device'):.2f} ± {number(cell, 'on_device_ci95'):.2f}; "
        f"{number(cell, 'low'):.3g} to {number(cell, 'high'):.3g} {unit}; cut {cell['cut']} in "
        f"{100 * number(cell, 'cut_share'):.0f} % of {cell['count']} slots"
    )


def percentiles(found: Found, order: Sequence[str], learned: str | None) -> Section:
    """Median, 95th and 99th percentile of every policy's requests, and its misses."""
    rows = found.rows

    def half(name: str, form: str, scale: float = 1.0) -> Cell:
        def cell(row: Row) -> str:
            return f"{scale * number(row, name):{form}} ± {scale * number(row, f'{name}_half_width'):{form}}"

        return cell

    columns = {
        "policy": plain("policy"),
        "mean [s]": half("delay_s", ".4f"),
        "p50 [s]": half("p50_s", ".4f"),
        "p95 [s]": half("p95_s", ".3f"),
        "p99 [s]": half("p99_s", ".3f"),
        "late [%]": half("late", ".2f", 100),
        "backlog [s]": half("backlog_s", ".3g"),
        "requests": plain("requests", ",.0f"),
        "settled": lambda row: "yes" if row["settled"] == "True" else "no",
    }
    levels = ("p50_s", "p95_s", "p99_s")
    shown = {
        str(row["policy"]): Line(
            [number(row, level) for level in levels],
            [0, 1, 2],
            [number(row, f"{level}_half_width") for level in levels],
        )
        for row in rows
    }
    reference = str(rows[0]["reference"])
    told = findings.caption(found.facts)
    figure = dots(
        shown, ["median", "95th percentile", "99th percentile"], "delay of a request [s]", order, log_x=True
    )
    return Section(
        "percentiles",
        "Every request",
        findings.of_percentiles(rows, reference),
        [table(rows, columns, f"Requests simulated one by one, with 95 % jackknife intervals. {told}")],
        [Figure(figure, f"Percentiles of the delays of requests. {told}")],
    )


def ablations(found: Found, order: Sequence[str], learned: str | None) -> Section:
    """What the system loses with each part."""
    rows = found.rows
    full = str(rows[0]["variant"])
    columns = {
        "variant": plain("variant"),
        "delay [s]": with_interval("delay_s", ".4f"),
        "devices' budget [%]": margin("device_energy"),
        "server's budget [%]": margin("server_energy"),
        "devices over theirs [%]": plain("devices_over", ".1f", 100),
        "delay over full [%]": with_interval("delay_s_over_full", ".1f", 100),
        "at equal energy [%]": with_interval("equal_energy_over_full", ".1f", 100),
    }
    near = [row for row in rows[1:] if number(row, "equal_energy_over_full") < 1.0]
    names = [str(row["variant"]) for row in near]
    shown = {
        label: Line(
            [100 * number(row, f"{metric}_over_full") for row in near],
            list(range(len(names))),
            [100 * number(row, f"{metric}_over_full_ci95") for row in near],
        )
        for label, metric in (("delay", "delay_s"), ("delay at equal energy", "equal_energy"))
    }
    far = [str(row["variant"]) for row in rows[1:] if row not in near]
    told = findings.caption(found.facts)
    figure = dots(shown, names, f"over the {full} [%]", ["delay at equal energy", "delay"])
    return Section(
        "ablations",
        "Without one part",
        findings.of_ablations(rows),
        [table(rows, columns, f"One part of the system replaced, judged by the true one. {told}")],
        [Figure(figure, f"Paired differences from the {full}.{_left_out(far, f'the {full}')} {told}")],
        "Cuts by best response to what the variant believes. Equal shares: of band and server, among those who use "
        "them. Energy ignored: the least delay of every slot. Budget per slot: no slot may use what another has saved. "
        "Independent queues: cuts are compared by three M/D/1 delays, added. Full precision: activations of 32 bits. "
        "Ends only: all on the server or all on the device.",
    )


def generality(found: Found, order: Sequence[str], learned: str | None) -> Section:
    """Gaps of a trained policy and of what needs no training, system by system."""
    rows = found.rows
    columns = {
        "system": plain("task"),
        "policy": plain("policy"),
        "its slot gap [%]": plain("gap_learned", ".2f", 100),
        "closed form's [%]": plain("gap_closed_form", ".2f", 100),
        "search's [%]": plain("gap_best_response", ".2f", 100),
        "delay over closed form's [%]": with_interval("delay_over_closed_form", ".2f", 100),
    }
    tasks = list(dict.fromkeys(str(row["task"]) for row in rows))
    shown = {
        policy: Line(
            [100 * number(row, "delay_over_closed_form") for row in mine],
            [tasks.index(str(row["task"])) for row in mine],
            [100 * number(row, "delay_over_closed_form_ci95") for row in mine],
        )
        for policy, mine in by(rows, "policy").items()
    }
    told = findings.caption(found.facts)
    figure = dots(shown, tasks, OVER.format("the closed form's"), list(shown))
    return Section(
        "generality",
        "In other systems",
        findings.of_generality(rows),
        [table(rows, columns, f"Gaps are to the certified bound of the slot. {told}")],
        [Figure(figure, f"Paired differences from the closed form. {told}")],
    )


SECTIONS: dict[str, Callable[[Found, Sequence[str], str | None], Section]] = {
    "policies": policies,
    "learning": learning,
    "tradeoff": tradeoff,
    "sensitivity": sensitivity,
    "users": users,
    "trajectories": trajectories,
    "cuts": cuts,
    "percentiles": percentiles,
    "ablations": ablations,
    "generality": generality,
}


def section(part: str, found: Found, order: Sequence[str], learned: str | None) -> Section:
    """A part's section, or why it is missing."""
    if found.left_out:
        return Section(part, part.capitalize(), (), note=f"Left out: {found.left_out}")
    return SECTIONS[part](found, order, learned)

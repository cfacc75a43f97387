"""Interactive figures for a report, in the project's one style: lines, dots and heat maps of Plotly.

Policies differ by colour, dash and marker, so that no reader depends on the colour.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple

from jaxmec.extras import optional
from jaxmec.reporting.style import FEWEST_TICKS, colour, log_ticks

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = (
    "circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star", "pentagon", "hexagon",
)  # fmt: skip
GUIDE = "#888888"
HEIGHT = 400
TOOLBAR = 44  # pixels
BESIDE = 0.13  # of the distance between two categories
FEW = 8  # values of a sweep that all have a tick


class Line(NamedTuple):
    """A line; not a number where there is none."""

    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float] = ()  # of the 95 % intervals
    hover: Sequence[str] = ()


class Panel(NamedTuple):
    """Axes side by side with others: lines by policy."""

    lines: Mapping[str, Line]
    x: str  # title of the axis, with the unit
    y: str
    log_x: bool = False
    log_y: bool = False
    guides: Mapping[str, Line] = {}
    level: float | None = None  # a line across, such as the budget
    marks: bool = True


def panels(shown: Sequence[Panel], order: Sequence[str]) -> dict[str, Any]:
    """A figure of one panel, or of several side by side, that share a legend.

    Args:
      shown: from left to right.
      order: of all names of a report; a name has the same colour, dash and marker in all its figures.
    """
    figure = optional("plotly.subplots", "report").make_subplots(
        rows=1, cols=len(shown), horizontal_spacing=0.24 / len(shown)
    )
    told: set[str] = set()
    for column, panel in enumerate(shown, start=1):
        for name, line in panel.lines.items():
            figure.add_scatter(
                **_trace(line, panel.marks), **_look(name, order, name not in told), row=1, col=column
            )
            told.add(name)
        for name, line in panel.guides.items():
            figure.add_scatter(
                x=_numbers(line.x), y=_numbers(line.y), mode="lines", name=name, legendgroup=name,
                line={"color": GUIDE, "dash": "dot", "width": 1}, hoverinfo="name", row=1, col=column,
            )  # fmt: skip
        if panel.level is not None:
            figure.add_hline(panel.level, line={"color": GUIDE, "width": 1}, row=1, col=column)
        both = [*panel.lines.values(), *panel.guides.values()]
        x = [value for one in panel.lines.values() for value in one.x]
        y = [end for one in both for end in _ends(one.y, one.half)]
        figure.update_xaxes(**_axis(panel.x, panel.log_x, x, few=FEW), row=1, col=column)
        figure.update_yaxes(**_axis(panel.y, panel.log_y, y), row=1, col=column)
    return _finished(figure)


def dots(
    values: Mapping[str, Line], categories: Sequence[str], x: str, order: Sequence[str], *, log_x: bool = False
) -> dict[str, Any]:
    """Dots with intervals, one row per category; `x` of a line are values, `y` the indices of categories."""
    figure = optional("plotly.graph_objects", "report").Figure()
    most = max(sum(index in line.y for line in values.values()) for index in range(len(categories)))
    for place, (name, line) in enumerate(values.items()):
        beside = BESIDE * (place - (len(values) - 1) / 2) if most > 1 else 0.0  # so that none hides another
        figure.add_scatter(
            x=_numbers(line.x),
            y=[index + beside for index in line.y],
            error_x={"array": _numbers(line.half), "thickness": 1, "width": 3},
            mode="markers",
            **_look(name, order, len(values) > 1),
        )
    figure.update_yaxes(
        range=[len(categories) - 0.4, -0.6],
        tickvals=list(range(len(categories))),
        ticktext=list(map(html.escape, categories)),
        automargin=True,
    )
    ends = [end for line in values.values() for end in _ends(line.x, line.half)]
    figure.update_xaxes(**_axis(x, log_x, ends))
    if not log_x:
        figure.add_vline(0.0, line={"color": GUIDE, "width": 1})
    return _finished(figure, height=150 + 32 * len(categories))


def heat(
    grids: Mapping[str, Sequence[Sequence[float]]],
    columns: Sequence[str],
    rows: Sequence[str],
    hover: Mapping[str, Sequence[Sequence[str]]],
    title: str,
) -> dict[str, Any]:
    """Heat maps side by side over the same rows, from zero to one in shades that print in grey.

    Columns in which a map has no number at all are left out of it.
    """
    figure = optional("plotly.subplots", "report").make_subplots(
        rows=1,
        cols=len(grids),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=list(map(html.escape, grids)),
    )
    for column, (name, grid) in enumerate(grids.items(), start=1):
        there = [any(math.isfinite(row[place]) for row in grid) for place in range(len(columns))]
        figure.add_heatmap(
            z=[_numbers(list(compress(row, there))) for row in grid],
            x=list(compress(columns, there)),
            y=list(map(html.escape, rows)),
            customdata=[list(map(html.escape, compress(row, there))) for row in hover[name]],
            texttemplate="%{z:.2f}",
            hovertemplate="%{y}<br>%{x}<br>%{customdata}<extra></extra>",
            zmin=0.0,
            zmax=1.0,
            colorscale="Cividis",
            showscale=column == len(grids),
            colorbar={"title": {"text": title, "side": "right"}, "thickness": 12},
            xgap=2,
            ygap=2,
            row=1,
            col=column,
        )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure = _finished(figure, height=170 + 34 * len(rows))
    figure["layout"]["margin"]["t"] = 60
    return figure


def _trace(line: Line, marks: bool) -> dict[str, Any]:
    given: dict[str, Any] = {"x": _numbers(line.x), "y": _numbers(line.y)}
    given["mode"] = "lines+markers" if marks else "lines"
    if len(line.half):
        given["error_y"] = {"array": _numbers(line.half), "thickness": 1, "width": 3}
    if len(line.hover):
        given["text"] = list(map(html.escape, line.hover))
    return given


def _look(name: str, order: Sequence[str], in_legend: bool) -> dict[str, Any]:
    """What a name looks like in every figure; the page's toggles find its traces by `meta`."""
    index = list(order).index(name) if name in order else len(order)
    return {
        "name": html.escape(name),
        "meta": name,
        "legendgroup": html.escape(name),
        "showlegend": in_legend,
        "line": {"color": colour(index), "dash": DASHES[index % len(DASHES)], "width": 2},
        "marker": {"color": colour(index), "symbol": MARKERS[index % len(MARKERS)], "size": 8},
    }


def _ends(values: Sequence[float], half: Sequence[float]) -> list[float]:
    """Values and the ends of their intervals."""
    found = list(values)
    if len(half):
        found += [value + sign * width for sign in (-1, 1) for value, width in zip(values, half, strict=True)]
    return found


def _axis(title: str, log: bool, values: Sequence[float], few: int = 1) -> dict[str, Any]:
    """An axis for values; a logarithmic one has its ticks at the values if they are few, else at round numbers.

    It is linear where it would hold too few of those.
    """
    found: dict[str, Any] = {"title": title, "zeroline": False, "linecolor": "#444444"}
    positive = sorted({value for value in values if value > 0 and math.isfinite(value)})
    ticks = positive if len(positive) <= few else log_ticks(positive[0], positive[-1])
    if log and positive and (ticks is positive or len(ticks) >= FEWEST_TICKS):
        found |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return found


def _finished(figure: Any, height: int = HEIGHT) -> dict[str, Any]:
    figure.update_layout(
        template="simple_white",
        font={"family": "system-ui, sans-serif", "size": 13},
        height=height,
        margin={"l": 60, "r": TOOLBAR, "t": 30, "b": 60},
        modebar={"orientation": "v"},  # beside the axes; above them it would cover a long legend's end
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.06, "x": 0},
        hovermode="closest",
    )
    return figure.to_dict()


def _numbers(values: Sequence[float]) -> list[float | None]:
    """Finite numbers, and nothing in the place of others, which JSON does not have."""
    return [float(value) if math.isfinite(value) else None for value in values]

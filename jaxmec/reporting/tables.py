"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

WIDTH = 80  # of the narrowest terminal
GAP = 2  # behind a column
EDGE = 1  # before the first


def table(
    title: str, headers: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1, width: int = WIDTH
) -> Table:
    """A table whose first `left` columns hold names and whose others hold numbers.

    No number is ever cut: columns at the right that do not fit into `width` are left out, and named below it.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headers, *cells, strict=True)]
    fitting = [EDGE + sum(widths[:n]) + GAP * n <= width for n in range(len(widths) + 1)]
    shown = max(left + 1, sum(fitting) - 1)
    hidden = ", ".join(filter(None, headers[shown:]))
    made = Table(
        title=Text(title),
        caption=Text(f"no room for: {hidden}; the CSV file has them") if hidden else None,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column, header in enumerate(headers[:shown]):
        if column < left:
            made.add_column(Text(header), overflow="fold")
        else:
            made.add_column(Text(header), justify="right", no_wrap=True)
    for row in cells:
        made.add_row(*map(Text, row[:shown]))
    return made


def number(value: float, form: str) -> str:
    """A number's text; nothing where there is none."""
    return form.format(value) if value == value else ""

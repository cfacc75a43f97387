"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text


def table(title: str, headers: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first `left` columns hold names and whose others hold numbers; no number is ever cut."""
    shown = Table(title=Text(title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column, header in enumerate(headers):
        shown.add_column(Text(header), justify="left" if column < left else "right", no_wrap=column >= left)
    for row in rows:
        shown.add_row(*(Text(str(cell)) for cell in row))
    return shown


def number(value: float, form: str) -> str:
    """A number's text; nothing where there is none."""
    return form.format(value) if value == value else ""

"""Reading recorded measurements from text files, with errors that tell file and line.

Nothing of a file is quoted before a whole row of it was read: what is no recording stays private.

A first line whose wanted cells cannot be read is a header; a file without one is read by positions from its first
line on. A byte-order mark and blank lines are skipped.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmec.config import check_file, quoted

MAX_SLOTS = 10_000_000  # 80 MB of float64
MAX_ROWS = 10_000_000
MAX_BYTES = 1_000_000_000
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}  # per unit of time


class Column(NamedTuple):
    """A wanted column."""

    where: str | int  # name in the header, or position
    read: Callable[[str], float]  # raises ValueError
    holds: str  # what it reads, for messages


class Columns(NamedTuple):
    """What was read."""

    values: np.ndarray  # float64[R, C]
    lines: np.ndarray  # int64[R] line in the file


def read_columns(path: str | Path, columns: Sequence[Column], delimiter: str | None = ",") -> Columns:
    """Read columns of a text file, row by row.

    Args:
      path: UTF-8 text.
      columns: the wanted ones.
      delimiter: between cells, which may be quoted; None is any white space, without quotes.

    Raises:
      OSError: if the file cannot be read.
      ValueError: naming file, line, column and what it must hold.
    """
    values: list[list[float]] = []
    lines: list[int] = []
    places: list[int] | None = None
    for line, row in _rows(path, delimiter):
        if places is None:
            places = _places(path, line, row, columns)
            if _is_header(row, columns, places):
                continue
        values.append(
            [_cell(path, line, row, *wanted, bool(values)) for wanted in zip(columns, places, strict=True)]
        )
        if len(values) > MAX_ROWS:
            raise ValueError(f"{path}:{line}: the file has more than {MAX_ROWS:,} rows")
        lines.append(line)
    if places is None:
        raise ValueError(f"{path}: empty")
    return Columns(np.array(values, float).reshape(-1, len(columns)), np.array(lines, int))


def number_at_least_zero(text: str) -> float:
    """A finite number that is not negative."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError
    return value


def seconds(unit: str) -> Callable[[str], float]:
    """A reader of times, in seconds: numbers in `unit` (s, ms or us), or ISO dates; without a zone these are UTC."""

    def read(text: str) -> float:
        if _is_number(text):
            return number_at_least_zero(text) * SECONDS[unit]
        time = datetime.fromisoformat(text.strip())
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()

    return read


def check_order(path: str | Path, times: np.ndarray, lines: np.ndarray) -> None:
    """Raise ValueError at the first time [R] that lies before the one above it."""
    back = np.flatnonzero(np.diff(times) < 0)
    if back.size:
        above, here = lines[back[0]], lines[back[0] + 1]
        raise ValueError(f"{path}:{here}: the time lies before that of line {above}; times must be in order")


def check_length(path: str | Path, times: np.ndarray, lines: np.ndarray, slot_s: float) -> None:
    """Raise ValueError, before any memory is taken, if times [R] in order span more than `MAX_SLOTS` slots."""
    slots = (times[-1] - times[0]) / slot_s
    if slots >= MAX_SLOTS:
        gap = int(np.argmax(np.diff(times)))
        raise ValueError(
            f"{path}:{lines[gap + 1]}: {times[gap + 1] - times[gap]:g} s after line {lines[gap]}; the file spans "
            f"{slots:.3g} slots of {slot_s:g} s and at most {MAX_SLOTS:,} are allowed. Is the unit of time right?"
        )


def _rows(path: str | Path, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not blank, with their numbers."""
    check_file(path, MAX_BYTES)
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            if delimiter is None:
                rows = ((line, text.split()) for line, text in enumerate(file, 1))
            else:
                reader = csv.reader(file, delimiter=delimiter)
                rows = ((reader.line_num, row) for row in reader)
            yield from ((line, row) for line, row in rows if any(cell.strip() for cell in row))
        except UnicodeDecodeError:
            raise ValueError(f"{path}: not UTF-8 text") from None
        except csv.Error:
            raise ValueError(f"{path}: not a table of comma-separated values") from None


def _places(path: str | Path, line: int, row: Sequence[str], columns: Sequence[Column]) -> list[int]:
    """Positions of the columns, of which the first row has the names, if any has one."""
    names = [name.strip() for name in row]
    for column in columns:
        if isinstance(column.where, str) and column.where not in names:
            raise ValueError(f"{path}:{line}: no column {column.where!r} among the {len(names)} of this line")
        if isinstance(column.where, int) and not 0 <= column.where < len(row):
            raise ValueError(f"{path}:{line}: no column {column.where}; the first of {len(row)} is 0")
    return [names.index(c.where) if isinstance(c.where, str) else c.where for c in columns]


def _is_header(row: Sequence[str], columns: Sequence[Column], places: Sequence[int]) -> bool:
    """Whether names are asked for, or no wanted cell is a number or can be read as what it should hold."""
    return any(isinstance(column.where, str) for column in columns) or not any(
        _is_number(row[place]) or _reads(column, row[place]) for column, place in zip(columns, places, strict=True)
    )


def _cell(path: str | Path, line: int, row: Sequence[str], column: Column, place: int, quote: bool) -> float:
    text = row[place] if place < len(row) else ""
    try:
        return column.read(text)
    except (ValueError, OverflowError):
        got = f", got {quoted(text)}" if quote else ""
        raise ValueError(f"{path}:{line}: column {column.where!r} must hold {column.holds}{got}") from None


def _reads(column: Column, text: str) -> bool:
    try:
        column.read(text)
    except (ValueError, OverflowError):
        return False
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Files that are written beside and renamed: a reader or a crash sees the old or the new, never a part."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def replace_file(path: Path, content: str | bytes) -> None:
    """Put a whole new file in the place of an old one, if any.

    Raises:
      OSError: if it cannot be written; the old file stays.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(path.name + ".part")
    temporary.unlink(missing_ok=True)  # of a command that was killed, or a link to somewhere else
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with a column for every name that any of them has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace a CSV file."""
    replace_file(path, csv_text(rows))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, as texts."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))

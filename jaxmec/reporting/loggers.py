"""A training run's metrics, row by row."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from jaxmec.extras import optional
from jaxmec.reporting.files import replace_file


class Logger(Protocol):
    """Takes a row of numbers after every update."""

    def write(self, row: Mapping[str, float]) -> None:
        """Append a row, whose keys are the same every time; `update` counts from one."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class MetricsFile:
    """A CSV file of one row per update; on resuming, rows after the checkpoint are dropped.

    The kept rows replace the file as a whole before anything is appended, so that no moment is without them.
    """

    def __init__(self, path: Path, rows: int) -> None:
        kept = path.read_text().splitlines(keepends=True)[: rows + 1] if rows and path.exists() else []
        self.missing = max(rows - max(len(kept) - 1, 0), 0)  # rows of a resumed run that the file has lost
        replace_file(path, "".join(kept))
        self._file = path.open("a", newline="")
        self._header_written = bool(kept)

    def write(self, row: Mapping[str, float]) -> None:
        """Append a row and hand it to the operating system."""
        writer = csv.DictWriter(self._file, fieldnames=list(row), lineterminator="\n")
        if not self._header_written:
            writer.writeheader()
            self._header_written = True
        writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """The same rows as TensorBoard events; on resuming, events after the checkpoint are hidden."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._writer = optional("tensorboardX", "tensorboard").SummaryWriter(str(folder), purge_step=rows + 1)

    def write(self, row: Mapping[str, float]) -> None:
        """Append a row."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, row["update"])

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

"""What a sweep tells on the terminal while it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bar, TextColumn, TimeRemainingColumn

from jaxmec.reporting.console import say


class Progress:
    """A live bar of trials, or a line per chunk where no terminal shows one."""

    def __init__(self, console: Console, total: int, finished: int) -> None:
        self._console, self._total, self._finished = console, total, finished
        self._run_s, self._ran, self.compile_s, self._started = 0.0, 0, 0.0, time.perf_counter()
        self._bar = Bar(
            TextColumn("trials"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=finished, speed="")

    def __enter__(self) -> Progress:
        self._bar.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._bar.__exit__(*details)

    def compiling(self, group: int, groups: int) -> None:
        """A group is about to be compiled."""
        say(self._console, f"compiling group {group} of {groups} ...")

    def compiled(self, group: int, facts: Mapping[str, Any]) -> None:
        """A group is ready to run."""
        self.compile_s += facts["compile_s"]
        say(
            self._console,
            f"group {group}: {facts['trials']} trials in chunks of {facts['chunk']}; "
            f"compiled in {facts['compile_s']:.1f} s, {facts['memory_bytes'] / 1e6:,.1f} MB a chunk",
        )

    def chunk(self, rows: Sequence[Mapping[str, Any]], seconds: float) -> None:
        """A chunk has ended."""
        self._finished += len(rows)
        self._ran += len(rows)
        self._run_s += seconds
        speed = f"{len(rows) / seconds:.2f} trials/s" if seconds > 0 else ""
        bad = [row for row in rows if row["status"] != "ok"]
        for row in bad[:3]:
            say(self._console, f"trial {row['trial']} {row['status']} {row['error']}", style="yellow")
        if len(bad) > 3:
            say(self._console, f"and {len(bad) - 3} more of this chunk", style="yellow")
        self._bar.update(self._task, completed=self._finished, speed=speed)
        if not self._console.is_terminal:
            say(self._console, f"{self._finished}/{self._total} trials  {speed}")

    def summary(self) -> str:
        """Time, compilation apart."""
        whole_s = time.perf_counter() - self._started
        speed = f", {self._ran / self._run_s:.2f} trials/s while running" if self._run_s else ""
        return f"{self._ran} trials in {whole_s:.1f} s; compilation took {self.compile_s:.1f} s{speed}"

"""The terminal. Rich reads square brackets as markup, so whatever is not ours to style goes through `Text`."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 150  # in a file or a pipe nothing limits a line


def terminal(*, stderr: bool = True) -> Console:
    """A console for messages (standard error) or for results (standard output)."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


def say(console: Console, message: object, style: str = "") -> None:
    """Print a message as it is: no markup in it is read, and no line of it is broken."""
    console.print(Text(str(message), style=style), soft_wrap=True)


def fail(console: Console, error: BaseException | str) -> int:
    """Print an error in one line; returns the exit status of a command that was refused."""
    console.print(Text.assemble(("error: ", "red"), " ".join(str(error).split())), soft_wrap=True)
    return 2

"""The terminal: messages, errors, and how a command is interrupted. Rich's markup is off: no text is read as such."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from jaxmec.config import one_line

WIDTH_WITHOUT_TERMINAL = 150  # in a file or a pipe nothing limits a line
STOPPING = (signal.SIGINT, signal.SIGTERM)
STOPPED = 130  # exit status of a command that was interrupted


def terminal(*, stderr: bool = True) -> Console:
    """A console for messages (standard error) or for results (standard output)."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def say(console: Console, message: object, style: str = "") -> None:
    """Print a message as it is: no markup in it is read, and no line of it is broken."""
    console.print(Text(str(message), style=style), soft_wrap=True)


def fail(console: Console, error: BaseException | str) -> int:
    """Print an error in one line; returns the exit status of a command that was refused."""
    console.print(Text.assemble(("error: ", "red"), one_line(error)), soft_wrap=True)
    return 2


@contextlib.contextmanager
def stopping_at_once(console: Console, message: str) -> Iterator[None]:
    """An interruption prints a message and ends the process, whatever it is doing.

    Python's own handlers wait until a compilation or a compiled call has ended, which may be minutes. Ending there is
    safe for commands that replace their files whole.
    """
    received, signalled = socket.socketpair()
    signalled.setblocking(False)

    def watch() -> None:
        while number := received.recv(1):
            if number[0] in STOPPING:
                console.show_cursor()
                say(console, message)
                os._exit(STOPPED)

    handlers = {sig: signal.signal(sig, lambda *_: None) for sig in STOPPING}
    before = signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for sig, handler in handlers.items():
            signal.signal(sig, handler)
        signalled.close()
        watcher.join()
        received.close()

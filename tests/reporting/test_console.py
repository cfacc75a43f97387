"""The terminal: brackets that are no markup, tables that fit, and commands that stop at once."""

import io
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from rich.console import Console

from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.tables import table
from jaxmec.sweeps.progress import Progress


def test_brackets_are_text_everywhere(capsys):
    console = terminal()
    text = "[low, high] of delay [s] in [/a] and [red]path"
    say(console, text)
    console.print(text)
    assert fail(console, text) == 2
    console.print(table("[title]", ["policy", "delay [s]"], [["[red]greedy", "1"]]))
    shown = capsys.readouterr().err
    assert shown.count(text) == 3
    assert "[title]" in shown
    assert "policy       delay [s]" in shown
    assert "[red]greedy" in shown


def test_an_error_is_one_short_line(capsys):
    fail(terminal(), "a\nb " + "x" * 1000)
    shown = capsys.readouterr().err
    assert shown.startswith("error: a b xxx")
    assert shown.count("\n") == 1
    assert len(shown) <= len("error: \n") + 300


def test_a_failed_trial_with_brackets_does_not_break_the_progress():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with Progress(console, 2, 0) as progress:
        progress.chunk([{"trial": 0, "status": "failed", "error": "[/a] f32[8,[red]"}], 1.0)
    assert "trial 0 failed [/a] f32[8,[red]" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


@pytest.mark.parametrize("name", ["best_response", "learned, best of 16", "p" * 60])
def test_tables_fit_eighty_columns_and_cut_no_number(name):
    headers = ["policy", *(f"figure {i}" for i in range(12))]
    numbers = [f"-{i}27.4567 ± 0.1234" for i in range(12)]
    out = io.StringIO()
    Console(file=out, width=80).print(table("Title", headers, [[name, *numbers]]))
    shown = out.getvalue()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    found = [number for number in numbers if number in shown]
    assert found == numbers[: len(found)]
    assert found
    assert f"figure {len(found)}" in " ".join(shown.split())  # told below
    assert "CSV" in shown


@pytest.mark.parametrize("columns", [1, 5, 23, 24, 40])
def test_tables_of_narrow_columns_fit_and_show_what_there_is_room_for(columns):
    out = io.StringIO()
    Console(file=out, width=200).print(table("Title", ["policy", *"n" * columns], [["greedy", *"7" * columns]]))
    shown = out.getvalue()
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80
    assert shown.count("7") == min(columns, 23)  # 1 before them, 6 + 2 of the name, then 1 + 2 of every number


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_told_at_once_and_ends_what_lets_no_handler_run(sig):
    # Python's own handlers, which do nothing here, let the sleep go on.
    program = """
        import time
        from jaxmec.reporting.console import say, stopping_at_once, terminal
        console = terminal()
        with stopping_at_once(console, "stopped; continue with: [again]"):
            pass  # a second one must work as the first
        with stopping_at_once(console, "stopped; continue with: [again]"):
            say(console, "busy")
            time.sleep(1000)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "busy\n"
    process.send_signal(sig)
    assert process.communicate(timeout=60)[1] == "stopped; continue with: [again]\n"
    assert process.returncode == 130

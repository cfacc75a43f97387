"""The command `jaxmec`, and the files of a checkout that call the same."""

import runpy
import sys
from pathlib import Path

import pytest

import jaxmec
from jaxmec.commands import COMMANDS, main

ROOT = Path(__file__).parents[2]
FILES = {"train": "train/main.py", "sweep": "train/sweep.py", "eval": "eval/main.py"}


def help_of(run, capsys):
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_it_lists_its_commands_and_tells_its_version(capsys):
    text = help_of(lambda: main(["--help"]), capsys)
    assert all(f"  {name:10}{what}" in text for name, what in COMMANDS.items())
    assert help_of(lambda: main(["--version"]), capsys).strip() == jaxmec.__version__


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_flags_here_and_in_its_file(name, capsys, monkeypatch):
    text = help_of(lambda: main([name, "--help"]), capsys)
    assert text.startswith(f"usage: jaxmec {name} ")
    if name in FILES:
        monkeypatch.setattr(sys, "argv", [FILES[name], "--help"])
        again = help_of(lambda: runpy.run_path(str(ROOT / FILES[name]), run_name="__main__"), capsys)
        assert again.startswith(f"usage: python {FILES[name]} ")

        def flags(text):
            return [word for word in text.split() if word.startswith("--")]

        assert sorted(flags(again)) == sorted(flags(text))


def test_a_command_gets_the_rest_of_the_line_and_its_status_is_returned(capsys):
    assert main(["profile", "resnet99", "--rate", "-1"]) == 2
    assert "rate: got -1.0" in capsys.readouterr().err


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["trian"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "invalid choice: 'trian'" in error
    assert all(name in error for name in COMMANDS)

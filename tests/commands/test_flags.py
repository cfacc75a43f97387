"""Every flag of every command says what it is; wrong names are refused before anything is computed."""

import importlib
import sys
from pathlib import Path

import pytest
import tyro

from jaxmec.agents import ALGORITHMS
from jaxmec.commands import train

ROOT = Path(__file__).parents[2]
STUDIES = (
    "ablation",
    "benchmark",
    "calibration",
    "certify",
    "latency",
    "long_run",
    "runtime_validation",
    "transfer",
    "validation",
)


@pytest.fixture(autouse=True)
def _studies(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "eval"))
    yield
    for name in STUDIES:
        sys.modules.pop(name, None)


def flags_of(parser):
    return [action for action in parser._actions if action.dest != "help"]


@pytest.mark.parametrize(
    "module", [*STUDIES, "jaxmec.commands.eval", "jaxmec.commands.sweep", "jaxmec.commands.profile"]
)
def test_every_flag_has_a_description(module):
    flags = flags_of(tyro.extras.get_parser(importlib.import_module(module).Flags))
    assert flags
    assert not [action.dest for action in flags if not described(action)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_hyperparameter_of_the_training_command_has_a_description(algorithm, monkeypatch):
    asked = []
    monkeypatch.setattr(tyro, "cli", lambda cls, default, **_: asked.append((cls, default)))
    train.parse(["--algorithm", algorithm], "jaxmec train")
    ((cls, default),) = asked
    flags = flags_of(tyro.extras.get_parser(cls, default=default))
    assert len(flags) > 15
    assert not [action.dest for action in flags if not described(action)]


def described(action):
    """Whether the help says more than what tyro adds, the default."""
    return (action.help or "").split("(default")[0].split("(required")[0].strip()


@pytest.mark.parametrize(
    ("module", "wrong", "message"),
    [
        ("long_run", {"scenario": "nope"}, "scenario: got 'nope'; allowed are bursty"),
        ("long_run", {"total_steps": 0}, "total_steps: got 0; allowed is a number at least 1"),
        ("calibration", {"scenario": "nope"}, "scenario: got 'nope'; allowed are bursty"),
        ("calibration", {"num_envs": 0}, "num_envs: got 0; allowed is a number at least 1"),
        ("ablation", {"variants": ("foo",)}, "variants: got 'foo'; allowed are default"),
        ("ablation", {"scenario": "nope"}, "scenario: got 'nope'; allowed are bursty"),
        ("certify", {"scenario": "nope"}, "scenario: got 'nope'; allowed are bursty"),
        ("certify", {"scenario": "coinfer4", "policies": ("nope",)}, "nope"),
    ],
)
def test_studies_refuse_wrong_names_at_once_in_one_line(module, wrong, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = importlib.import_module(module)
    monkeypatch.setattr(study, "keep_compiled", lambda: None)
    assert study.main(study.Flags(**wrong)) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert message in shown

"""python -m jaxmec.profiles: what it prints and writes, and its errors."""

import numpy as np
import pytest

from jaxmec import devices, profiles
from jaxmec.profiles.__main__ import main

MODULE = """
import jax.numpy as jnp
from jaxmec.profiles import profile

def plain():
    return (lambda w, x: jnp.tanh(jnp.tanh(x @ w) @ w)), jnp.ones((6, 6)), jnp.ones((2, 6))

def ready():
    return profile(*plain(), name="own")

def wrong():
    return 3

def broken():
    raise RuntimeError("no weights [here]")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "command_models.py").write_text(MODULE)
    return tmp_path


def test_it_prints_the_best_cut_and_writes_the_picture(folder, capsys):
    assert main(["mobilenet_v2", "--rate", "13e6", "--prune"]) == 0
    text = capsys.readouterr().out
    table = profiles.load("mobilenet_v2").pruned()
    delay_s = devices.stage_seconds(table, devices.load("raspberry_pi_4"), devices.load("epyc_7742")).delay_s(13e6)
    assert f"best cut: {np.argmin(delay_s)}, after" in text
    assert f"{1e3 * delay_s.min():.2f} ms; all on the server {1e3 * delay_s[0]:.2f} ms" in text
    assert (folder / "mobilenet_v2.png").stat().st_size > 10_000


def test_ones_own_function_and_its_file(folder, capsys):
    # 2 MHz at 20 dB carry 2e6 · log2(101) bits per second.
    assert main(["command_models:plain", "--save", "mine.json"]) == 0
    assert "at 13.3 Mbit/s" in capsys.readouterr().out
    assert profiles.load("mine.json").macs.tolist() == [0, 72, 144]
    assert main(["mine.json", "--out", "again.png"]) == 0
    assert main(["command_models:ready"]) == 0
    assert {file.name for file in folder.glob("*.png")} == {"plain.png", "again.png", "own.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet99"], "no network 'resnet99'; allowed are alexnet,"),
        (["nowhere:model"], "network: got 'nowhere:model': No module named 'nowhere'"),
        (["command_models:none"], "has no attribute 'none'"),
        (["command_models:wrong"], "returned int; allowed are (fn, params, *inputs) and a PartitionProfile"),
        (["command_models:broken"], "command_models:broken raised RuntimeError: no weights [here]"),
        (["alexnet", "--device", "abacus"], "no device 'abacus'; allowed are epyc_7742,"),
        (["alexnet", "--rate", "-1"], "rate: got -1.0; allowed is a finite number above 0"),
        (["alexnet", "--out", "no/folder.png"], "No such file or directory: 'no/folder.png'"),
    ],
)
def test_errors_are_told_without_a_traceback(folder, capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err

"""jaxmec profile: what it prints and writes, and its errors."""

import numpy as np
import pytest

from jaxmec import devices, profiles
from jaxmec.commands.profile import main

MODULE = """
import jax.numpy as jnp
from jaxmec.profiles import profile

def plain():
    return (lambda w, x: jnp.tanh(jnp.tanh(x @ w) @ w)), jnp.ones((6, 6)), jnp.ones((2, 6))

def ready():
    return profile(*plain(), name="own")

def slash():
    return profile(*plain(), name="me/own")

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
    assert (folder / "mobilenet_v2-rates.png").stat().st_size > 10_000


def test_ones_own_function_and_its_file(folder, capsys):
    # 2 MHz at 20 dB carry 2e6 · log2(101) bits per second.
    assert main(["command_models:plain", "--save", "mine.json"]) == 0
    assert "at 13.3 Mbit/s" in capsys.readouterr().out
    assert profiles.load("mine.json").macs.tolist() == [0, 72, 144]
    assert main(["mine.json", "--out", "again.png"]) == 0
    assert main(["command_models:ready"]) == 0
    pictures = {f"{name}{of}.png" for name in ("plain", "again", "own") for of in ("", "-rates")}
    assert {file.name for file in folder.glob("*.png")} == pictures


def test_the_answer_stands_beside_the_table(folder, capsys):
    assert main(["mobilenet_v2", "--rate", "13e6"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "34 cuts; 20 more with max_tensors=2" in text
    assert "latency: a cut inside is best from" in text
    assert "memory: cutting is not worth it: all on the server at every rate" in text
    error = devices.load("raspberry_pi_4").typical_error
    assert f"raspberry_pi_4: the latency model errs by {error:.0%} on networks left out of its fit" in text
    # AlexNet's features are larger than its image: the ends win.
    assert main(["alexnet", "--rate", "13e6", "--input-bits", "1000"]) == 0
    assert "latency: cutting is not worth it: all on the server from" in " ".join(capsys.readouterr().out.split())


def test_what_returns_and_the_round_trip_are_added(folder, capsys):
    assert main(["alexnet", "--rate", "1e6"]) == 0
    before = capsys.readouterr().out
    way_back = ["--downlink-bits", "2e5", "--downlink-rate", "1e7", "--round-trip", "0.03"]
    assert main(["alexnet", "--rate", "1e6", *way_back]) == 0
    after = capsys.readouterr().out
    on_the_server = [float(text.split("all on the server ")[1].split()[0]) for text in (before, after)]
    assert np.isclose(on_the_server[1] - on_the_server[0], 20 + 30, atol=0.02)


def test_a_device_of_ones_own_and_a_name_with_a_slash(folder, capsys):
    (folder / "board.yaml").write_text("{power_w: 3.0, measured_s: {alexnet: 0.05, resnet18: 0.06}}")
    assert main(["command_models:slash", "--device", "board.yaml"]) == 0
    text = capsys.readouterr().out
    assert "board: the latency model errs by" in text
    assert (folder / "me_own.png").exists()


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
        (["alexnet", "--round-trip", "-1"], "round_trip: got -1.0; allowed is a finite number of at least 0"),
        (["alexnet", "--device", "none.yaml"], "none.yaml: cannot be read: No such file or directory"),
        (["alexnet", "--out", "no/folder.png"], "No such file or directory: 'no/folder.png'"),
    ],
)
def test_errors_are_told_without_a_traceback(folder, capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err

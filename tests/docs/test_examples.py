"""The example scripts run small, and say what they claim; those of other stacks where the stack is installed."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


def run(script, *arguments, folder):
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    ("script", "libraries", "slots", "at_most"),
    [  # nothing learned is far above: random cuts are at 7.4
        ("evosax_search", ["evosax"], 4096, 1.3),
        ("flashbax_loop", ["flashbax"], 16_384, 1.5),
        ("jaxmarl_loop", ["jaxmarl"], 16_384, 1.5),
        ("purejaxrl_loop", ["gymnax"], 16_384, 1.5),
        ("rejax_learners", ["rejax"], 16_384, 5.0),
        ("sb3_learners", ["stable_baselines3", "sb3_contrib"], 4096, 4.0),
    ],
)
def test_learners_of_other_stacks_learn(script, libraries, slots, at_most, tmp_path):
    absent = [name for name in libraries if find_spec(name) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed: pip install 'jaxmec[stacks]'")
    printed = run(f"stacks/{script}.py", "--slots", str(slots), folder=tmp_path)
    rows = dict(re.findall(r"^  (\S.*?) +([\d.]+)$", printed, flags=re.MULTILINE))
    assert float(rows.pop("closed_form")) == 1.0
    assert float(rows.pop("random")) > 5.0
    assert rows
    assert all(0.95 < float(value) < at_most for value in rows.values()), rows


def test_more_band_means_less_delay_and_more_that_is_sent(tmp_path):
    printed = run("bandwidth_sweep.py", folder=tmp_path)
    rows = np.array([line.split() for line in printed.splitlines()[1:]], float)
    delay, edge, middle, local = rows[:, 1:5].T
    assert len(rows) == 9
    assert (np.diff(delay) < 0).all()
    assert (np.diff(edge) >= 0).all()
    assert local[-1] < local[0] - 0.1
    np.testing.assert_allclose(edge + middle + local, 1.0, atol=0.011)  # of two digits each


def test_the_next_megahertz_is_worth_what_differences_say_and_the_split_is_the_grids(tmp_path):
    printed = run("next_megahertz.py", folder=tmp_path)
    rows = np.array(re.findall(r" m: +[\d.]+ +[-\d.]+ +([-\d.]+) \(([-\d.]+)\)", printed), float)
    assert rows.shape == (3, 2)
    assert (rows > 0).all()  # the cuts are held, so more band cannot cost
    np.testing.assert_allclose(rows[:, 0], rows[:, 1], rtol=1e-4, atol=1e-4)  # of four decimals
    lowest, highest = map(float, re.search(r"the next MHz: ([\d.]+) to ([\d.]+) ms", printed).groups())
    assert highest <= 1.001 * lowest
    splits = np.array([line.split(", ") for line in re.findall(r": (.*) MHz$", printed, re.M)], float)
    np.testing.assert_allclose(splits[0], splits[1], atol=0.5)  # the grid's step
    equal, by_worth, by_grid = map(float, re.findall(r"sum of costs ([\d.]+) s", printed))
    assert by_worth < equal
    assert by_grid == pytest.approx(by_worth, rel=2e-3)  # cuts follow the band on the grid alone


def test_own_parts_work_together(tmp_path):
    printed = run("own_parts.py", folder=tmp_path)
    convolutions = sum((128 / 2**i) ** 2 * 9 * a * b for i, a, b in ((1, 3, 64), (2, 64, 128), (3, 128, 256)))
    assert f"3  stage3 conv     {convolutions / 1e9:.3f} " in printed
    assert f" {128 * 128 * 3 * 32 / 1e3:.1f} " in printed  # the input, kbit
    rows = {
        name: list(map(float, numbers.split()))
        for name, numbers in re.findall(r"^(\w+) +(\d[\d. ]+)$", printed, re.M)
    }
    assert list(rows) == ["edge_only", "local_only", "closed_form", "send_if_soon"]
    delay_s, device, server, sent = np.array(list(rows.values())).T
    assert sent[:2].tolist() == [1.0, 0.0]
    assert server[1] == 0.0  # where nobody sends
    assert 0.1 < sent[3] < 0.9
    assert device[0] < device[3] < device[1]
    assert delay_s[3] < min(delay_s[:2])  # than either side for everybody


def test_training_through_the_layer_beats_squared_error(tmp_path):
    squared, through = map(float, re.findall(r"objective ([\d.]+)", run("layer_in_a_model.py", folder=tmp_path)))
    assert 1.0 < through < squared


def test_a_gateway_decides_with_jax_alone(tmp_path):
    run("export_policy.py", folder=tmp_path)
    printed = run("gateway.py", "gateway.jaxexport", "measured.npz", folder=tmp_path)
    assert (
        len(re.findall(r"^user \d: cut \d+; device [\d.]+, bandwidth [\d.]+, server [\d.]+$", printed, re.M)) == 10
    )
    assert re.search(r"a decision takes [\d.]+ ms \(p95 [\d.]+ ms\) on one core, busy [\d.]+ ms of it", printed)

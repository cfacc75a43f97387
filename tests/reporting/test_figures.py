"""Figures: what each must show, read from its axes, with data made by hand."""

import itertools
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxmec.evaluation.comparison import Comparison, LongRun
from jaxmec.profiles import Choice, Stages
from jaxmec.profiles._plot import draw
from jaxmec.reporting.figures import comparison as figures
from jaxmec.reporting.figures.best_cuts import best_cuts
from jaxmec.reporting.figures.learning import learning_curve
from jaxmec.reporting.figures.runtime import predicted_against_measured
from jaxmec.reporting.figures.study import delay_and_queues, work_on_device
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.style import drawing, plain_log


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, kept open until the end."""
    kept, close = [], plt.close
    monkeypatch.setattr("jaxmec.reporting.style.plt.close", kept.append)
    yield kept
    for figure in kept:
        close(figure)


def ticks(axis):
    """The labelled ticks in sight, as numbers."""
    low, high = sorted(axis.get_view_interval())
    return [
        tick.get_loc()
        for tick in axis.get_major_ticks()
        if low <= tick.get_loc() <= high and tick.label1.get_text()
    ]


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def run(delay_s, energy):
    episodes = np.array([0.9, 1.0, 1.1])
    metrics = {
        "delay_s": delay_s * episodes,
        "device_energy": energy * episodes,
        "server_energy": energy * episodes,
    }
    curves = {
        name: np.full(4, value)
        for name, value in [("delay_s", delay_s), ("device_queue", 3.0), ("server_queue", 2.0)]
    }
    states = SimpleNamespace(network=np.array([[[0, 1]] * 4]), device=np.array([[[0, 1]] * 4]))
    actions = np.array([[[0, 2], [0, 2], [1, 2], [0, 0]]])
    return LongRun(metrics, curves, {}, actions, states)


@pytest.fixture
def compared():
    """Two policies whose delays span less than two decades and hold a single power of ten."""
    runs = {"greedy": run(4.0, 1.2), "price": run(0.12, 0.9), "once": run(0.5, 1.0)}
    objectives = {"greedy": np.array([3.0, 3.0]), "price": np.array([1.01, 1.01])}
    times = {"greedy": 1e-6, "price": 4e-3, "once": 1e-6}
    return Comparison(runs, None, objectives, np.ones(2), None, "price", times, "hand-v1")


@pytest.mark.parametrize("span", [(0.11, 4.4), (0.9, 1.1), (1.0, 1.02), (2.0, 90.0), (1e-4, 1e4), (1.2, 9.0)])
def test_a_logarithmic_axis_has_three_labels_at_least(span, tmp_path, drawn):
    with drawing(tmp_path / "log.png", figsize=(3, 3)) as (_, axis):
        axis.plot([0, 1], span)
        plain_log(axis.yaxis)
    assert 3 <= len(ticks(axis.yaxis)) <= 12


def test_delays_have_numbers_beside_them_and_budgets_a_line(compared, tmp_path, drawn):
    figures.delay_against_energy(tmp_path / "energy.png", compared)
    figures.over_time(tmp_path / "time.png", compared)
    energy, time = drawn
    for axis in energy.axes:
        assert len(ticks(axis.yaxis)) >= 3
        assert [1.0, 1.0] in [list(line.get_xdata()) for line in axis.get_lines()]
    assert texts(energy.legends[0]) == texts(time.legends[0]) == ["greedy", "price", "once"]
    assert [axis.get_ylabel() for axis in time.axes] == [
        figures.CURVES[name][0] for name in list(figures.CURVES)[:3]
    ]
    assert len(ticks(time.axes[0].yaxis)) >= 3


def test_quality_against_time_marks_only_policies_with_a_gap(compared, tmp_path, drawn):
    figures.quality_against_time(tmp_path / "quality.png", compared)
    (figure,) = drawn
    lines = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[0].get_lines()}
    assert texts(figure.legends[0]) == list(lines) == ["greedy", "price"]  # once has no answer at others' states
    np.testing.assert_allclose(lines["greedy"], (1.0, 200.0))  # µs, and 3 over a bound of 1
    np.testing.assert_allclose(lines["price"], (4000.0, 1.0))


def test_cuts_are_the_shares_of_slots(compared, tmp_path, drawn):
    figures.cuts(tmp_path / "cuts.png", compared.long_run["price"], ["a", "b"], ["x", "y"], "price")
    first, second = drawn[0].axes
    heights = [[bar.get_height() for bar in bars] for bars in first.containers]
    assert heights[0] == [0.75, 0.25]
    assert heights[1] == [0, 0]
    assert [bar.get_height() for bar in second.containers[1]] == [0.25, 0, 0.75]


def test_a_learning_curve_has_the_levels_of_the_baselines(tmp_path, drawn):
    rows = [
        {"update": i, "steps": 10 * 2**i, "objective": 3.0 / (i + 1), "reward": -1.0 / (i + 1)} for i in range(4)
    ]
    write_csv(tmp_path / "metrics.csv", rows)
    levels = {"closed_form": {"objective": 1.5, "delay_s": 9.0}, "best_response": {"objective": 1.2}}
    learning_curve(tmp_path / "metrics.csv", tmp_path / "curve.png", levels)
    objective, reward = drawn[0].axes
    across = {line.get_label(): list(line.get_ydata()) for line in objective.get_lines()}
    assert across == {"training": [3.0, 1.5, 1.0, 0.75], "closed_form": [1.5, 1.5], "best_response": [1.2, 1.2]}
    assert len(reward.get_lines()) == 1
    assert texts(drawn[0].legends[0]) == list(across)
    assert len(ticks(objective.yaxis)) >= 3


def test_a_profile_keeps_numbers_and_names_of_its_cuts_apart():
    labels = ["input", "net/stem/Conv_0", "net/stage1_1/Conv_2", "output"]
    seconds = np.array([0.0, 1.0, 2.0, 3.0])
    stages = Stages(seconds, 1e6 * (4 - seconds), seconds[::-1], np.zeros(4))
    figure = draw(labels, stages, np.array([3.0, 0.1, 2.0, 0.0]), "title")
    figure.canvas.draw()
    above, below = figure.axes
    assert [text.get_text() for text in above.get_xticklabels()] == ["0", "1", "2", "3"]
    names = ["input", "stem/Conv_0", "stage1_1/Conv_2", "output"]
    assert [text.get_text() for text in below.get_xticklabels()] == names
    assert above.get_xlim() == below.get_xlim()
    for axes in (above, below):
        boxes = [text.get_window_extent() for text in axes.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_predictions_beyond_the_frame_stand_whole_at_its_edge(tmp_path, drawn):
    row = {"network": "a", "load": 0.5, "measured_s": 0.1, "measured_ci95_s": 0.01, "formula_s": 9.0}
    predicted_against_measured(tmp_path / "runtime.png", [row], {"formula_s": "formula"})
    mark = drawn[0].axes[0].containers[0].lines[0]
    np.testing.assert_allclose(mark.get_xdata(), [180.0])  # 1.8 times the slowest measured, in ms
    assert not mark.get_clip_on()


def test_best_cuts_with_what_they_are_worth_and_may_lose(tmp_path, drawn):
    rates = np.array([1e6, 2e6, 4e6, 8e6])
    # A cut inside is best at three rates, by more than the error may cost at the second and third.
    latency = Choice(
        "latency",
        rates,
        np.array([4, 2, 1, 0]),
        np.ones(4),
        np.array([0, 0.3, 25, 0]),
        np.array([0, 0.1, 0.2, 0.1]),
        4,
    )
    memory = Choice("memory", rates, np.zeros(4, int), np.ones(4), np.zeros(4), np.zeros(4), 4)
    best_cuts(tmp_path / "rates.png", [latency, memory], "a_b between c and d")
    (figure,) = drawn
    above, beside, below, _ = figure.axes
    assert above.lines[0].get_xydata().tolist() == [[1, 4], [2, 2], [4, 1], [8, 0]]
    ends, errors = (line.get_ydata().tolist() for line in below.lines)
    np.testing.assert_allclose(ends, [0, 30, 1000, 0])  # 2500 % leaves the axis
    np.testing.assert_allclose(errors, [0, 10, 20, 10])
    shaded = above.collections[0].get_paths()[0].vertices[:, 0]
    assert (shaded.min(), shaded.max()) == (2, 4)
    assert (above.get_title(), beside.get_title()) == ("latency", "memory: not worth it")
    assert not beside.collections[0].get_paths()
    assert texts(figure.legends[0]) == ["of the better end", "of this cut if the model errs"]
    assert (tmp_path / "rates.png").stat().st_size > 5_000


def test_the_tradeoff_has_its_guides_through_the_references_ends(drawn, tmp_path):
    rows = [
        {"policy": policy, "tradeoff": v, "delay_s": 0.1 + 0.4 / v, "device_queue": 3.0 * v}
        | {"delay_over_first_ci95": 0.0 if v == 1.0 else 0.02}
        for policy in ("search", "formula")
        for v in (10.0, 1.0, 100.0)
    ]
    delay_and_queues(tmp_path / "tradeoff.png", rows, "search")
    (figure,) = drawn
    delay, queue = figure.axes
    assert texts(figure.legends[0]) == ["search", "formula"]
    (falling,) = [line for line in delay.lines if line.get_color() == "0.5"]
    np.testing.assert_allclose(falling.get_ydata(), 0.104 + 0.396 / np.array([1.0, 10.0, 100.0]))
    (rising,) = [line for line in queue.lines if line.get_color() == "0.5"]
    np.testing.assert_allclose(rising.get_ydata(), [3.0, 30.0, 300.0])
    bars = delay.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(
        [bar[1, 1] - bar[0, 1] for bar in bars], [0.0, 0.02, 0.02]
    )  # 2 % of 0.5 s, both ways
    assert not queue.containers[0].lines[2]


def test_work_on_the_device_stands_in_its_cell(drawn, tmp_path):
    rows = [
        {"network": "a", "device": device, "state": state, "quarter": 1 + quarter, "on_device": 0.25 * quarter}
        for device in ("pi", "nano")
        for state in ("channel", "queue")
        for quarter in (range(4) if state == "channel" else (0, 3))
    ]
    work_on_device(tmp_path / "cuts.png", rows)
    (figure,) = drawn
    first, second, _ = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["a on nano", "a on pi"]
    np.testing.assert_allclose(first.images[0].get_array(), [[0.0, 0.25, 0.5, 0.75]] * 2)
    assert [text.get_text() for text in second.texts] == [
        "0.00",
        "0.75",
    ] * 2  # of two values there are two columns
    assert [label.get_text() for label in second.get_xticklabels()] == ["lowest", "highest"]

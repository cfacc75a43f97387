"""The animated picture of an episode: a frame per slot that shows that slot."""

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from jaxmec.reporting.figures import episode as figures


def test_every_slot_is_a_frame_with_its_own_bars(tmp_path, monkeypatch):
    kept, close = [], plt.close
    monkeypatch.setattr("jaxmec.reporting.figures.episode.plt.close", kept.append)
    slots = np.array([[0.0, 1.0], [0.25, 0.5], [1.0, 0.0]])
    episode = figures.Episode(["a", "b"], slots, 1 + slots, slots / 2, slots / 4, 10 * slots, 0.1 * slots)
    figures.animate(tmp_path / "episode.gif", episode, "policy on hand-v1", dpi=40)
    with Image.open(tmp_path / "episode.gif") as image:
        assert image.n_frames == 3
    (figure,) = kept
    cuts, shares, queues = figure.axes
    assert [label.get_text() for label in cuts.get_yticklabels()] == ["a", "b"]
    assert [bar.get_width() for bar in cuts.containers[1]] == [1.0, 0.0]  # the last slot's
    assert [bar.get_width() for bar in shares.containers[0]] == [0.5, 0.0]
    assert [bar.get_width() for bar in queues.containers[0]] == [10.0, 0.0]
    assert "slot   3" in figure.get_suptitle()
    assert "mean delay   50 ms" in figure.get_suptitle()
    close(figure)

"""The picture of a system: its bars are as long as the numbers say."""

import numpy as np

from jaxmec.reporting import style
from jaxmec.wrappers import picture

NOTHING = picture.Snapshot(
    networks=["resnet18", "vgg16"],
    devices=["jetson_nano", "raspberry_pi_4"],
    cut=np.array([0, 0]),
    last_cut=np.array([6, 6]),
    shares=np.zeros((2, 3)),
    delay_s=np.zeros(2),
    device_queue=np.zeros(2),
    server_queue=0.0,
    slot=0,
)


def pixels(shown, colour):
    """How many have the colour."""
    wanted = [int(colour[index : index + 2], 16) for index in (1, 3, 5)]
    return int((picture.image(shown) == np.array(wanted)).all(axis=-1).sum())


def test_the_blue_part_of_a_cut_is_what_runs_on_the_device():
    none, third, whole = (pixels(NOTHING._replace(cut=np.full(2, cut)), style.colour(0)) for cut in (0, 2, 6))
    assert abs((third - none) / (whole - none) - 1 / 3) < 0.03


def test_the_bar_of_a_share_is_as_long_as_the_share():
    def green(share):
        return pixels(NOTHING._replace(shares=np.array([[0.0, 0.0, share]] * 2)), style.colour(2))

    assert abs((green(0.25) - green(0.0)) / (green(0.5) - green(0.0)) - 0.5) < 0.05


def test_the_text_has_every_number():
    shown = NOTHING._replace(cut=np.array([3, 5]), shares=np.array([[0.5, 0.12, 0.0], [0.0, 0.3, 0.94]]))
    text = picture.text(shown)
    for part in (
        "resnet18 on jetson_nano",
        "3 of 6",
        "5 of 6",
        "█████····· 0.50",
        "0.94",
        "vgg16 on raspberry_pi_4",
    ):
        assert part in text

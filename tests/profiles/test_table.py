"""Cut tables: their files, stages, pictures and pruning."""

import numpy as np
import pytest

from jaxmec import devices, profiles
from jaxmec.profiles import PartitionProfile, profile
from jaxmec.profiles.zoo import __main__ as zoo

DEVICE, SERVER = devices.load("raspberry_pi_4"), devices.load("epyc_7742")


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_stored_tables_are_what_the_profiler_makes(name):
    made, stored = zoo.table(name), profiles.load(name)
    assert made.labels == stored.labels
    for column in ("macs", "other_ops", "heavy_ops", "bytes_moved", "elements", "device_peak_bytes"):
        np.testing.assert_array_equal(getattr(made, column), getattr(stored, column))


def test_pruned_tables_send_less_and_less():
    table = profiles.load("mobilenet_v2").pruned()
    bits = table.uplink_bits()
    assert (np.diff(bits[:-1]) < 0).all()
    assert table.macs[-1] == profiles.load("mobilenet_v2").macs[-1]


def test_stages_by_hand():
    table = profiles.load("resnet18")
    stages = devices.stage_seconds(table, DEVICE, SERVER, wire_bits=16)
    assert stages.uplink_bits[0] == 8 * 150_528
    assert stages.uplink_bits[1] == 16 * table.elements[1] + 32
    assert np.isclose(stages.device_work_s[-1], DEVICE.measured_s["resnet18"])
    assert np.isclose(stages.server_work_s[0], SERVER.measured_s["resnet18"])
    assert stages.server_work_s[-1] == 0 == stages.device_work_s[0] == stages.uplink_bits[-1]
    delay_s = stages.delay_s(1e6)
    assert np.isclose(delay_s[0], 1.204224 + SERVER.measured_s["resnet18"])
    assert np.isclose(delay_s[-1], DEVICE.measured_s["resnet18"])


def test_a_table_survives_its_file_and_a_wrong_file_is_told(tmp_path):
    table = profiles.load("alexnet")
    table.save(tmp_path / "a.json")
    again = PartitionProfile.read(tmp_path / "a.json")
    assert str(again) == str(table)
    assert again.source == table.source
    np.testing.assert_array_equal(again.bytes_moved, table.bytes_moved)
    (tmp_path / "b.json").write_text('{"format": 9}')
    with pytest.raises(ValueError, match=r"b.json: format: got 9; allowed is 2"):
        PartitionProfile.read(tmp_path / "b.json")


def test_it_prints_with_a_fitting_unit():
    table = profile(lambda w, x: np.float32(2) * (x @ w), np.ones((40, 30), np.float32), np.ones((1, 40)))
    text = str(table)
    assert "2 cuts, 1.200 kMAC" in text
    assert "0.714 GMAC" in str(profiles.load("alexnet"))


def test_the_picture_marks_the_fastest_cut(tmp_path):
    table = profiles.load("mobilenet_v2")
    stages = devices.stage_seconds(table, DEVICE, SERVER)
    figure = table.plot(stages, 13e6, tmp_path / "m.png")
    delay_s = stages.delay_s(13e6)
    best = int(np.argmin(delay_s))
    above, below = figure.axes
    assert f"best cut {best}: stage3_1/Conv_2" in above.get_title()
    tops = [bar.get_y() + bar.get_height() for bar in above.containers[2]]
    np.testing.assert_allclose(tops, 1e3 * delay_s)
    np.testing.assert_allclose([bar.get_height() for bar in below.containers[0]], table.uplink_bits() / 1e6)
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"

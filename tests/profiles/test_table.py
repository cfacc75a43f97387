"""Cut tables: their files, stages, pictures and pruning."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec import devices, profiles
from jaxmec.profiles import PartitionProfile, __main__ as command, profile, split
from jaxmec.profiles.zoo import __main__ as zoo

DEVICE, SERVER = devices.load("raspberry_pi_4"), devices.load("epyc_7742")


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_stored_tables_are_what_the_profiler_makes(name):
    made, stored = zoo.table(name), profiles.load(name)
    assert made.labels == stored.labels
    for column in ("macs", "other_ops", "heavy_ops", "bytes_moved", "elements", "device_peak_bytes"):
        np.testing.assert_array_equal(getattr(made, column), getattr(stored, column))


def test_profiles_import_no_device():
    for file in Path(profiles.__file__).parent.rglob("*.py"):
        if file != Path(command.__file__):
            lines = file.read_text().splitlines()
            imports = [line for line in lines if line.lstrip().startswith(("import ", "from "))]
            assert not [line for line in imports if "devices" in line or "latency" in line], file


def test_pruned_tables_send_less_and_less():
    table = profiles.load("mobilenet_v2").pruned()
    bits = table.uplink_bits()
    assert (np.diff(bits[:-1]) < 0).all()
    assert table.macs[-1] == profiles.load("mobilenet_v2").macs[-1]


def test_pruning_compares_what_is_sent():
    w, x = np.ones((8, 8), np.int16), np.ones((2, 8), np.int16)
    table = profile(lambda w, x: jnp.tanh((x @ w).astype(jnp.float32)) @ w, w, x, local_outputs=True)
    # 16 whole numbers of 16 bits, then 16 floats: fewer bits at 8 each, a scale included, and more at 32.
    assert table.uplink_bits(8).tolist() == [256, 16 * 8 + 32, 0]
    assert table.uplink_bits(32).tolist() == [256, 512, 0]
    assert table.uplink_bits(None).tolist() == [256, 512, 0]
    assert len(table.pruned(8)) == 3
    assert len(table.pruned(32)) == 2
    assert len(table.pruned(8, input_bits=161)) == 3
    assert len(table.pruned(8, input_bits=160)) == 2


def test_memory_of_the_halves_by_hand():
    w, v, x = np.ones((4, 32), np.float32), np.ones((32, 2), np.float32), np.ones((1, 4), np.float32)
    table = profile(lambda p, x: jnp.tanh(x @ p[0]) @ p[1], (w, v), x)
    # 4 floats become 32, tanh takes their place, and 32 become 2; the first row holds what it sends.
    assert table.device_peak_bytes.tolist() == [4 * 4, 4 * (4 + 32), 4 * (4 + 32)]
    assert table.server_peak_bytes.tolist() == [4 * (4 + 32), 4 * (32 + 2), 4 * 2]
    assert table.device_weight_bytes.tolist() == [0, w.nbytes, w.nbytes + v.nbytes]
    assert table.server_weight_bytes.tolist() == [w.nbytes + v.nbytes, v.nbytes, 0]
    halves = split(lambda p, x: jnp.tanh(x @ p[0]) @ p[1], (w, v), x, cut=1)
    assert (halves.head_bytes, halves.tail_bytes) == (table.device_weight_bytes[1], table.server_weight_bytes[1])


def test_a_skip_connection_is_held_until_it_is_added():
    w, x = np.ones((8, 8), np.float32), np.ones((1, 8), np.float32)
    table = profile(lambda w, x: x + jnp.tanh(x @ w) @ w, w, x, max_tensors=2)
    assert table.device_peak_bytes[-1] == 3 * x.nbytes  # the input, and both sides of the second product


def test_the_batch_is_recorded():
    w = np.ones((3, 2), np.float32)
    assert profile(lambda w, x: x @ w, w, np.ones((5, 3), np.float32)).batch == 5
    assert profile(lambda w, x: x @ w, w, np.ones(3, np.float32)).batch is None  # no common axis
    assert profile(lambda w, x: x @ w, w, np.ones((5, 3), np.float32), batch=1).batch == 1
    assert zoo.table("alexnet").batch == 1


def test_what_returns_takes_time():
    table = dataclasses.replace(profiles.load("resnet18"), downlink_bits=1e6)
    stages = devices.stage_seconds(table, DEVICE, SERVER)
    assert stages.downlink_bits.tolist() == [1e6] * (len(table) - 1) + [0]
    free = devices.stage_seconds(profiles.load("resnet18"), DEVICE, SERVER)
    extra = stages.delay_s(1e7, downlink_bps=5e6, round_trip_s=0.03) - free.delay_s(1e7)
    np.testing.assert_allclose(extra, [0.2 + 0.03] * (len(table) - 1) + [0], atol=1e-12)
    np.testing.assert_array_equal(stages.delay_s(1e7), free.delay_s(1e7))  # an infinite downlink by default


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
    assert (again.source, again.crossing, again.batch) == (table.source, table.crossing, table.batch)
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
    assert f"best cut {best}: stage" in above.get_title()
    tops = [bar.get_y() + bar.get_height() for bar in above.containers[2]]
    np.testing.assert_allclose(tops, 1e3 * delay_s)
    np.testing.assert_allclose([bar.get_height() for bar in below.containers[0]], table.uplink_bits() / 1e6)
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"


def test_any_name_can_be_drawn(tmp_path):
    table = dataclasses.replace(profiles.load("alexnet"), name="me/alex$net_$1", labels=("a$b$",) * 9)
    table.plot(devices.stage_seconds(table, DEVICE, SERVER), 13e6, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"downlink_bits": -1.0}, "downlink_bits: got -1.0; allowed is a finite number of at least 0"),
        ({"crossing": ((),)}, "crossing: got 1 rows; allowed are 9"),
        ({"kernels": [1.0]}, r"kernels: got shape \(1,\); allowed is one value for each of the 9 labels"),
        ({"device_peak_bytes": [-1.0] * 9}, "device_peak_bytes: .* allowed are finite numbers of at least 0"),
    ],
)
def test_wrong_tables_are_told(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(profiles.load("alexnet"), **changes)

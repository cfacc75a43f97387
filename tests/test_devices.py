"""Devices: published speeds, and the latency model's fit."""

import csv
import dataclasses
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from jaxmec import devices, profiles
from jaxmec.profiles.zoo import networks

TRACES = Path(os.environ.get("JAXMEC_TRACES", Path(__file__).parents[2] / "shared/data/traces"))


@pytest.mark.parametrize(
    ("device", "network", "gflops"),
    [  # effective GFLOP/s = 2 MAC / time, from the public benchmark table
        ("raspberry_pi_4", "mobilenet_v2", 10),
        ("raspberry_pi_4", "resnet18", 30),
        ("raspberry_pi_4", "alexnet", 19),
        ("raspberry_pi_4", "vgg16", 57),
        ("jetson_nano", "mobilenet_v2", 47),
        ("jetson_nano", "resnet18", 83),
        ("jetson_nano", "vgg16", 100),
        ("epyc_7742", "mobilenet_v2", 131),
        ("epyc_7742", "resnet18", 570),
        ("epyc_7742", "alexnet", 368),
        ("epyc_7742", "vgg16", 1190),
    ],
)
def test_whole_model_speed_is_the_published_one(device, network, gflops):
    table = profiles.load(network)
    seconds = devices.load(device).latency_s(table)[-1]
    assert np.isclose(2e-9 * table.macs[-1] / seconds, gflops, rtol=0.03)


@pytest.mark.parametrize("name", devices.names())
def test_work_grows_along_the_cuts_and_nothing_is_free(name):
    device = devices.load(name)
    assert device.power_w > 0
    for network in profiles.names():
        seconds = device.latency_s(profiles.load(network))
        assert seconds[0] == 0
        assert (np.diff(seconds) >= 0).all()
        assert np.isfinite(seconds[-1])
        assert seconds[-1] > 0


def test_leaving_a_network_out_is_a_fit_to_the_others():
    times = dict(devices.load("jetson_nano").measured_s)
    errors = devices.leave_one_out(times)
    assert errors.keys() == times.keys()
    model, _ = devices.fit_device({name: seconds for name, seconds in times.items() if name != "vgg16"})
    alone = model.latency_s(profiles.load("vgg16"))[-1] / times["vgg16"] - 1
    np.testing.assert_allclose(errors["vgg16"], alone)
    assert devices.load("jetson_nano").errors == errors
    assert devices.load("jetson_nano").typical_error == np.median(np.abs(list(errors.values())))
    assert devices.leave_one_out({"vgg16": 1.0}) == {}
    # What it was fitted to it meets better than what it was not.
    fitted = devices.fit_device(times)[1]
    assert np.abs(list(fitted.values())).mean() < np.abs(list(errors.values())).mean()


def test_halves_are_measurements_too():
    truth = devices.load("raspberry_pi_5").model
    tables = []
    for name in ("alexnet", "resnet18", "mobilenet_v2"):
        table = profiles.load(name)
        seconds = truth.latency_s(table)
        # Tails run at 0.7 of the time: a machine may be faster on them than a difference of heads says.
        tables.append(dataclasses.replace(table, device_s=seconds, server_s=0.7 * (seconds[-1] - seconds)))
    modelled = {}
    for halves in ("heads", "tails"):
        model, errors = devices.fit_device(tables, halves)
        assert max(map(abs, errors.values())) < 0.15
        modelled[halves] = model.latency_s(profiles.load("resnet50"))[-1]
    np.testing.assert_allclose(modelled["tails"] / modelled["heads"], 0.7, rtol=0.1)
    _, both = devices.fit_device(tables, "both")
    assert {"alexnet, head of cut 8", "alexnet, tail of cut 0"} <= both.keys()
    assert len(both) == 2 * sum(len(table) - 1 for table in tables)
    assert devices.leave_one_out(tables, "both").keys() == {"alexnet", "resnet18", "mobilenet_v2"}


def test_a_device_of_ones_own_from_a_file(tmp_path):
    table = profiles.load("resnet18")
    seconds = np.linspace(0, 0.2, len(table))
    dataclasses.replace(table, device_s=seconds, server_s=seconds[::-1]).save(tmp_path / "measured.json")
    (tmp_path / "board.yaml").write_text(
        "{power_w: 3.0, description: mine, measured_s: {alexnet: 0.05, vgg16: 0.5}, "
        "measured_profiles: [measured.json], halves: both, batch: 1}"
    )
    board = devices.load(tmp_path / "board.yaml")
    assert (board.name, board.description, board.power_w) == ("board", "mine", 3.0)
    assert board.measured_s == {"alexnet": 0.05, "vgg16": 0.5, "resnet18": 0.2}
    assert board.errors.keys() == {"alexnet", "vgg16", "resnet18"}
    assert np.isclose(board.latency_s(profiles.load("alexnet"))[-1], 0.05)
    entry = {"power_w": 3.0, "measured_s": {"alexnet": 0.05, "vgg16": 0.5}}
    inside = devices.describe("mine", entry, tmp_path / "scenario.yaml", "devices.mine")
    assert inside.measured_s == entry["measured_s"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{power_w: 0, measured_s: {alexnet: 1}}", "power_w: got 0.0; allowed is a number at least 1e-06"),
        (
            "{power_w: 1, measured_s: {alexnet: -1}}",
            "measured_s.alexnet: got -1.0; allowed is a number at least 1e-09",
        ),
        ("{power_w: 1, measured_s: {alexnot: 1}}", "no network 'alexnot'; allowed are"),
        ("{power_w: 1}", "measured_s: got no times, nor measured_profiles"),
        ("{power_w: 1, watts: 1}", "watts: unknown field"),
        ("{power_w: 1, measured_profiles: [none.json]}", "No such file or directory"),
    ],
)
def test_wrong_files_are_told(tmp_path, text, message):
    (tmp_path / "board.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        devices.load(tmp_path / "board.yaml")


def test_another_batch_is_told_and_not_scaled_to_one_images_time():
    eight = zoo_table("alexnet", batch=8)
    device = devices.load("raspberry_pi_4")
    with pytest.warns(UserWarning, match="alexnet is of batch 8, and raspberry_pi_4 was measured at batch 1"):
        stages = devices.stage_seconds(eight, device, device)
    np.testing.assert_allclose(stages.device_work_s, device.model.latency_s(eight))
    assert stages.device_work_s[-1] > 2 * device.measured_s["alexnet"]


def zoo_table(name, batch):
    fn, params, image = networks.abstract(name, batch)
    return profiles.profile(fn, params, image, name=name, local_outputs=True)


def test_every_shipped_constant_has_its_source():
    for name in devices.names():
        entry = devices._table()[name]
        assert all(entry[field] for field in ("description", "power_source", "measured_source"))


def test_wrong_names_and_times_are_told():
    with pytest.raises(ValueError, match="no device 'abacus'; allowed are .*jetson_nano"):
        devices.load("abacus")
    with pytest.raises(ValueError, match="measured: got times .*; allowed are times above 0"):
        devices.fit_device({"alexnet": 0.0})


@pytest.mark.skipif(not TRACES.exists(), reason="public measurements are not here")
def test_shipped_times_are_the_public_ones():
    settings = defaultdict(dict)
    with (TRACES / "device/ncnn_latency.csv").open() as file:
        for row in csv.DictReader(file):
            setting = tuple(row[name] for name in ("device", "num_threads", "powersave", "gpu_device"))
            settings[setting][row["model"]] = round(1e-3 * float(row["min_ms"]), 8)
    for name in devices.names():
        assert any(times.items() >= devices.load(name).measured_s.items() for times in settings.values()), name

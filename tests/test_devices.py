"""Devices: published speeds, and the latency model's fit."""

import csv
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from jaxmec import devices, profiles

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


def test_fit_recovers_the_constants_that_made_the_times():
    truth = devices.LatencyModel(flop_per_s=50e9, bytes_per_s=5e9, heavy_op_s=1e-3)
    times = {name: truth.latency_s(profiles.load(name))[-1] for name in profiles.names()}
    model, errors = devices.fit_device(times)
    np.testing.assert_allclose(
        [model.flop_per_s, model.bytes_per_s, model.heavy_op_s], [50e9, 5e9, 1e-3], rtol=1e-6
    )
    assert max(map(abs, errors.values())) < 1e-8


def test_fit_leaves_out_terms_that_would_be_negative():
    times = {name: 2 * profiles.load(name).macs[-1] / 1e10 for name in ("alexnet", "vgg16", "resnet18")}
    model, _ = devices.fit_device(times)
    assert min(model.flop_per_s, model.bytes_per_s) > 0
    assert model.heavy_op_s >= 0


def test_wrong_names_and_times_are_told():
    with pytest.raises(ValueError, match="no device 'abacus'; allowed are .*jetson_nano"):
        devices.load("abacus")
    with pytest.raises(ValueError, match="measured: got times .*; allowed are times above 0"):
        devices.fit_device({"alexnet": 0.0})


@pytest.mark.skipif(not TRACES.exists(), reason="public measurements are not here")
def test_three_constants_fit_public_measurements_where_flops_alone_do_not():
    settings = defaultdict(dict)
    with (TRACES / "device/ncnn_latency.csv").open() as file:
        for row in csv.DictReader(file):
            if row["model"] in devices.load("raspberry_pi_4").measured_s and float(row["min_ms"]) > 0:
                setting = tuple(row[name] for name in ("device", "num_threads", "powersave", "gpu_device"))
                settings[setting][row["model"]] = round(1e-3 * float(row["min_ms"]), 8)
    complete = [times for times in settings.values() if len(times) == 5]
    assert len(complete) > 200
    assert dict(devices.load("raspberry_pi_4").measured_s) in complete

    largest, by_flops = [], []
    for times in complete:
        largest.append(max(map(abs, devices.fit_device(times)[1].values())))
        per_second = np.array([2 * profiles.load(name).macs[-1] for name in times]) / np.array(
            list(times.values())
        )
        by_flops.append(np.abs(per_second * per_second.sum() / (per_second**2).sum() - 1).max())
    assert np.median(largest) < 0.35
    assert np.median(by_flops) > 0.6

"""Recorded capacity: resampling by hand, faults by file and line, and what the channel makes of it."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.channel import TraceRadio, load_packet_times, load_rates, load_throughput
from jaxmec.config import ConfigError
from jaxmec.observation import USER_FEATURES

TRACES = Path(os.environ.get("JAXMEC_TRACES", Path(__file__).parents[3] / "shared/data/traces"))
SHIPPED = Path(__file__).parents[2] / "docs/examples/traces"


def write(tmp_path, text, name="recording.txt"):
    file = tmp_path / name
    file.write_text(text)
    return file


def test_throughput_is_averaged_over_slots(tmp_path):
    # 3 Mbit/s during 0-1.5 s, 1 during 1.5-2, 5 during 2-4.5: slots of 1 s carry 3, 1.5 + .5, 5 and 5 Mbit;
    # the half slot at the end is left out.
    file = write(tmp_path, "0 9\n1.5 3\n2 1\n4.5 5\n")
    np.testing.assert_allclose(load_throughput(file, 1.0), [3e6, 2e6, 5e6, 5e6])
    np.testing.assert_allclose(load_throughput(file, 0.5), np.array([3, 3, 3, 1, 5, 5, 5, 5, 5]) * 1e6)


def test_a_recording_may_begin_at_any_time_and_be_finer_than_its_slots(tmp_path):
    file = write(tmp_path, "100.0 0\n100.25 4\n100.5 0\n100.75 2\n101.0 2\n")
    np.testing.assert_allclose(load_throughput(file, 1.0), [2e6])


def test_packet_times_are_counted_and_the_last_begins_the_next_round(tmp_path):
    # A round of 2 s. Slot 0: 0 and 400 ms twice, and 2000 ms of the round before; slot 1: 1999 ms.
    file = write(tmp_path, "0\n400\n400\n1999\n2000\n")
    np.testing.assert_allclose(load_packet_times(file, 1.0), [4 * 12_000, 12_000])
    # Slots of 0.8 s: the last 0.4 s of the round are no whole slot.
    np.testing.assert_allclose(load_packet_times(file, 0.8), np.array([4, 0]) * 12_000 / 0.8)


def test_rates_of_a_csv_file_by_name_and_unit(tmp_path):
    file = write(
        tmp_path, "rate,when\n0,2024-05-10T00:00:00Z\n700,2024-05-10 00:00:01\n300,2024-05-10 00:00:02.0\n"
    )
    np.testing.assert_allclose(load_rates(file, 1.0, "when", "rate", rate_unit="kbit/s"), [7e5, 3e5])
    file = write(tmp_path, "0,0\n1000,7\n2000,3\n")
    np.testing.assert_allclose(load_rates(file, 1.0, time_unit="ms"), [7e6, 3e6])


@pytest.mark.parametrize(
    ("load", "text", "message"),
    [
        (load_throughput, "", "recording.txt: empty"),
        (load_throughput, "0 1\n1 nan\n", "recording.txt:2: column 1 must hold a rate in Mbit/s, got 'nan'"),
        (load_throughput, "0 1\n1 -2\n", "recording.txt:2: column 1 must hold a rate in Mbit/s, got '-2'"),
        (load_throughput, "0 1\n\n2 1\n1 1\n", "recording.txt:4: the time lies before that of line 3"),
        (load_throughput, "0 1\n1\n", "recording.txt:2: column 1 must hold a rate in Mbit/s, got ''"),
        (load_throughput, "7\n9\n", "recording.txt:1: no column 1; the first of 1 is 0"),
        (load_throughput, "0 1\n1 2\n1e14 1\n", r"recording.txt:3: 1e\+14 s after line 2; .* at most 10,000,000"),
        (load_throughput, "0 1\n0.5 2\n", "recording.txt: lasts 0.5 s, less than a slot of 1 s"),
        (load_throughput, "0 1\n5 0\n", "recording.txt: every rate is zero"),
        (load_throughput, "0 1\n", "recording.txt: 1 lines; a recording needs at least two"),
        (load_packet_times, "0\n1.5\n", "recording.txt:2: column 0 must hold a whole number of milliseconds"),
        (load_packet_times, "-1\n0\n", "recording.txt:1: column 0 must hold a whole number of milliseconds"),
        (load_packet_times, "5\n5000\n4000\n", "recording.txt:3: the time lies before that of line 2"),
        (load_packet_times, "0\n0\n", "recording.txt: lasts 0 s, less than a slot"),
        (load_packet_times, "0\n100000000000000\n", "recording.txt:2: 1e.11 s after line 1"),
    ],
)
def test_faults_are_told_by_file_and_line(tmp_path, load, text, message):
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, text), 1.0)


def scenario(**radio):
    group = {"networks": {"alexnet": 1}, "devices": {"jetson_nano": 1}, "energy_budget_j": {"jetson_nano": 1}}
    return {
        "users": [group | {"count": 3, "tx_power_w": 0.1}],
        "server": {"device": "epyc_7742", "energy_budget_j": 5},
        "radio": {"process": "trace", "bandwidth_hz": 5e6} | radio,
    }


def test_a_share_of_the_band_carries_its_part_of_the_recorded_capacity_in_turn(tmp_path, key):
    write(tmp_path, "0 0\n1 2\n2 8\n3 0\n4 4\n")
    file = write(tmp_path, repr(scenario(trace_file="recording.txt", trace_scale=0.5)), "mine.yaml")
    env, params = jaxmec.make(file)
    _, state = env.reset(key, params)
    sequence = np.array([1e6, 4e6, 50e3, 2e6])  # halved, and 50 kbit/s where nothing was recorded
    position = np.asarray(state.channel)
    advance = jax.jit(lambda state: state.replace(channel=params.channel.step(key, state.channel)))
    decide = jax.jit(lambda state: env.decide(state, jnp.zeros(3, jnp.int32), params))
    for slot in range(5):
        decision = decide(state)
        capacity_bps = sequence[(position + slot) % 4]
        np.testing.assert_allclose(decision.problem.capacity_bps, capacity_bps, rtol=1e-6)
        carried = decision.problem.uplink_bits / decision.stage_times[:, 1]
        np.testing.assert_allclose(carried, decision.allocation.bandwidth_share * capacity_bps, rtol=1e-5)
        shown = env.unpack(env.observe(state, params)).users[:, USER_FEATURES.index("snr")]
        np.testing.assert_allclose(shown, np.log10(capacity_bps / 5e6), atol=1e-5)
        state = advance(state)


def test_users_start_anywhere_in_the_recording(tmp_path, key):
    write(tmp_path, "0 0\n1 1\n2 2\n3 3\n4 4\n")
    radio = TraceRadio(bandwidth_hz=5e6, trace_file="recording.txt")
    channel = radio.channel(np.ones((1, 2)), np.array([0.2]), 1.0, tmp_path)
    counts = np.bincount(channel.init(key, jnp.ones((10_000, 2))), minlength=4)
    assert (abs(counts - 2500) < 4 * np.sqrt(10_000 * 3 / 16)).all()


@pytest.mark.parametrize(
    ("radio", "message"),
    [
        ({}, "radio: trace_file: got None with process 'trace'; allowed is a file"),
        ({"trace_file": "none.txt"}, "mine.yaml: radio.trace_file: .*none.txt"),
        (
            {"trace_file": "recording.txt", "trace_scale": 0},
            "radio.trace_scale: got 0.0; allowed is a number at least 1e-06",
        ),
        (
            {"trace_file": "recording.txt", "bandwidth_hz": 1e4},
            "radio.bandwidth_hz: got 10000, 200 bit/s/Hz at the",
        ),
        ({"trace_file": "recording.txt", "trace_format": "pcap"}, "trace_format: got 'pcap'; allowed is one of"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, radio, message):
    write(tmp_path, "0 0\n1 2\n")
    file = write(tmp_path, repr(scenario(**radio)), "mine.yaml")
    with pytest.raises(ConfigError, match=message):
        jaxmec.make(file)


def test_shipped_recordings_tell_the_same_in_every_format():
    slots = {
        "throughput": load_throughput(SHIPPED / "capacity.txt", 1.0),
        "csv": load_rates(SHIPPED / "capacity.csv", 1.0, "time_ms", "uplink_kbps", "ms", "kbit/s"),
        "packets": load_packet_times(SHIPPED / "capacity.up", 1.0),
    }
    assert all(len(rates) == 30 for rates in slots.values())
    np.testing.assert_allclose(slots["csv"], slots["throughput"], rtol=1e-3)
    # A packet more or less at either end of a slot
    np.testing.assert_allclose(slots["packets"], slots["throughput"], atol=2 * 12_000)


@pytest.mark.skipif(not TRACES.exists(), reason="measured traces are not here")
@pytest.mark.parametrize(
    ("name", "mean_bps", "duration_s"),
    [("TMobile-LTE-short", 13.4e6, 140), ("Verizon-LTE-short", 6.0e6, 140), ("ATT-LTE-driving-2016", 1.9e6, 120)],
)
def test_measured_uplinks_have_their_published_means(name, mean_bps, duration_s):
    capacity = load_packet_times(TRACES / f"wireless/mahimahi_uplink/{name}.up", 1.0)
    assert len(capacity) == duration_s
    assert np.isclose(capacity.mean(), mean_bps, rtol=0.02)


@pytest.mark.skipif(not TRACES.exists(), reason="measured traces are not here")
def test_a_measured_throughput_carries_its_bits():
    file = TRACES / "wireless/norway_hsdpa_3g/norway_bus_14"
    time_s, rate = np.loadtxt(file).T
    whole_slots = int(time_s[-1])
    # Bits of whole steps, and of the part of the last one inside the last whole slot
    steps = np.diff(np.minimum(time_s, whole_slots))
    assert np.isclose(load_throughput(file, 1.0).sum(), (steps * rate[1:]).sum() * 1e6, rtol=1e-9)

"""Scenario files: what they build, and what the errors say."""

import dataclasses
import json
import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec import devices, profiles, scenario
from jaxmec.config import ConfigError
from jaxmec.workload import Markov, Trace, fit_markov, load_request_times

TRACES = Path(os.environ.get("JAXMEC_TRACES", Path(__file__).parents[2] / "shared/data/traces"))


@pytest.mark.parametrize("name", ["coinfer4", "coinfer10", "coinfer50", "district10"])
def test_named_scenarios_build(name):
    env, params = jaxmec.make(name)
    assert env.num_users == int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))
    np.testing.assert_allclose(params.network_probability.sum(axis=1), 1.0, rtol=1e-6)
    assert name in jaxmec.scenarios()


@pytest.mark.parametrize(
    ("name", "busiest", "late_after_s"), [("bursty", 3.85 * 4, 0.5), ("overload", 8, 0.5), ("video", 8, 0.2)]
)
def test_scenarios_of_requests_have_room_for_their_busiest_slot(name, busiest, late_after_s):
    env, params = jaxmec.make(name, fidelity="requests")
    assert busiest < env.fidelity.max_requests < 4 * busiest
    np.testing.assert_allclose(params.deadline_s, late_after_s)
    assert params.backlog_weight is None


@pytest.mark.skipif(not TRACES.exists(), reason="measured traces are not here")
def test_bursts_are_those_of_the_measured_trace():
    times_s = load_request_times(TRACES / "arrivals/AzureLLMInferenceTrace_code.csv", "TIMESTAMP")
    fit, (_, params) = fit_markov(times_s, slot_s=1.0), jaxmec.make("bursty")
    assert fit.low_hz < 0.02
    assert float(params.requests.peak) == pytest.approx(fit.high_hz / fit.mean_hz, rel=0.01)
    length_s = 1.0 / (1.0 - fit.stay_probability[1])
    assert float(params.requests.burst_requests) == pytest.approx(fit.high_hz * length_s, rel=0.01)


def test_tables_are_those_of_profiles_and_devices():
    env, params = jaxmec.make("coinfer10", wire={"prune": False})
    network = profiles.load("vgg16")
    m, d = env.network_names.index("vgg16"), env.device_names.index("jetson_nano")
    stages = devices.stage_seconds(network, devices.load("jetson_nano"), devices.load("epyc_7742"), wire_bits=8)
    used = len(network)
    np.testing.assert_allclose(params.device_work_s[m, d, :used], stages.device_work_s, rtol=1e-6)
    np.testing.assert_allclose(params.uplink_bits[m, :used], stages.uplink_bits, rtol=1e-6)
    np.testing.assert_allclose(params.server_work_s[m, :used], stages.server_work_s, rtol=1e-6)
    assert params.uplink_bits[m, 0] == 8 * 150_528
    assert params.valid_cut[m].sum() == used


def test_a_decoder_is_cut_between_its_layers_and_its_phases_are_told_apart():
    env, params = jaxmec.make("llm_split")
    assert env.network_names == ("decoder_decode", "decoder_prefill")
    assert params.valid_cut.all()
    assert env.num_cuts == 26
    np.testing.assert_array_equal(params.uplink_bits[:, 0], [16, 128 * 16])  # raw text
    np.testing.assert_array_equal(params.uplink_bits[:, 12], [768 * 8 + 32, 128 * 768 * 8 + 32])  # and a scale
    np.testing.assert_array_equal(params.network_probability.argmax(axis=1), [0] * 5 + [1] * 5)


def test_overrides_reach_the_parameters():
    env, params = jaxmec.make("coinfer10", num_users=3, tradeoff=5, radio={"bandwidth_hz": 1e6})
    assert env.num_users == 3
    assert params.tradeoff == 5
    assert params.bandwidth_hz == 1e6
    assert params.channel.path_loss.exponent == 3.0  # the rest of the section stays


def test_a_name_tells_the_version_and_whether_the_numbers_are_its_own(tmp_path):
    for name in jaxmec.scenarios():
        assert re.fullmatch(rf"{name}-v[1-9]\d*", jaxmec.make(name)[0].name)
    assert jaxmec.make("coinfer4", num_users=3)[0].name.endswith("-changed")
    env, _ = jaxmec.make(write(tmp_path))
    other, _ = jaxmec.make(write(tmp_path, name="campus", version="3"))
    assert (env.name, other.name) == ("mine-v1", "campus-v3")
    assert env == other  # a name is no shape: they share a compilation


def test_every_version_has_its_line_in_the_history():
    history = (Path(__file__).parents[1] / "docs/scenario-history.md").read_text()
    for name in jaxmec.scenarios():
        assert jaxmec.make(name)[0].name in history


def test_a_device_of_the_scenarios_own(tmp_path):
    board = "{power_w: 3.0, measured_s: {alexnet: 0.05, vgg16: 0.5}}"
    (tmp_path / "board.yaml").write_text(board)
    users = "[{networks: {alexnet: 1}, devices: {%s: 1}, energy_budget_j: {%s: 0.1}}]"
    inside = jaxmec.make(write(tmp_path, users=users % ("mine", "mine"), devices=f"{{mine: {board}}}"))
    beside = jaxmec.make(write(tmp_path, users=users % ("board.yaml", "board.yaml")))
    for env, params in (inside, beside):
        assert np.isclose(params.device_work_s[0, 0, env.num_cuts - 1], 0.05)
        np.testing.assert_allclose(params.device_power_w, [3.0])
    assert set(scenario.files(tmp_path / "mine.yaml")) == {"scenario.yaml", "board.yaml"}
    # Its errors on networks left out are told: each network by a fit to the other one alone.
    board, server = scenario.devices_of(tmp_path / "mine.yaml")
    assert (board.name, server.name) == ("board", "epyc_7742")
    model, _ = devices.fit_device({"alexnet": 0.05})
    np.testing.assert_allclose(board.errors["vgg16"], model.latency_s(profiles.load("vgg16"))[-1] / 0.5 - 1)
    expected = np.median(np.abs(list(board.errors.values())))
    assert board.error_text() == f"board: the latency model errs by {expected:.0%} on networks left out of its fit"


def test_queues_start_at_the_level_of_the_users_class(key):
    env, params = jaxmec.make("district10")
    state = jax.jit(lambda key: env.reset(key, params)[1])(key)
    by_name = {"raspberry_pi_4": 50.0, "jetson_nano": 40.0}
    np.testing.assert_array_equal(state.device_queue, [by_name[env.device_names[d]] for d in state.device])
    assert state.server_queue == 30.0
    assert (state.cuts == -1).all()  # nothing has run yet


def group(network, budget="{jetson_nano: 1}"):
    return f"{{networks: {{{network}: 1}}, devices: {{jetson_nano: 1}}, energy_budget_j: {budget}}}"


def write(tmp_path, **changes):
    text = {
        "users": f"[{group('alexnet')}]",
        "server": "{device: epyc_7742, energy_budget_j: 5}",
        "radio": "{bandwidth_hz: 5e6}",
    } | changes
    file = tmp_path / "mine.yaml"
    file.write_text("".join(f"{name}: {value}\n" for name, value in text.items()))
    return file


def test_a_file_and_a_fixed_population(tmp_path):
    env, params = jaxmec.make(write(tmp_path, users=f"[{group('alexnet')}, {group('resnet18')}]"))
    assert env.network_names == ("alexnet", "resnet18")
    np.testing.assert_array_equal(params.network_probability, np.eye(2))


def test_a_profile_file_serves_as_a_network(tmp_path):
    profiles.load("alexnet").save(tmp_path / "own.json")
    _, params = jaxmec.make(write(tmp_path, users=f"[{group('own.json')}]"))
    _, expected = jaxmec.make(write(tmp_path))
    np.testing.assert_array_equal(params.device_work_s, expected.device_work_s)


def test_a_measured_profile_of_ones_own_serves_as_a_network(tmp_path):
    w, x = np.ones((6, 6), np.float32), np.ones((2, 6), np.float32)
    table = profiles.profile(lambda w, x: (x @ w) @ w, w, x, name="own", local_outputs=True)
    seconds = np.array([0.0, 0.25, 0.5])
    dataclasses.replace(table, device_s=seconds, server_s=seconds[::-1] / 8).save(tmp_path / "own.json")
    env, params = jaxmec.make(write(tmp_path, users=f"[{group('own.json')}]", wire="{prune: false}"))
    assert env.network_names == ("own",)
    np.testing.assert_array_equal(params.device_work_s[0, 0], seconds)
    np.testing.assert_array_equal(params.server_work_s[0], seconds[::-1] / 8)
    np.testing.assert_array_equal(params.uplink_bits[0], [8 * 12 + 32, 8 * 12 + 32, 0])  # and a scale


def test_the_way_back_is_part_of_every_cut_but_the_devices_own(tmp_path):
    assert jaxmec.make(write(tmp_path))[1].return_s is None
    two = f"[{group('alexnet')}, {group('resnet18')}]"
    way_back = "{downlink_bits: 2e5, downlink_bps: 1e7, round_trip_s: 0.03}"
    _, params = jaxmec.make(write(tmp_path, users=two, wire=way_back))
    for cuts, seconds in zip(params.valid_cut, params.return_s, strict=True):
        last = int(cuts.sum()) - 1
        np.testing.assert_allclose(seconds[:last], 0.02 + 0.03, rtol=1e-6)
        np.testing.assert_array_equal(seconds[last:], 0)
    # Without a rate bits return at once, and a network's own count where the scenario tells none.
    dataclasses.replace(profiles.load("alexnet"), downlink_bits=1e6).save(tmp_path / "own.json")
    users = f"[{group('own.json')}]"
    assert jaxmec.make(write(tmp_path, users=users))[1].return_s is None
    _, params = jaxmec.make(write(tmp_path, users=users, wire="{downlink_bps: 4e6}"))
    assert params.return_s[0, 0] == 0.25


def test_a_trace_drives_the_arrivals(tmp_path):
    (tmp_path / "log.csv").write_text("time\n0.1\n0.2\n1.5\n2.5\n")
    _, params = jaxmec.make(write(tmp_path, arrivals="{process: trace, trace_file: log.csv, trace_column: time}"))
    assert isinstance(params.workload, Trace)
    np.testing.assert_allclose(params.workload.relative_rate, [1.5, 0.75, 0.75])


def test_a_process_has_the_fields_of_its_settings(tmp_path):
    file = write(tmp_path, arrivals="{process: markov, stay_probability: 0.7}")
    _, params = jaxmec.make(file)
    assert isinstance(params.workload, Markov)
    assert np.isclose(params.workload.stay_probability, 0.7)
    _, params = jaxmec.make(file, radio={"process": "gauss_markov", "fading_diversity": 2})
    assert params.channel.fading.diversity == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"radio": "{bandwidth_hz: 0}"},
            "mine.yaml: radio.bandwidth_hz: got 0.0; allowed is a number at least 1000",
        ),
        ({"radio": "{bandwith_hz: 1}"}, "radio.bandwith_hz: unknown field .*did you mean 'bandwidth_hz'"),
        ({"server": "{device: abacus, energy_budget_j: 1}"}, "server.device: got 'abacus': .*epyc_7742"),
        (
            {"devices": "{mine: {power_w: 0, measured_s: {alexnet: 1}}}"},
            "mine.yaml: devices.mine.power_w: got 0.0; allowed is a number at least 1e-06 and at most 1000000",
        ),
        ({"wire": "{downlink_bps: 0}"}, "wire.downlink_bps: got 0.0; allowed is a number at least 1"),
        ({"wire": "{round_trip_s: -1}"}, "wire.round_trip_s: got -1.0; allowed is a number at least 0"),
        (
            {"wire": "{downlink_bits: 1e12, downlink_bps: 1}"},
            r"wire, in seconds of the way back: got 0 to 1e\+12; allowed is 0 to 1e\+06",
        ),
        ({"version": "0"}, "mine.yaml: version: got 0; allowed is a number at least 1"),
        ({"users": "[]"}, "mine.yaml: users: got an empty list"),
        ({"users": f"[{group('lenet9')}]"}, "users.networks: got 'lenet9': .*alexnet"),
        ({"users": f"[{group('alexnet', '{}')}]"}, "energy_budget_j: no budget for jetson_nano"),
        ({"arrivals": "{process: trace}"}, "arrivals: trace_file: got None with process 'trace'"),
        (
            {"arrivals": "{process: sometimes}"},
            "arrivals.process: got 'sometimes'; allowed is one of 'constant'",
        ),
        (
            {"arrivals": "{process: uniform, stay_probability: 0.7}"},
            "mine.yaml: arrivals.stay_probability: unknown field",
        ),
        (
            {"radio": "{process: wire, bandwidth_hz: 1}"},
            "mine.yaml: radio.process: got 'wire'; allowed is one of 'gauss_markov'",
        ),
        ({"arrivals": "{process: trace, trace_file: none.csv}"}, "arrivals.trace_file: .*none.csv"),
        ({"users": f"[{group('none.json')}]"}, r"got 'none.json': .*none.json: cannot be read: No such file"),
        (
            {
                "users": "[{networks: {alexnet: 1}, devices: {jetson_nano: 1}, energy_budget_j: {jetson_nano: 1}, "
                "count: 1e7}]"
            },
            "users: got 10,000,000 in all, of whom one observation would take 10 GB; allowed are at most 100,000",
        ),
        (
            {
                "users": "[{networks: {alexnet: 1}, devices: {jetson_nano: 1}, energy_budget_j: {jetson_nano: 1}, "
                "initial_queue: {jetson: 1}}]"
            },
            "users: initial_queue.jetson: no such device here; allowed are jetson_nano",
        ),
    ],
)
def test_errors_name_file_field_value_and_what_is_allowed(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        jaxmec.make(write(tmp_path, **changes))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"scenario: got 'coinfer'; allowed are .*coinfer10"):
        jaxmec.make("coinfer")


def test_num_users_needs_a_single_group():
    with pytest.raises(ConfigError, match="num_users: got 5; allowed only with a single user group"):
        jaxmec.make("coinfer10", num_users=5, users=[{}, {}])


def test_numpy_numbers_are_numbers():
    env, params = jaxmec.make(
        "coinfer10", num_users=np.int64(3), tradeoff=np.float32(5), wire={"prune": np.bool_(False)}
    )
    assert env.num_users == 3
    assert params.tradeoff == 5
    assert env.num_cuts == jaxmec.make("coinfer10", wire={"prune": False})[0].num_cuts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name: got 3; allowed is a text"),
        ({"labels": "abc"}, "labels: got 'abc'; allowed is a list"),
        ({"kernels": [[1]]}, r"kernels\[0\]: got \[1\]; allowed is a finite number"),
        (
            {"kernels": [0, 1]},
            "profile .alexnet.: kernels: got shape .2,.; allowed is one value for each of the 9 labels",
        ),
        ({"crossing": [["float32[-1]"]] * 9}, "crossing: got 'float32.-1.'; allowed is a dtype and a shape"),
        ({"crossing": [["float3[1]"]] * 9}, "crossing: got 'float3.1.'; there is no such dtype"),
        ({"kernels": [0] * 9}, "kernels and bytes_moved: got 0 in the last row; a network does some work"),
        ({"batch": 10**10}, "batch: got 10000000000; allowed is a number at least 1"),
        ({"nmae": "x"}, "nmae: unknown field .*did you mean 'name'"),
    ],
)
def test_a_wrong_profile_is_told_by_file_and_field(tmp_path, change, message):
    path = tmp_path / "own.json"
    profiles.load("alexnet").save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=rf"mine.yaml: users.networks: got .*own.json: {message}"):
        jaxmec.make(write(tmp_path, users=f"[{group('own.json')}]"))


def test_a_profile_with_nan_is_refused(tmp_path):
    path = tmp_path / "own.json"
    profiles.load("alexnet").save(path)
    path.write_text(path.read_text().replace('"kernels": [0', '"kernels": [NaN'))
    with pytest.raises(ConfigError, match="own.json: not valid JSON: NaN is no number"):
        profiles.load(path)

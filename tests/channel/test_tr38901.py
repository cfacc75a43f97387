"""Urban path loss of TR 38.901, at points worked out by hand and at those that ns-3 tests its own model with."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.channel import UrbanPathLossSettings, UrbanRadio
from jaxmec.config import ConfigError

RINGS_M = np.array([[10.0, 5000.0]])


def law(carrier_hz=3.5e9, **settings):
    return UrbanPathLossSettings(**settings).path_loss(carrier_hz, RINGS_M)


def loss_db(law, distance_m, line_of_sight):
    distance_m = jnp.asarray(distance_m, float)
    return np.asarray(law.loss_db(distance_m, jnp.full(distance_m.shape, line_of_sight)))


def test_umi_by_hand():
    # 3.5 GHz, antennas at 10 and 1.5 m: 20 log10 3.5 = 10.881, 21.3 log10 3.5 = 11.589.
    umi = law()
    # d_BP = 4 (10 - 1)(1.5 - 1) 3.5e9 / 3e8 = 210 m
    assert np.isclose(umi.breakpoint_m, 210.0)
    # 100 m: d_3D = sqrt(100² + 8.5²) = 100.361, log10 = 2.00156
    #   in sight 32.4 + 21 · 2.00156 + 10.881 = 85.314
    #   out of it 22.4 + 35.3 · 2.00156 + 11.589 = 104.644
    # 500 m: d_3D = 500.072, log10 = 2.69903, beyond the breakpoint:
    #   in sight 32.4 + 40 · 2.69903 + 10.881 - 9.5 log10(210² + 8.5²) = 43.281 + 107.961 - 9.5 · 4.64515 = 107.114
    #   out of it 22.4 + 35.3 · 2.69903 + 11.589 = 129.265
    np.testing.assert_allclose(loss_db(umi, [100, 500], True), [85.314, 107.114], atol=2e-3)
    np.testing.assert_allclose(loss_db(umi, [100, 500], False), [104.644, 129.265], atol=2e-3)


def test_uma_by_hand_with_heights_of_its_own():
    # 2 GHz, antennas at 30 and 3 m: d_BP = 4 · 29 · 2 · 2e9 / 3e8 = 1546.67 m; 20 log10 2 = 6.0206
    uma = law(2e9, environment="uma", antenna_height_m=30.0, user_height_m=3.0)
    assert np.isclose(uma.breakpoint_m, 1546.67)
    # 200 m: d_3D = sqrt(200² + 27²) = 201.814, log10 = 2.30495
    #   in sight 28 + 22 · 2.30495 + 6.021 = 84.730
    #   out of it 13.54 + 39.08 · 2.30495 + 6.021 - 0.6 (3 - 1.5) = 108.738
    # 2000 m: d_3D = 2000.18, log10 = 3.30107; log10(1546.67² + 27²) = 6.37892
    #   in sight 28 + 40 · 3.30107 + 6.021 - 9 · 6.37892 = 108.653
    np.testing.assert_allclose(loss_db(uma, [200, 2000], True), [84.730, 108.653], atol=2e-3)
    np.testing.assert_allclose(loss_db(uma, [200], False), [108.738], atol=2e-3)


@pytest.mark.parametrize(
    ("environment", "in_sight", "out_of_sight"),
    [
        ("umi", [69.8591, 88.4122, 119.3114, 147.2696], [76.7563, 107.9432, 143.1886, 167.8617]),
        ("uma", [72.9380, 86.2362, 109.7252, 137.6794], [82.5131, 106.1356, 144.7641, 172.0753]),
    ],
)
def test_losses_are_those_published_with_ns3(environment, in_sight, out_of_sight):
    # ns-3, src/propagation/test/three-gpp-propagation-loss-model-test-suite.cc: 5 GHz, 10, 100, 1000 and 5000 m
    urban, distance_m = law(5e9, environment=environment), [10, 100, 1000, 5000]
    np.testing.assert_allclose(loss_db(urban, distance_m, True), in_sight, atol=1e-3)
    np.testing.assert_allclose(loss_db(urban, distance_m, False), out_of_sight, atol=1e-3)


def test_the_law_is_continuous_at_the_breakpoint_and_never_easier_out_of_sight():
    # With b + 2 c = 40 (21 + 2 · 9.5, 22 + 2 · 9) both slopes give the same loss at the breakpoint.
    for environment in ("umi", "uma"):
        urban = law(environment=environment)
        around = np.float32(urban.breakpoint_m) + np.array([-0.01, 0.01])
        below, above = loss_db(urban, around, True)
        assert abs(above - below) < 1e-2
        distance_m = np.geomspace(10, 5000, 60)
        assert (loss_db(urban, distance_m, False) >= loss_db(urban, distance_m, True)).all()


def test_probability_of_line_of_sight_by_hand():
    # Certain up to 18 m; at 36 m 1/2 + e^-1 / 2 = 0.68394 (umi), 1/2 + e^(-36/63) / 2 = 0.78236 (uma);
    # at 100 m .18 + .82 e^(-100/36) = 0.23098 and .18 + .82 e^(-100/63) = 0.34767
    distance_m = jnp.array([10.0, 18.0, 36.0, 100.0])
    umi, uma = (law(environment=name).line_of_sight_probability(distance_m) for name in ("umi", "uma"))
    np.testing.assert_allclose(umi, [1, 1, 0.68394, 0.23098], atol=1e-5)
    np.testing.assert_allclose(uma, [1, 1, 0.78236, 0.34767], atol=1e-5)


@pytest.mark.parametrize(
    ("environment", "probability", "deviation_db"), [("umi", 0.23098, 7.82), ("uma", 0.34767, 6.0)]
)
def test_users_are_drawn_in_sight_and_shadowed_as_the_tables_say(key, environment, probability, deviation_db):
    num_users = 20_000
    radio = UrbanRadio(bandwidth_hz=20e6, environment=environment)
    channel = radio.channel(RINGS_M, np.array([0.2]), 1.0, Path())
    state = channel.init(key, jnp.full((num_users, 2), 100.0))
    visible = np.asarray(state.line_of_sight)
    assert abs(visible.mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / num_users)
    shadow_db = -10 * np.log10(state.mean_gain) - np.where(
        visible, *(loss_db(channel.path_loss, [100], sight) for sight in (True, False))
    )
    for group, sigma in ((shadow_db[visible], 4.0), (shadow_db[~visible], deviation_db)):
        assert abs(group.mean()) < 4 * sigma / np.sqrt(len(group))
        assert abs(group.std() / sigma - 1) < 4 / np.sqrt(2 * len(group))


@pytest.mark.parametrize(
    ("radio", "users", "message"),
    [
        ({"carrier_hz": 0.4e9}, {}, r"radio.carrier_hz: got 4e\+08; TR 38.901 allows 5e\+08 to 1e\+11 Hz"),
        ({}, {"distance_m": [5, 100]}, r"users.distance_m: got \[5.0, 100.0\]; TR 38.901 allows 10 to 5000 m"),
        ({"user_height_m": 1.0}, {}, "user_height_m: got 1.0; allowed is a number at least 1.5 and at most 22.5"),
        ({"user_height_m": 14, "environment": "uma"}, {}, "user_height_m: got 14.0; allowed is 1.5 to 13.0 m"),
        ({"antenna_height_m": 1.0}, {}, "antenna_height_m: got 1.0; allowed is a number above 1 and at most"),
        ({"environment": "rma"}, {}, "environment: got 'rma'; allowed is one of 'umi', 'uma'"),
    ],
)
def test_values_outside_the_law_are_named(tmp_path, radio, users, message):
    file = tmp_path / "city.yaml"
    group = {"networks": {"alexnet": 1}, "devices": {"jetson_nano": 1}, "energy_budget_j": {"jetson_nano": 1}}
    data = {
        "users": [group | users],
        "server": {"device": "epyc_7742", "energy_budget_j": 5},
        "radio": {"process": "tr38901", "bandwidth_hz": 5e6} | radio,
    }
    file.write_text(repr(data))  # JSON-like text is YAML
    with pytest.raises(ConfigError, match=f"city.yaml: .*{message}"):
        jaxmec.make(file)

"""What scenario files may say never leaves the domain of the allocation: random numbers at and between their limits."""

import random

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec.allocation import DOMAIN
from jaxmec.config import ConfigError

DRAWS = 150


@pytest.fixture(scope="module")
def study(command):
    """It draws the scenarios that its own slots are played in."""
    return command("domain")


def test_problems_of_random_scenarios_are_inside_the_domain(study):
    env, _ = jaxmec.make("coinfer4", users=[study.USERS | {"count": 3}])

    @jax.jit
    def problems(keys, params):
        return jax.vmap(lambda key: env.cut_problems(env.reset(key, params)[1], params))(keys)

    keys = jax.random.split(jax.random.key(0), 100)
    rng = random.Random(0)
    accepted, refused = 0, []
    for _ in range(DRAWS):
        data = study.scenario(rng, 3)
        try:
            _, params = jaxmec.make("coinfer4", **data)
        except ConfigError as error:
            refused.append(str(error))
            continue
        accepted += 1
        found = problems(keys, params)
        for name, (low, high) in DOMAIN.items():
            leaf = getattr(found, name)
            if leaf is not None:
                assert (np.asarray(leaf) >= low).all(), (name, data)
                assert (np.asarray(leaf) <= high).all(), (name, data)
    assert accepted >= 60
    assert len(refused) >= 10
    assert all("coinfer4.yaml" in message and "allowed is" in message for message in refused)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("users", "energy_budget_j", {"raspberry_pi_4": 1e-20, "jetson_nano": 0.1}),
        ("users", "distance_m", [1, 1e9]),
        ("users", "tx_power_w", 1e30),
        ("users", "tx_power_w", 1e-30),
        ("radio", "carrier_hz", 1e20),
        ("radio", "carrier_hz", 1e-20),
        ("radio", "path_loss_exponent", 1e6),
        ("radio", "shadowing_db", 1e6),
        ("radio", "noise_dbm_per_hz", -1),
        ("", "tradeoff", 1e38),
        ("", "tradeoff", 1e-38),
        ("", "knee", 0.96),
        ("", "waiting_scale", 101),
    ],
)
def test_numbers_beyond_any_system_are_refused_by_name(study, section, name, value):
    data = {"users": [study.USERS | {name: value}]} if section == "users" else {name: value}
    if section == "radio":
        data = {"radio": data}
    with pytest.raises(
        ConfigError, match=rf"coinfer4.yaml: .*{name}.*: got .*; allowed is a number a.* and at most"
    ):
        jaxmec.make("coinfer4", **data)


def test_a_signal_that_drowns_is_refused_though_each_number_may_be(study):
    with pytest.raises(ConfigError, match=r"radio: snr, .*: got .*; allowed is 1e-09 to 1e\+12"):
        jaxmec.make("coinfer4", radio={"path_loss_exponent": 6}, users=[study.USERS | {"distance_m": [500, 1000]}])


@pytest.mark.parametrize("name", jaxmec.scenarios())
def test_named_scenarios_are_valid(name):
    jaxmec.make(name)

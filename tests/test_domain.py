"""What scenario files may say never leaves the domain of the allocation: random numbers at and between their limits."""

import dataclasses
import random

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec.allocation import DOMAIN
from jaxmec.channel import GaussMarkovRadio
from jaxmec.config import ConfigError
from jaxmec.scenario import Scenario
from jaxmec.scenario.schema import Server, UserGroup

DEVICES = {"raspberry_pi_4": 1, "jetson_nano": 1}
USERS = {
    "count": 3,
    "networks": {"alexnet": 1, "resnet18": 1},
    "devices": DEVICES,
    "energy_budget_j": dict.fromkeys(DEVICES, 0.1),
}
PAIRS = ("distance_m", "arrival_rate_hz")
FIXED = ("count", "networks", "devices", "max_requests", "episode_slots", "fading_diversity")


def numbers(cls):
    """The numbers of a section that change no shape, with the ends of their limits."""
    for field in dataclasses.fields(cls):
        limits = field.metadata
        if "at_most" in limits and field.name not in FIXED:
            yield field.name, limits.get("at_least", limits.get("above")), limits["at_most"]


def changed(rng):
    """A scenario of which one to four numbers are elsewhere, half of them at an end of their limits."""
    sections = {"users": UserGroup, "server": Server, "radio": GaussMarkovRadio, "": Scenario}
    places = [(section, *one) for section, cls in sections.items() for one in numbers(cls)]
    users, data = dict(USERS), {}
    for section, name, low, high in rng.sample(places, rng.randint(1, 4)):
        if rng.random() < 0.5:
            value = rng.choice((low, high))
        elif low > 0:
            value = low * (high / low) ** rng.random()
        else:
            value = low + (high - low) * rng.random() ** 3
        if section == "users":
            users[name] = [value, value] if name in PAIRS else value
            if name in ("energy_budget_j", "initial_queue"):
                users[name] = dict.fromkeys(DEVICES, value)
        elif section:
            data.setdefault(section, {})[name] = value
        else:
            data[name] = value
    return data | {"users": [users]}


def test_problems_of_random_scenarios_are_inside_the_domain():
    env, _ = jaxmec.make("coinfer4", users=[USERS])

    @jax.jit
    def problems(keys, params):
        return jax.vmap(lambda key: env.cut_problems(env.reset(key, params)[1], params))(keys)

    keys = jax.random.split(jax.random.key(0), 100)
    rng = random.Random(0)
    accepted, refused = 0, []
    for _ in range(150):
        data = changed(rng)
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
    ],
)
def test_numbers_beyond_any_system_are_refused_by_name(section, name, value):
    data = {"users": [USERS | {name: value}]} if section == "users" else {name: value}
    if section == "radio":
        data = {"radio": data}
    with pytest.raises(
        ConfigError, match=rf"coinfer4.yaml: .*{name}.*: got .*; allowed is a number a.* and at most"
    ):
        jaxmec.make("coinfer4", **data)


def test_a_signal_that_drowns_is_refused_though_each_number_may_be():
    with pytest.raises(ConfigError, match=r"radio: snr, .*: got .*; allowed is 1e-09 to 1e\+12"):
        jaxmec.make("coinfer4", radio={"path_loss_exponent": 6}, users=[USERS | {"distance_m": [500, 1000]}])


@pytest.mark.parametrize("name", jaxmec.scenarios())
def test_named_scenarios_are_valid(name):
    jaxmec.make(name)

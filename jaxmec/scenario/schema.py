"""What a scenario's file may say, field by field.

A user group draws every user's network and device from weights, so a fixed population is a list of groups of one.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxmec.channel import CHANNELS, Radio
from jaxmec.config import ConfigError, kind, number
from jaxmec.requests import REQUESTS, RequestSettings
from jaxmec.workload import ARRIVALS, ArrivalSettings


@dataclasses.dataclass(frozen=True)
class UserGroup:
    """Users that are drawn alike."""

    networks: dict[str, float] = number(at_least=0)  # profile name or .json file -> weight
    devices: dict[str, float] = number(at_least=0)  # device class -> weight
    energy_budget_j: dict[str, float] = number(above=0)  # device class -> J per slot, device and radio
    initial_queue: dict[str, float] = number({}, at_least=0)  # device class -> virtual queue at an episode's start
    count: int = number(1, at_least=1)
    distance_m: tuple[float, float] = number((50.0, 150.0), at_least=1)  # uniform over the ring's area
    arrival_rate_hz: tuple[float, float] = number((1.0, 3.0), above=0)  # see jaxmec.workload
    delay_weight: float = number(1.0, above=0)
    deadline_s: float = number(0.5, above=0)  # of a request; read at request fidelity
    tx_power_w: float = number(0.2, above=0)

    def __post_init__(self) -> None:
        for name in ("distance_m", "arrival_rate_hz"):
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(f"users: {name}: got [{low}, {high}]; allowed is [low, high] with low <= high")
        for name in ("networks", "devices"):
            if not sum(getattr(self, name).values()) > 0:
                raise ConfigError(f"users: {name}: got {getattr(self, name)}; at least one weight must be above 0")
        missing = self.devices.keys() - self.energy_budget_j.keys()
        if missing:
            raise ConfigError(f"users: energy_budget_j: no budget for {', '.join(sorted(missing))}")


@dataclasses.dataclass(frozen=True)
class Server:
    """The edge server."""

    device: str
    energy_budget_j: float = number(above=0)  # J per slot
    power_w: float | None = number(None, above=0)  # at full capacity; the device's own if absent
    initial_queue: float = number(0.0, at_least=0)  # virtual queue at an episode's start


@dataclasses.dataclass(frozen=True)
class Wire:
    """What crosses a cut."""

    activation_bits: Literal[8, 16, 32] = 8
    prune: bool = True  # leave out cuts that send no less than an earlier one


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A system."""

    users: tuple[UserGroup, ...]
    server: Server
    radio: Radio = kind(CHANNELS, "gauss_markov")
    description: str = ""
    arrivals: ArrivalSettings = kind(ARRIVALS, "uniform")
    requests: RequestSettings = kind(REQUESTS, "poisson")  # within a slot; read at request fidelity
    max_requests: int | None = number(
        None, at_least=1
    )  # of a user in a slot, simulated; what the rates need if absent
    wire: Wire = Wire()
    slot_s: float = number(1.0, above=0)
    episode_slots: int = number(200, at_least=1)
    tradeoff: float = number(10.0, above=0)  # V
    knee: float = number(0.9, above=0, at_most=0.999)
    # Factor on the formula's waiting time: 1 for Poisson requests, 0 for clocked ones, above 1 for bursts
    waiting_scale: float = number(1.0, at_least=0, at_most=1e4)
    # Weight of unfinished work in the slot problem, about 1 / (1 - load); read at request fidelity
    backlog_weight: float = number(0.0, at_least=0, at_most=1e3)

    def __post_init__(self) -> None:
        if not self.users:
            raise ConfigError("users: got an empty list; at least one group is needed")

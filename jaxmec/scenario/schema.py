"""What a scenario's file may say, field by field.

A user group draws every user's network and device from weights, so a fixed population is a list of groups of one.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxmec.channel import CHANNELS, Radio
from jaxmec.config import ConfigError, kind, number
from jaxmec.devices import Measurement
from jaxmec.requests import REQUESTS, RequestSettings
from jaxmec.workload import ARRIVALS, ArrivalSettings

MAX_USERS = 100_000
BYTES_PER_USER = 1000  # of an observation, or a little more
MAX_REQUESTS = 100_000  # of a user and slot: 40 MB of times for a hundred users

# The limits of every number are wide, and together they keep a slot within `jaxmec.allocation.DOMAIN`, but for what
# depends on several fields at once: that is checked when the system is assembled.


@dataclasses.dataclass(frozen=True)
class UserGroup:
    """Users that are drawn alike."""

    networks: dict[str, float] = number(at_least=0, at_most=1e6)  # profile name or .json file -> weight
    devices: dict[str, float] = number(at_least=0, at_most=1e6)  # device class -> weight
    energy_budget_j: dict[str, float] = number(at_least=1e-7, at_most=1e6)
    """Device class to J per slot, device and radio."""
    initial_queue: dict[str, float] = number({}, at_least=0, at_most=1e6)
    """Device class to the virtual queue at an episode's start."""
    count: int = number(1, at_least=1, at_most=10**12)  # of users
    distance_m: tuple[float, float] = number((50.0, 150.0), at_least=1, at_most=1e5)
    """Inner and outer radius; users are uniform over the ring's area."""
    arrival_rate_hz: tuple[float, float] = number((1.0, 3.0), at_least=1e-6, at_most=1e6)
    """Lowest and highest, see `jaxmec.workload`."""
    delay_weight: float = number(1.0, at_least=1e-3, at_most=1e3)  # ω, of this user's delay in the objective
    deadline_s: float = number(0.5, at_least=1e-6, at_most=1e6)
    """Of a request; read at request fidelity."""
    tx_power_w: float = number(0.2, at_least=1e-6, at_most=1e3)  # of the radio while it sends

    def __post_init__(self) -> None:
        for name in ("distance_m", "arrival_rate_hz"):
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(f"users: {name}: got [{low}, {high}]; allowed is [low, high] with low <= high")
        for name in ("networks", "devices"):
            if not sum(getattr(self, name).values()) > 0:
                raise ConfigError(f"users: {name}: got {getattr(self, name)}; at least one weight must be above 0")
        unknown = self.initial_queue.keys() - self.devices.keys()
        if unknown:
            raise ConfigError(
                f"users: initial_queue.{min(unknown)}: no such device here; allowed are {', '.join(self.devices)}"
            )
        missing = self.devices.keys() - self.energy_budget_j.keys()
        if missing:
            raise ConfigError(f"users: energy_budget_j: no budget for {', '.join(sorted(missing))}")


@dataclasses.dataclass(frozen=True)
class Server:
    """The edge server."""

    device: str  # class of device, of jaxmec/devices.yaml, a .yaml file or `devices`
    energy_budget_j: float = number(at_least=1e-7, at_most=1e6)  # J per slot
    power_w: float | None = number(None, at_least=1e-6, at_most=1e6)
    """At full capacity; the device's own if absent."""
    initial_queue: float = number(0.0, at_least=0, at_most=1e6)  # virtual queue at an episode's start


@dataclasses.dataclass(frozen=True)
class Wire:
    """What crosses a cut, and how long its result takes to come back.

    Where the server runs the last layer, `downlink_bits` return at `downlink_bps`; where it runs any, or something is
    sent, the round trip is added. The way back is the user's own: its delay counts, and nobody waits for it.
    """

    activation_bits: Literal[8, 16, 32] = 8  # per number of an activation
    prune: bool = True  # leave out cuts that send no less than an earlier one
    downlink_bits: float | None = number(None, at_least=0, at_most=1e15)
    """Of a result; the network's own if absent."""
    downlink_bps: float | None = number(None, at_least=1, at_most=1e15)  # a result returns at once if absent
    round_trip_s: float = number(0.0, at_least=0, at_most=1e3)  # of an empty message there and back


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A system."""

    users: tuple[UserGroup, ...]  # groups, drawn alike within
    server: Server  # what runs the rest
    radio: Radio = kind(CHANNELS, "gauss_markov")  # band and channel, see jaxmec.channel
    name: str = ""  # the file's own if empty
    version: int = number(
        1, at_least=1, at_most=1_000_000
    )  # raised by every change that could change what is learned
    description: str = ""  # one line
    devices: dict[str, Measurement] = dataclasses.field(default_factory=dict)  # classes of one's own, by name
    arrivals: ArrivalSettings = kind(ARRIVALS, "uniform")  # requests per second, slot by slot, see jaxmec.workload
    requests: RequestSettings = kind(REQUESTS, "poisson")  # within a slot; read at request fidelity
    max_requests: int | None = number(None, at_least=1, at_most=MAX_REQUESTS)
    """Of a user in a slot, simulated; what the rates need if absent."""
    wire: Wire = Wire()  # what crosses a cut
    slot_s: float = number(1.0, at_least=1e-4, at_most=1e4)  # length of a slot
    episode_slots: int = number(200, at_least=1, at_most=10**9)  # slots until an episode is truncated
    tradeoff: float = number(10.0, at_least=1e-3, at_most=1e6)  # V
    knee: float = number(0.9, at_least=0.01, at_most=0.95)  # utilisation where the tangent begins
    waiting_scale: float = number(1.0, at_least=0, at_most=100)
    """Factor on the formula's waiting time: 1 for Poisson requests, 0 for clocked ones, above 1 for bursts."""
    backlog_weight: float = number(0.0, at_least=0, at_most=1e3)
    """Weight of unfinished work in the slot problem, about 1 / (1 - load); read at request fidelity."""

    def __post_init__(self) -> None:
        if not self.users:
            raise ConfigError("users: got an empty list; at least one group is needed")
        num_users = sum(group.count for group in self.users)
        if num_users > MAX_USERS:
            raise ConfigError(
                f"users: got {num_users:,} in all, of whom one observation would take "
                f"{num_users * BYTES_PER_USER / 1e9:.3g} GB; allowed are at most {MAX_USERS:,}"
            )

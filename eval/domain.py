"""How exact slots are wherever scenarios may go: random steps of random valid scenarios.

python eval/domain.py                        # 10 million slots
python eval/domain.py --slots 200000 --users 2

Of a scenario one to four numbers are elsewhere within their limits, half of them at an end; what assembly refuses is
drawn anew. Cuts are random. Told are the certified gap, the statuses, and what is no finite number.
"""

from __future__ import annotations

import dataclasses
import math
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

import jaxmec
from jaxmec.allocation import Status
from jaxmec.channel import GaussMarkovRadio
from jaxmec.compilation import keep_compiled
from jaxmec.config import ConfigError
from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.tables import table
from jaxmec.scenario import Scenario
from jaxmec.scenario.schema import Server, UserGroup

BASE = "coinfer4"
DEVICES = {"raspberry_pi_4": 1, "jetson_nano": 1}
USERS = {
    "networks": {"alexnet": 1, "resnet18": 1},
    "devices": DEVICES,
    "energy_budget_j": dict.fromkeys(DEVICES, 0.1),
}
SECTIONS = {"users": UserGroup, "server": Server, "radio": GaussMarkovRadio, "": Scenario}
PAIRS = ("distance_m", "arrival_rate_hz")
TABLES = ("energy_budget_j", "initial_queue")  # of device classes
# They change a shape, or nothing that a slot's formula reads.
FIXED = (
    *("count", "networks", "devices", "max_requests", "episode_slots", "fading_diversity"),
    *("version", "backlog_weight", "deadline_s"),
)
SYSTEMS, STEPS = 256, 16  # of each scenario


@dataclasses.dataclass(frozen=True)
class Flags:
    """Play random slots of random scenarios."""

    slots: int = 10_000_000
    """Slots in all, the same number for every number of users."""
    users: tuple[int, ...] = (1, 2, 10)
    """Numbers of users, each of which is compiled once."""
    seed: int = 0
    """Of scenarios, systems and cuts."""
    out: Path = Path("runs/domain")
    """Folder of domain.csv."""


@dataclasses.dataclass
class Tally:
    """What slots of one shape have shown."""

    gaps: list[np.ndarray] = dataclasses.field(default_factory=list)  # of slots inside the solver's domain
    statuses: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(len(Status), int))
    slots: int = 0
    scenarios: int = 0
    refused: int = 0
    not_finite: int = 0  # slots with such a number
    worst: float = -1.0
    worst_scenario: str = ""

    def add(self, data: dict[str, Any], gap: np.ndarray, status: np.ndarray, finite: np.ndarray) -> None:
        """Slots of one scenario, [STEPS, SYSTEMS]."""
        inside = gap[status != Status.OUT_OF_DOMAIN]
        self.gaps.append(inside)
        self.statuses += np.bincount(status.ravel(), minlength=len(Status))
        self.slots += gap.size
        self.scenarios += 1
        self.not_finite += int((~finite).sum())
        if inside.size and inside.max() > self.worst:
            self.worst, self.worst_scenario = float(inside.max()), str(data)

    def row(self, users: int) -> dict[str, float | str]:
        """Of the table."""
        gaps = np.concatenate(self.gaps)
        shares = {status.name: self.statuses[status] / self.slots for status in Status}
        return {
            "users": users,
            "slots": self.slots,
            "scenarios": self.scenarios,
            "refused": self.refused,
            "gap_p99.9": float(np.percentile(gaps, 99.9)),
            "gap_max": self.worst,
            **shares,
            "not_finite": self.not_finite,
            "worst_scenario": self.worst_scenario,
        }


def numbers(section: type) -> Iterator[tuple[str, float, float]]:
    """The numbers of a section that change no shape, with the ends of their limits."""
    for field in dataclasses.fields(section):
        limits = field.metadata
        if "at_most" in limits and field.name not in FIXED:
            yield field.name, limits.get("at_least", limits.get("above")), limits["at_most"]


def scenario(rng: random.Random, num_users: int) -> dict[str, Any]:
    """Fields of a scenario, of which one to four numbers are elsewhere within their limits."""
    places = [(section, *one) for section, kind in SECTIONS.items() for one in numbers(kind)]
    users: dict[str, Any] = USERS | {"count": num_users}
    data: dict[str, Any] = {}
    for section, name, low, high in rng.sample(places, rng.randint(1, 4)):
        if rng.random() < 0.5:
            value = rng.choice((low, high))
        elif low > 0:
            value = low * (high / low) ** rng.random()
        else:
            value = low + (high - low) * rng.random() ** 3
        if section == "users":
            users[name] = [value, value] if name in PAIRS else value
            if name in TABLES:
                users[name] = dict.fromkeys(DEVICES, value)
        elif section:
            data.setdefault(section, {})[name] = value
        else:
            data[name] = value
    return data | {"users": [users]}


def player(env: EdgeInferenceEnv) -> Callable[[Array, EnvParams], tuple[Array, Array, Array]]:
    """Random slots of a system: gap, status and whether all is finite, [STEPS, SYSTEMS] each."""

    def slot(params: EnvParams, key: Array, state: EnvState) -> tuple[EnvState, tuple[Array, Array, Array]]:
        key_cuts, key_step = jax.random.split(key)
        cuts = jax.random.randint(key_cuts, (env.num_users,), 0, env.num_cuts)
        obs, state, reward, _, info = env.step_env(key_step, state, cuts, params)
        leaves = jax.tree.leaves((obs, state, reward, info))
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
        return state, (info["duality_gap"], info["status"], finite)

    @jax.jit
    def play(key: Array, params: EnvParams) -> tuple[Array, Array, Array]:
        key_reset, key_slots = jax.random.split(key)
        _, states = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, SYSTEMS), params)

        def slots(states: EnvState, key: Array) -> tuple[EnvState, tuple[Array, Array, Array]]:
            return jax.vmap(slot, (None, 0, 0))(params, jax.random.split(key, SYSTEMS), states)

        return jax.lax.scan(slots, states, jax.random.split(key_slots, STEPS))[1]

    return play


def tally(num_users: int, slots: int, seed: int, tell: Callable[[str], None]) -> Tally:
    """Play scenarios of one shape until there are as many slots."""
    rng, found = random.Random(seed), Tally()
    play = player(jaxmec.make(BASE, users=[USERS | {"count": num_users}])[0])
    while found.slots < slots:
        data = scenario(rng, num_users)
        try:
            _, params = jaxmec.make(BASE, **data)
        except ConfigError:
            found.refused += 1
            continue
        if params.waiting_scale is None:  # one structure for all, and so one compilation
            params = params.replace(waiting_scale=jnp.ones(num_users))
        key = jax.random.fold_in(jax.random.key(seed), found.scenarios)
        found.add(data, *map(np.asarray, play(key, params)))
        if found.scenarios % 100 == 0:
            tell(f"{num_users} users: {found.slots:,} slots, largest gap {found.worst:.1e}")
    return found


def main(flags: Flags) -> int:
    """Run the command; returns the exit status."""
    messages, results = terminal(), terminal(stderr=False)
    if flags.slots < 1 or not flags.users or min(flags.users) < 1:
        return fail(
            messages, ValueError(f"slots, users: got {flags.slots}, {flags.users}; allowed are at least 1")
        )
    keep_compiled()
    each = math.ceil(flags.slots / len(flags.users))
    tallies = {n: tally(n, each, flags.seed, partial(say, messages)) for n in flags.users}
    rows = [found.row(users) for users, found in tallies.items()]
    flags.out.mkdir(parents=True, exist_ok=True)
    write_csv(flags.out / "domain.csv", rows)
    shown = [name for name in rows[0] if name != "worst_scenario"]
    body = [
        [f"{row[name]:,.4g}" if isinstance(row[name], float) else f"{row[name]:,}" for name in shown]
        for row in rows
    ]
    results.print(table("Random slots of random scenarios", shown, body))
    for row in rows:
        say(results, f"largest gap with {row['users']} users: {row['worst_scenario']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))

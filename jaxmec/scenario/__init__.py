"""Named systems and YAML files, turned into (env, params).

A scenario file is `Scenario` below, field by field; the named ones lie beside this file. A user group draws
every user's network and device from weights, so a fixed population is a list of groups of one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxmec import devices, profiles, workload
from jaxmec.channel import ChannelParams
from jaxmec.config import ConfigError, build, merge, number, read_yaml
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.workload import WorkloadParams

_FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class UserGroup:
    """Users that are drawn alike."""

    networks: dict[str, float] = number(at_least=0)  # profile name or .json file -> weight
    devices: dict[str, float] = number(at_least=0)  # device class -> weight
    energy_budget_j: dict[str, float] = number(above=0)  # device class -> J per slot, device and radio
    count: int = number(1, at_least=1)
    distance_m: tuple[float, float] = number((50.0, 150.0), at_least=1)  # uniform over the ring's area
    arrival_rate_hz: tuple[float, float] = number((1.0, 3.0), above=0)  # see jaxmec.workload
    delay_weight: float = number(1.0, above=0)
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


@dataclasses.dataclass(frozen=True)
class Radio:
    """The shared uplink, see jaxmec.channel."""

    bandwidth_hz: float = number(above=0)
    carrier_hz: float = number(3.5e9, above=0)
    path_loss_exponent: float = number(3.0, at_least=0)
    shadowing_db: float = number(4.0, at_least=0)
    fading_correlation: float = number(0.9, at_least=0, at_most=1)
    fading_diversity: int = number(4, at_least=1)
    fading_floor_db: float = number(-20.0, at_most=0)
    rician_k: float = number(0.0, at_least=0)
    noise_dbm_per_hz: float = -174.0
    noise_figure_db: float = number(0.0, at_least=0)


@dataclasses.dataclass(frozen=True)
class Arrivals:
    """How the arrival rates move, see jaxmec.workload."""

    process: Literal["constant", "uniform", "markov", "diurnal", "trace"] = "uniform"
    stay_probability: float = number(0.9, at_least=0, at_most=1)
    period_slots: float = number(200.0, above=0)
    trace_file: str | None = None  # CSV of request times, relative to the scenario's file
    trace_column: str | int = 0

    def __post_init__(self) -> None:
        if (self.process == "trace") != (self.trace_file is not None):
            raise ConfigError(
                f"arrivals: trace_file: got {self.trace_file!r} with process {self.process!r}; "
                "process 'trace' needs a file and the others take none"
            )


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
    radio: Radio
    description: str = ""
    arrivals: Arrivals = Arrivals()
    wire: Wire = Wire()
    slot_s: float = number(1.0, above=0)
    episode_slots: int = number(200, at_least=1)
    tradeoff: float = number(10.0, above=0)  # V
    knee: float = number(0.9, above=0, at_most=0.999)

    def __post_init__(self) -> None:
        if not self.users:
            raise ConfigError("users: got an empty list; at least one group is needed")


def scenarios() -> tuple[str, ...]:
    """Names that `make` knows."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def make(
    scenario: str | Path, *, num_users: int | None = None, **overrides: Any
) -> tuple[EdgeInferenceEnv, EnvParams]:
    """Build an environment.

    Args:
      scenario: a name of `scenarios()` or the path of a YAML file.
      num_users: another number of users, for scenarios with one user group.
      **overrides: fields of `Scenario`; nested ones as mappings, e.g. `radio={"bandwidth_hz": 10e6}`.

    Returns:
      The environment and its parameters (also `env.default_params`).

    Raises:
      ConfigError: a ValueError that names file, field, value and what is allowed.
    """
    path = find(scenario)
    data = merge(read_yaml(path), overrides)
    if num_users is not None:
        if not isinstance(data.get("users"), list) or len(data["users"]) != 1:
            raise ConfigError(f"{path}: num_users: got {num_users}; allowed only with a single user group")
        data["users"] = [{**data["users"][0], "count": num_users}]
    config = build(Scenario, data, path)
    return _assemble(config, path)


def find(scenario: str | Path) -> Path:
    """The file of a scenario's name, or the path itself.

    Raises:
      ConfigError: if it is neither a name of `scenarios()` nor the path of a YAML file.
    """
    if str(scenario) in scenarios():
        return _FOLDER / f"{scenario}.yaml"
    if str(scenario).endswith((".yaml", ".yml")):
        return Path(scenario)
    raise ConfigError(
        f"scenario: got {str(scenario)!r}; allowed are {', '.join(scenarios())} or the path of a .yaml file"
    )


def _assemble(config: Scenario, path: Path) -> tuple[EdgeInferenceEnv, EnvParams]:
    network_names = list(dict.fromkeys(name for group in config.users for name in group.networks))
    device_names = list(dict.fromkeys(name for group in config.users for name in group.devices))
    users = [group for group in config.users for _ in range(group.count)]

    networks = [_load(profiles.load, _relative(name, path), path, "users.networks") for name in network_names]
    classes = [_load(devices.load, name, path, "users.devices") for name in device_names]
    server = _load(devices.load, config.server.device, path, "server.device")
    if config.wire.prune:
        networks = [network.pruned(config.wire.activation_bits) for network in networks]

    num_cuts = max(len(network) for network in networks)

    def pad(column: np.ndarray) -> np.ndarray:
        # Rows beyond a network's last cut repeat it, so that masked entries stay ordinary numbers.
        return np.pad(column, (0, num_cuts - len(column)), mode="edge")

    stages = [
        [devices.stage_seconds(network, device, server, config.wire.activation_bits) for device in classes]
        for network in networks
    ]

    def weights(of: str, names: list[str]) -> np.ndarray:
        rows = np.array([[getattr(user, of).get(name, 0.0) for name in names] for user in users])
        return rows / rows.sum(axis=1, keepdims=True)

    def per_user(of: str) -> np.ndarray:
        return np.array([getattr(user, of) for user in users], dtype=float)

    radio, arrivals = config.radio, config.arrivals
    rates = per_user("arrival_rate_hz")
    params = EnvParams(
        device_work_s=_array(np.array([[pad(stage.device_work_s) for stage in row] for row in stages])),
        uplink_bits=_array(np.array([pad(row[0].uplink_bits) for row in stages])),
        server_work_s=_array(np.array([pad(row[0].server_work_s) for row in stages])),
        valid_cut=_array(np.arange(num_cuts) < np.array([[len(network)] for network in networks])),
        device_power_w=_array(np.array([device.power_w for device in classes])),
        network_probability=_array(weights("networks", network_names)),
        device_probability=_array(weights("devices", device_names)),
        # Classes that a group never draws need no budget; any positive number keeps the table ordinary.
        device_budget_j=_array(
            np.array([[user.energy_budget_j.get(name, 1.0) for name in device_names] for user in users])
        ),
        distance_m=_array(per_user("distance_m")),
        delay_weight=_array(per_user("delay_weight")),
        tx_power_w=_array(per_user("tx_power_w")),
        workload=WorkloadParams(
            low_hz=_array(rates[:, 0]),
            high_hz=_array(rates[:, 1]),
            stay_probability=_array(arrivals.stay_probability),
            period_slots=_array(arrivals.period_slots),
            trace=_array(_trace(arrivals, config.slot_s, path)),
        ),
        channel=ChannelParams(
            carrier_hz=_array(radio.carrier_hz),
            path_loss_exponent=_array(radio.path_loss_exponent),
            shadowing_db=_array(radio.shadowing_db),
            fading_correlation=_array(radio.fading_correlation),
            rician_k=_array(radio.rician_k),
            fading_floor=_array(10 ** (radio.fading_floor_db / 10)),
            noise_w_per_hz=_array(10 ** ((radio.noise_dbm_per_hz + radio.noise_figure_db - 30) / 10)),
        ),
        bandwidth_hz=_array(radio.bandwidth_hz),
        server_power_w=_array(server.power_w if config.server.power_w is None else config.server.power_w),
        server_budget_j=_array(config.server.energy_budget_j),
        tradeoff=_array(config.tradeoff),
        slot_s=_array(config.slot_s),
        knee=_array(config.knee),
        episode_slots=_array(config.episode_slots),
    )
    env = EdgeInferenceEnv(
        num_users=len(users),
        num_cuts=num_cuts,
        fading_diversity=radio.fading_diversity,
        arrivals=arrivals.process,
        default_params=params,
        network_names=tuple(network.name for network in networks),
        device_names=tuple(device_names),
    )
    return env, params


def _load(load: Any, name: str, path: Path, field: str) -> Any:
    try:
        return load(name)
    except (KeyError, ValueError, OSError) as error:
        message = error.args[0] if error.args else error
        raise ConfigError(f"{path}: {field}: got {name!r}: {message}") from None


def _relative(name: str, path: Path) -> str:
    """A profile's name as it is; a profile's file relative to the scenario's."""
    return str(path.parent / name) if name.endswith(".json") else name


def _trace(arrivals: Arrivals, slot_s: float, path: Path) -> np.ndarray:
    if arrivals.trace_file is None:
        return np.ones(1)
    try:
        return workload.load_trace(path.parent / arrivals.trace_file, slot_s, arrivals.trace_column)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: arrivals.trace_file: {error}") from None


def _array(value: Any) -> jax.Array:
    """An array of the default float type (float64 only if JAX has it enabled), or of the value's own kind."""
    array = np.asarray(value)
    return jnp.asarray(array, float) if array.dtype.kind == "f" else jnp.asarray(array)

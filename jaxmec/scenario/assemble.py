"""From a scenario to an environment and its parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmec import devices, profiles
from jaxmec.allocation import DOMAIN
from jaxmec.channel import CapacityChannel, Channel, snr
from jaxmec.config import ConfigError, default_float, quoted
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.requests import RequestFidelity
from jaxmec.reward import RequestDelay
from jaxmec.scenario.schema import MAX_REQUESTS, Scenario, UserGroup

T = TypeVar("T")

# How likely a user's busiest slot may bring more requests than are simulated: by default, and at most.
UNLIKELY = 1e-6
TOLERABLE = 1e-2


def assemble(
    config: Scenario, path: Path, fidelity: str = "stationary", changed: bool = False
) -> tuple[EdgeInferenceEnv, EnvParams]:
    """Build a scenario that was read from `path`, to whose folder its other files are relative.

    Args:
      config: what the file says.
      path: of the file.
      fidelity: of `FIDELITIES`.
      changed: whether it is not what the file says, which the environment's name then tells.

    Raises:
      ConfigError: naming file, field, value and what is allowed.
    """
    network_names, device_names = _drawn(config, "networks"), _drawn(config, "devices")
    networks = [
        _load(lambda name: profiles.load(_relative(name, path)), name, path, "users.networks")
        for name in network_names
    ]
    if config.wire.downlink_bits is not None:
        networks = [dataclasses.replace(network, downlink_bits=config.wire.downlink_bits) for network in networks]
    if config.wire.prune:
        networks = [network.pruned(config.wire.activation_bits) for network in networks]
    *classes, server = device_classes(config, path)
    params = EnvParams(
        **_works(networks, classes, server, config),
        **_users(config, network_names, device_names),
        **_processes(config, path),
        device_power_w=default_float([device.power_w for device in classes]),
        noise_w_per_hz=default_float(config.radio.noise_w_per_hz),
        bandwidth_hz=default_float(config.radio.bandwidth_hz),
        server_power_w=default_float(server.power_w if config.server.power_w is None else config.server.power_w),
        server_budget_j=default_float(config.server.energy_budget_j),
        initial_server_queue=default_float(config.server.initial_queue),
        tradeoff=default_float(config.tradeoff),
        slot_s=default_float(config.slot_s),
        knee=default_float(config.knee),
        episode_slots=jnp.asarray(config.episode_slots, jnp.int32),
    )
    _check_domain(params, path)
    env = EdgeInferenceEnv(
        num_users=params.distance_m.shape[0],
        num_cuts=params.valid_cut.shape[-1],
        name=f"{config.name or path.stem}-v{config.version}" + "-changed" * changed,
        defaults=params,
        network_names=tuple(network.name for network in networks),
        device_names=tuple(device_names),
        **FIDELITIES[fidelity](config, params, path),
    )
    return env, params


def device_classes(config: Scenario, path: Path) -> list[devices.Device]:
    """Classes of the users' devices in the order of `EdgeInferenceEnv.device_names`, and the server's.

    Raises:
      ConfigError: for an unknown class, or one whose measurements cannot be used.
    """
    users = [_device(name, config, path, "users.devices") for name in _drawn(config, "devices")]
    return [*users, _device(config.server.device, config, path, "server.device")]


def _users(config: Scenario, networks: Sequence[str], devices: Sequence[str]) -> dict[str, Any]:
    """What is told of every user."""
    users = _everyone(config)
    # Classes that a group never draws need no budget; any positive number keeps the table ordinary.
    budgets = [[user.energy_budget_j.get(name, 1.0) for name in devices] for user in users]
    queues = [[user.initial_queue.get(name, 0.0) for name in devices] for user in users]
    plain = ("distance_m", "delay_weight", "deadline_s", "tx_power_w")
    return {
        "network_probability": default_float(_weights(users, "networks", networks)),
        "device_probability": default_float(_weights(users, "devices", devices)),
        "device_budget_j": default_float(budgets),
        "initial_device_queue": default_float(queues),
        **{name: default_float(_per_user(users, name)) for name in plain},
    }


def _processes(config: Scenario, path: Path) -> dict[str, Any]:
    """What moves: arrivals from slot to slot and within one, and the channel; and what they add to the slot problem."""
    users = _everyone(config)
    low_hz, high_hz = _per_user(users, "arrival_rate_hz").T
    distance_m, tx_power_w = _per_user(users, "distance_m"), _per_user(users, "tx_power_w")
    try:
        return {
            "workload": config.arrivals.process(low_hz, high_hz, config.slot_s, path.parent),
            "requests": config.requests.process(path.parent),
            "channel": config.radio.channel(distance_m, tx_power_w, config.slot_s, path.parent),
            "waiting_scale": _unless(1.0, config.waiting_scale, len(users)),
            "backlog_weight": _unless(0.0, config.backlog_weight, len(users)),
        }
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _drawn(config: Scenario, of: str) -> list[str]:
    """Networks or devices of any user, in the order in which the file names them."""
    return list(dict.fromkeys(name for group in config.users for name in getattr(group, of)))


def _everyone(config: Scenario) -> list[UserGroup]:
    """The group of every user."""
    return [group for group in config.users for _ in range(group.count)]


def _check_domain(params: EnvParams, path: Path) -> None:
    """Refuse what leaves the solver's domain, at the worst draw of an episode's first slot.

    The limits of single fields are as wide as they can be, so some of their ends do not go together. Queues grow as
    policies spend: what they do to prices later is told by a slot's `status`.
    """
    device_price, server_price = (
        np.max(np.asarray(queue) / np.asarray(budget))
        for queue, budget in (
            (params.initial_device_queue, params.device_budget_j),
            (params.initial_server_queue, params.server_budget_j),
        )
    )
    values = {
        "users.arrival_rate_hz": ("arrival_rate_hz", params.workload.peak_hz()),
        "users.networks": ("device_work_s", params.device_work_s),
        "users.networks, in bits": ("uplink_bits", params.uplink_bits),
        "server.device": ("server_work_s", params.server_work_s),
        "tradeoff times users.delay_weight": ("delay_price", params.tradeoff * params.delay_weight),
        "users.initial_queue over energy_budget_j": ("energy_price", device_price),
        "server.initial_queue over energy_budget_j": ("server_energy_price", server_price),
    }
    if params.return_s is not None:
        values["wire, in seconds of the way back"] = ("return_s", params.return_s)
    if not isinstance(params.channel, CapacityChannel):
        limits = _snr_limits(params.channel, params)
        values["radio: snr, from powers, distances, losses and noise"] = ("snr", limits)
    for field, (leaf, found) in values.items():
        (low, high), numbers = DOMAIN[leaf], np.asarray(found, float)
        if not ((numbers >= low) & (numbers <= high)).all():
            reached = f"{numbers.min():.3g} to {numbers.max():.3g}"
            raise ConfigError(f"{path}: {field}: got {reached}; allowed is {low:g} to {high:g}")


@jax.jit
def _snr_limits(channel: Channel, params: EnvParams) -> Array:
    """Lowest and highest signal-to-noise ratio of every user: [2, N]."""
    gains = channel.gain_limits(params.distance_m)
    return jnp.stack([snr(gain, params.tx_power_w, params.bandwidth_hz, params.noise_w_per_hz) for gain in gains])


def _stationary(config: Scenario, params: EnvParams, path: Path) -> dict[str, Any]:
    """Parts of the environment that knows the formula alone: its defaults."""
    return {}


def _requests(config: Scenario, params: EnvParams, path: Path) -> dict[str, Any]:
    """Parts of the environment that simulates every request, with room for as many as the rates bring."""
    expected = float(np.max(params.workload.peak_hz())) * config.slot_s
    room = config.max_requests
    if expected > MAX_REQUESTS:
        raise ConfigError(
            f"{path}: users.arrival_rate_hz: got {expected:.3g} expected requests in a slot of {config.slot_s:g} s; "
            f"allowed are {MAX_REQUESTS:,} at most, where each one is simulated"
        )
    if room is None:
        room = max(params.requests.most(expected, UNLIKELY), 1)
    elif room < (least := params.requests.most(expected, TOLERABLE)):
        raise ConfigError(
            f"{path}: max_requests: got {room}; allowed is at least {least}, which a slot of {config.slot_s:g} s with "
            f"{expected:g} expected requests exceeds with probability {TOLERABLE:g}"
        )
    return {"fidelity": RequestFidelity(room), "reward": RequestDelay()}


# What `jaxmec.make` calls them.
FIDELITIES: dict[str, Callable[[Scenario, EnvParams, Path], dict[str, Any]]] = {
    "stationary": _stationary,
    "requests": _requests,
}


def _works(
    networks: Sequence[profiles.PartitionProfile],
    classes: Sequence[devices.Device],
    server: devices.Device,
    config: Scenario,
) -> dict[str, Any]:
    """What every cut demands, and which exist."""
    num_cuts = max(len(network) for network in networks)

    def pad(column: np.ndarray) -> np.ndarray:
        # Rows beyond a network's last cut repeat it, so that masked entries stay ordinary numbers.
        return np.pad(column, (0, num_cuts - len(column)), mode="edge")

    wire = config.wire
    stages = [
        [devices.stage_seconds(network, device, server, wire.activation_bits) for device in classes]
        for network in networks
    ]
    way_back = wire.downlink_bps or math.inf, wire.round_trip_s
    return_s = np.array([pad(row[0].return_s(*way_back)) for row in stages])
    return {
        "device_work_s": default_float([[pad(stage.device_work_s) for stage in row] for row in stages]),
        "uplink_bits": default_float([pad(row[0].uplink_bits) for row in stages]),
        "server_work_s": default_float([pad(row[0].server_work_s) for row in stages]),
        "return_s": default_float(return_s) if return_s.any() else None,
        "valid_cut": jnp.asarray(np.arange(num_cuts) < np.array([[len(network)] for network in networks])),
    }


def _unless(neutral: float, value: float, num_users: int) -> Array | None:
    """[N] of a value, or None where it would change nothing: slot problems without the leaf are solved faster."""
    return None if value == neutral else default_float(np.full(num_users, value))


def _per_user(users: Sequence[UserGroup], of: str) -> np.ndarray:
    return np.array([getattr(user, of) for user in users], dtype=float)


def _weights(users: Sequence[UserGroup], of: str, names: Sequence[str]) -> np.ndarray:
    """Probabilities [N, len(names)]."""
    rows = np.array([[getattr(user, of).get(name, 0.0) for name in names] for user in users])
    return rows / rows.sum(axis=1, keepdims=True)


def _load(load: Callable[[str], T], name: str, path: Path, field: str) -> T:
    try:
        return load(name)
    except ValueError as error:
        told = str(error).removeprefix(f"{path.parent}/")
        raise ConfigError(f"{path}: {field}: got {quoted(name)}: {told}") from None


def _device(name: str, config: Scenario, path: Path, field: str) -> devices.Device:
    """A class of device, the scenario's own first."""
    if name in config.devices:
        return devices.describe(name, config.devices[name], path, f"devices.{name}")
    return _load(devices.load, _relative(name, path), path, field)


def _relative(name: str, path: Path) -> str:
    """A name as it is; a file relative to the scenario's."""
    return str(path.parent / name) if name.endswith((".json", ".yaml", ".yml")) else name

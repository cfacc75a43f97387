"""The slot problem: what given cuts demand of device, band and server, and what given shares deliver."""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.compilation import one_programme
from jaxmec.delay import serial_delay

USER_LEAVES = (
    "device_work_s",
    "uplink_bits",
    "server_work_s",
    "arrival_rate_hz",
    "device_power_w",
    "tx_power_w",
    "snr",
    "delay_price",
    "energy_price",
)
OPTIONAL_LEAVES = ("waiting_scale", "backlog_price", "capacity_bps", "return_s")  # of users
CUT_LEAVES = ("device_work_s", "uplink_bits", "server_work_s", "return_s")  # those that a cut decides
SHARED_LEAVES = ("bandwidth_hz", "server_power_w", "server_energy_price", "slot_s", "knee")


# Smallest and largest value of every leaf; SI units.
DOMAIN = {
    "device_work_s": (0.0, 1e6),
    "uplink_bits": (0.0, 1e15),
    "server_work_s": (0.0, 1e6),
    "arrival_rate_hz": (0.0, 1e9),
    "device_power_w": (0.0, 1e6),
    "tx_power_w": (0.0, 1e6),
    "snr": (1e-9, 1e12),
    "delay_price": (1e-9, 1e9),
    "energy_price": (0.0, 1e9),
    "bandwidth_hz": (1e-3, 1e15),
    "server_power_w": (0.0, 1e6),
    "server_energy_price": (0.0, 1e9),
    "slot_s": (1e-6, 1e6),
    "knee": (1e-3, 0.99901),  # float32 rounds .999 up
    "waiting_scale": (0.0, 1e6),
    "backlog_price": (0.0, 1e9),
    "capacity_bps": (0.0, 1e18),
    "return_s": (0.0, 1e6),
}


class SlotProblem(struct.PyTreeNode):
    """Demands of N users on one band and one server in one slot, and the prices of delay and energy.

    Minimise over the shares, each in (0, 1],

        Σ_n delay_price_n D_n + energy_price_n e_n + backlog_price_n λ_n θ_n + server_energy_price Σ_n e_sn

    with band and server shares each adding up to at most one; θ_n is the time of the user's slowest stage. Work of
    zero means that the user skips the stage. `DOMAIN` has the values that every leaf may take.

    Four leaves are optional. None stands for the value that is told and costs nothing; it is part of the
    structure, so problems of one batch have the same leaves.
    """

    device_work_s: Array  # [N] seconds of the device at full speed, per request
    uplink_bits: Array  # [N] bits, per request
    server_work_s: Array  # [N] seconds of the server at full capacity, per request
    arrival_rate_hz: Array  # [N] requests per second
    device_power_w: Array  # [N] at full speed; a share y of it draws y³
    tx_power_w: Array  # [N]
    snr: Array  # [N] received power over noise if the user had the whole band
    delay_price: Array  # [N] per second of mean delay, above 0
    energy_price: Array  # [N] per joule of the device and its radio
    bandwidth_hz: Array  # []
    server_power_w: Array  # [] at full capacity
    server_energy_price: Array  # [] per joule of the server
    slot_s: Array  # []
    knee: Array  # [] see jaxmec.delay
    waiting_scale: Array | None = None  # [N] factor on the waiting time, see jaxmec.delay; None: 1
    # [N] price of the requests that arrive in a slowest stage's time θ, λ θ: unfinished work of Q slots' worth has
    # the drift Q (λ θ - 1) slot_s, so that backlog_price = Q slot_s; None: 0
    backlog_price: Array | None = None
    capacity_bps: Array | None = None  # [N] bits/s of the whole band; snr counts where it is 0; None: 0
    return_s: Array | None = None  # [N] delay behind the last stage, where no request waits for another; None: 0


class Outcome(struct.PyTreeNode):
    """What shares deliver."""

    delay_s: Array  # [N] mean end-to-end delay of a request
    stable: Array  # bool[N] every stage is faster than the arrivals
    device_energy_j: Array  # [N] device and radio, in the slot
    server_energy_j: Array  # [] in the slot
    objective: Array  # []


@one_programme()
def evaluate(problem: SlotProblem, device_share: Array, bandwidth_share: Array, server_share: Array) -> Outcome:
    """Delay, energy and objective of any feasible shares, each [N]; shares of skipped stages are not read."""
    times = stage_times(problem, device_share, bandwidth_share, server_share)
    scale = 1.0 if problem.waiting_scale is None else problem.waiting_scale
    delay_s = serial_delay(times, problem.arrival_rate_hz, problem.knee, scale)
    if problem.return_s is not None:
        delay_s += problem.return_s
    requests = problem.slot_s * problem.arrival_rate_hz
    device_energy_j = requests * (
        problem.device_power_w * problem.device_work_s * device_share**2 + problem.tx_power_w * times[..., 1]
    )
    server_energy_j = jnp.sum(requests * problem.server_power_w * problem.server_work_s * server_share**2)
    load = problem.arrival_rate_hz * jnp.max(times, axis=-1)
    cost = problem.delay_price * delay_s + problem.energy_price * device_energy_j
    if problem.backlog_price is not None:
        cost += problem.backlog_price * load
    return Outcome(
        delay_s=delay_s,
        stable=load < 1.0,
        device_energy_j=device_energy_j,
        server_energy_j=server_energy_j,
        objective=jnp.sum(cost) + problem.server_energy_price * server_energy_j,
    )


@one_programme()
def objective(problem: SlotProblem, device_share: Array, bandwidth_share: Array, server_share: Array) -> Array:
    """The slot objective [] of any feasible shares, each [N]."""
    return evaluate(problem, device_share, bandwidth_share, server_share).objective


@one_programme()
def stage_times(problem: SlotProblem, device_share: Array, bandwidth_share: Array, server_share: Array) -> Array:
    """Service times of the three stages, s: [N, 3], zero where a stage is skipped."""
    y2 = _or_one(bandwidth_share, problem.uplink_bits > 0)
    rate = problem.bandwidth_hz * y2 * jnp.log1p(problem.snr / y2) / math.log(2.0)
    if problem.capacity_bps is not None:
        rate = jnp.where(problem.capacity_bps > 0, y2 * problem.capacity_bps, rate)
    return jnp.stack(
        [
            problem.device_work_s / _or_one(device_share, problem.device_work_s > 0),
            problem.uplink_bits / rate,
            problem.server_work_s / _or_one(server_share, problem.server_work_s > 0),
        ],
        axis=-1,
    )


def return_cost(problem: SlotProblem) -> Array | None:
    """What the delay behind the last stage costs, shaped as `return_s`: no share changes it, so no solver sees it."""
    if problem.return_s is None:
        return None
    return jnp.expand_dims(problem.delay_price, tuple(range(1, problem.return_s.ndim))) * problem.return_s


def check(problem: SlotProblem) -> None:
    """Shapes and dtypes of the leaves, before anything is traced.

    Raises:
      ValueError: naming the leaf, what it is, and what is allowed.
    """
    num_users = jnp.shape(problem.device_work_s)
    if num_users == (0,):
        raise ValueError("SlotProblem.device_work_s: got shape (0,); allowed is at least one user")
    for names, shape in ((USER_LEAVES, num_users), (OPTIONAL_LEAVES, num_users), (SHARED_LEAVES, ())):
        for name in names:
            leaf = getattr(problem, name)
            if leaf is None and names is OPTIONAL_LEAVES:
                continue
            if not _is_real(leaf):
                raise ValueError(f"SlotProblem.{name}: got {_kind(leaf)}; allowed are real numbers")
            if jnp.shape(leaf) != shape or len(num_users) != 1:
                allowed = "a scalar" if names is SHARED_LEAVES else "[N], the same N for every user leaf"
                raise ValueError(
                    f"SlotProblem.{name}: got shape {jnp.shape(leaf)}; allowed is {allowed} "
                    f"(device_work_s has {num_users}; batches go through jax.vmap)"
                )


def _is_real(leaf: object) -> bool:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, int | float) and not isinstance(leaf, bool)
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def _kind(leaf: object) -> str:
    return str(getattr(leaf, "dtype", type(leaf).__name__))


def into_domain(problem: SlotProblem) -> tuple[SlotProblem, Array]:
    """The problem with every value that is outside `DOMAIN` replaced by the nearest inside, and whether any was.

    What is no number counts as the smallest value.
    """
    clipped, outside = {}, jnp.asarray(False)
    for name, (low, high) in DOMAIN.items():
        leaf = getattr(problem, name)
        if leaf is None:
            continue
        inside = (leaf >= low) & (leaf <= high)
        nearest = jnp.where(leaf > high, jnp.asarray(high, leaf.dtype), jnp.asarray(low, leaf.dtype))
        clipped[name] = jnp.where(inside, leaf, nearest)
        outside |= ~jnp.all(inside)
    return SlotProblem(**clipped), outside


def _or_one(share: Array, present: Array) -> Array:
    return jnp.where(present & (share > 0), share, 1.0)

"""What a policy sees: one row per user, made of user features and of features of every cut.

The observation is a function of the slot problem of every cut alone, so it holds what the decision depends
on and nothing else: neither names of networks nor indices of users. Every feature is a base-10 logarithm, so
that seconds, prices and loads of any magnitude are roughly unit-scaled.

Each cut is also priced by a closed form: what a user would expect it to cost, rent of band and server included,
before anyone has solved the slot problem.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from jaxmec.allocation import SlotProblem
from jaxmec.channel import uplink_rate
from jaxmec.delay import serial_delay

USER_FEATURES = (
    "arrival rate",
    "snr",
    "price of device energy over price of delay",
    "price of transmit energy over price of delay",
    "price of server energy over price of delay",
    "price of delay",
    "number of users",
)
CUT_FEATURES = (
    "valid",  # 1 or 0; the only one that is no logarithm
    "device seconds",
    "uplink seconds",
    "server seconds",
    "expected cost",
    "expected cost over the best cut's",
    "expected regret",  # 1 - best cost / cost on a scale of a few per cent; in [0, 1], no logarithm
)

_SMALLEST_S = 1e-4  # stages shorter than this look alike
_SMALLEST_PRICE = 1e-4
_SMALLEST_SHARE = 1e-4
_FINE = 0.03  # relative differences of cost that the finest feature tells apart


def observe(cut_problems: SlotProblem, action_mask: Array) -> Array:
    """The observation.

    Args:
      cut_problems: slot problem whose three work leaves are [N, K], the others as ever.
      action_mask: bool[N, K], which cuts exist.

    Returns:
      float32[N, len(USER_FEATURES) + K * len(CUT_FEATURES)].
    """
    stages, cost = expected_costs(cut_problems, action_mask)
    best = jnp.min(jnp.where(action_mask, cost, jnp.inf), axis=-1, keepdims=True)
    per_cut = jnp.stack(
        [
            action_mask.astype(cost.dtype),
            *jnp.moveaxis(jnp.log10(stages + _SMALLEST_S), -1, 0),
            jnp.log10(cost / cut_problems.delay_price[:, None] + _SMALLEST_S),
            jnp.log10(jnp.maximum(cost / best, 1.0)),
            (cost - best) / (cost - best + _FINE * best),
        ],
        axis=-1,
    )

    problem = cut_problems
    num_users = problem.snr.shape[0]
    joules_per_second = problem.slot_s * problem.arrival_rate_hz / problem.delay_price
    per_user = jnp.stack(
        [
            jnp.log10(problem.arrival_rate_hz + _SMALLEST_S),
            jnp.log10(problem.snr),
            _log_price(joules_per_second * problem.energy_price * problem.device_power_w),
            _log_price(joules_per_second * problem.energy_price * problem.tx_power_w),
            _log_price(joules_per_second * problem.server_energy_price * problem.server_power_w),
            jnp.log10(problem.delay_price),
            jnp.full_like(problem.snr, jnp.log10(num_users)),
        ],
        axis=-1,
    )
    flat = per_cut.reshape(num_users, -1)
    return jnp.concatenate([per_user, flat], axis=-1).astype(jnp.float32)


def unpack(observation: Array, num_cuts: int) -> tuple[Array, Array]:
    """Observation [..., N, F] to user features [..., N, U] and cut features [..., N, K, C].

    `cut_features[..., 0]` is 1 for cuts that exist and 0 for the others.
    """
    split = len(USER_FEATURES)
    cuts = observation[..., split:]
    return observation[..., :split], cuts.reshape(*cuts.shape[:-1], num_cuts, len(CUT_FEATURES))


def log_expected_cost(observation: Array, num_cuts: int) -> Array:
    """Natural logarithm of what every user expects of its best cut: [..., N] from observations [..., N, F]."""
    users, cuts = unpack(observation, num_cuts)
    seconds = cuts[..., CUT_FEATURES.index("expected cost")]
    least = jnp.min(jnp.where(cuts[..., 0] > 0.5, seconds, jnp.inf), axis=-1)
    return math.log(10.0) * (least + users[..., USER_FEATURES.index("price of delay")])


def observation_size(num_cuts: int) -> int:
    """F, the width of an observation's row."""
    return len(USER_FEATURES) + num_cuts * len(CUT_FEATURES)


def expected_costs(cut_problems: SlotProblem, action_mask: Array) -> tuple[Array, Array]:
    """Stage times [N, K, 3] (s) and cost plus rent [N, K] that users expect of their cuts.

    Without waiting and server energy the optimal shares are proportional to the square roots of c = price times
    work, and the price of a share is (Σ √c)², summed over what the users choose. Users first choose at equal
    shares, then at the prices that this gives, twice.
    """
    problem = cut_problems
    share = 1.0 / problem.snr.shape[0]
    requests = problem.slot_s * problem.arrival_rate_hz
    uplink_price = problem.delay_price + requests * problem.energy_price * problem.tx_power_w
    rate = uplink_rate(jnp.full_like(problem.snr, share), problem.snr, problem.bandwidth_hz) / share
    band_root = jnp.sqrt((uplink_price / rate)[:, None] * problem.uplink_bits)
    server_root = jnp.sqrt(problem.delay_price[:, None] * problem.server_work_s)
    server_energy = (requests * problem.server_energy_price * problem.server_power_w)[:, None]
    # Delay against energy at the server: y³ = delay_price / (2 energy price), whatever the work.
    thrifty = _thrifty(problem.delay_price[:, None], server_energy)

    stages, cost = equal_share_costs(problem)
    for _ in range(2):
        cut = jnp.argmin(jnp.where(action_mask, cost, jnp.inf), axis=-1)[:, None]
        band_total, server_total = (
            jnp.sum(jnp.take_along_axis(root, cut, axis=-1)) for root in (band_root, server_root)
        )
        band = jnp.clip(band_root / jnp.where(band_total > 0, band_total, 1.0), _SMALLEST_SHARE, 1.0)
        server = jnp.clip(server_root / jnp.where(server_total > 0, server_total, 1.0), _SMALLEST_SHARE, thrifty)
        stages, own = _costs(problem, band, server)
        cost = own + band_total**2 * band + server_total**2 * server
    return stages, cost


def equal_share_costs(cut_problems: SlotProblem) -> tuple[Array, Array]:
    """Stage times [N, K, 3] (s) and cost [N, K] of every cut at equal shares of band and server."""
    share = jnp.full_like(cut_problems.uplink_bits, 1.0 / cut_problems.snr.shape[0])
    return _costs(cut_problems, share, share)


def _costs(problem: SlotProblem, band_share: Array, server_share: Array) -> tuple[Array, Array]:
    """Stage times [N, K, 3] and cost [N, K] at given shares [N, K] and the best device speed.

    The device runs at the speed y that minimises delay_price · w/y + energy_price · τ λ P w y², that is
    y³ = delay_price / (2 energy_price τ λ P), at most 1: the same for every cut.
    """
    requests = problem.slot_s * problem.arrival_rate_hz
    speed = _thrifty(problem.delay_price, problem.energy_price * requests * problem.device_power_w)
    uplink = uplink_rate(band_share, problem.snr[:, None], problem.bandwidth_hz)
    stages = jnp.stack(
        [
            problem.device_work_s / speed[:, None],
            problem.uplink_bits / uplink,
            problem.server_work_s / server_share,
        ],
        axis=-1,
    )
    delay_s = serial_delay(stages, problem.arrival_rate_hz[:, None], problem.knee)
    device_j = requests[:, None] * (
        (problem.device_power_w * speed**2)[:, None] * problem.device_work_s
        + problem.tx_power_w[:, None] * stages[..., 1]
    )
    server_j = requests[:, None] * problem.server_power_w * problem.server_work_s * server_share**2
    cost = (
        problem.delay_price[:, None] * delay_s
        + problem.energy_price[:, None] * device_j
        + problem.server_energy_price * server_j
    )
    return stages, cost


def _thrifty(delay_price: Array, energy_price: Array) -> Array:
    """Speed y <= 1 that minimises delay_price / y + energy_price y²."""
    slow = 2.0 * energy_price > delay_price
    return jnp.where(slow, jnp.cbrt(delay_price / jnp.where(slow, 2.0 * energy_price, 1.0)), 1.0)


def _log_price(relative_price: Array) -> Array:
    return jnp.log10(relative_price + _SMALLEST_PRICE)

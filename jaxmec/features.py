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
from jaxmec.allocation._problem import SHARED_LEAVES, USER_LEAVES
from jaxmec.batching import batch_last
from jaxmec.channel import uplink_rate
from jaxmec.delay import waiting_time

Stages = tuple[Array, Array, Array]  # of device, uplink, server

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
    return batch_last(_observe, action_mask.size)(cut_problems, action_mask)


def _observe(cut_problems: SlotProblem, action_mask: Array) -> Array:
    """As `observe`, with any batch as the last axis."""
    problem = _aligned(cut_problems)
    stages, cost = _expected_costs(problem, action_mask)
    best = jnp.min(jnp.where(action_mask, cost, jnp.inf), axis=1, keepdims=True)
    per_cut = (
        action_mask.astype(cost.dtype),
        *(jnp.log10(stage + _SMALLEST_S) for stage in stages),
        jnp.log10(cost / problem.delay_price + _SMALLEST_S),
        jnp.log10(jnp.maximum(cost / best, 1.0)),
        (cost - best) / (cost - best + _FINE * best),
    )

    num_users, num_cuts = action_mask.shape[:2]
    joules_per_second = problem.slot_s * problem.arrival_rate_hz / problem.delay_price
    per_user = (
        jnp.log10(problem.arrival_rate_hz + _SMALLEST_S),
        jnp.log10(problem.snr),
        _log_price(joules_per_second * problem.energy_price * problem.device_power_w),
        _log_price(joules_per_second * problem.energy_price * problem.tx_power_w),
        _log_price(joules_per_second * problem.server_energy_price * problem.server_power_w),
        jnp.log10(problem.delay_price),
        jnp.full_like(problem.snr, math.log10(num_users)),
    )
    flat = jnp.stack(per_cut, axis=2).reshape(num_users, num_cuts * len(CUT_FEATURES), *cost.shape[2:])
    return jnp.concatenate([*per_user, flat], axis=1).astype(jnp.float32)


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


def expected_costs(cut_problems: SlotProblem, action_mask: Array) -> tuple[Stages, Array]:
    """What users expect of their cuts: times of the three stages, each [N, K] (s), and cost plus rent [N, K].

    Without waiting and server energy the optimal shares are proportional to the square roots of c = price times
    work, and the price of a share is (Σ √c)², summed over what the users choose. Users first choose at equal
    shares, then at the prices that this gives, twice.
    """
    return _expected_costs(_aligned(cut_problems), action_mask)


def equal_share_costs(cut_problems: SlotProblem) -> tuple[Stages, Array]:
    """Times of the stages, each [N, K] (s), and cost [N, K] of every cut at equal shares of band and server."""
    return _equal_share_costs(_aligned(cut_problems))


def _aligned(cut_problems: SlotProblem) -> SlotProblem:
    """Every leaf as [N or 1, K or 1, ...], with any batch behind."""
    priced = USER_LEAVES[3:]
    wide = {name: jnp.expand_dims(getattr(cut_problems, name), 1) for name in priced}
    wide |= {name: jnp.expand_dims(getattr(cut_problems, name), (0, 1)) for name in SHARED_LEAVES}
    return cut_problems.replace(**wide)


def _expected_costs(problem: SlotProblem, action_mask: Array) -> tuple[Stages, Array]:
    num_users = problem.snr.shape[0]
    requests = problem.slot_s * problem.arrival_rate_hz
    uplink_price = problem.delay_price + requests * problem.energy_price * problem.tx_power_w
    equal_share = jnp.full_like(problem.snr, 1.0 / num_users)
    rate = num_users * uplink_rate(equal_share, problem.snr, problem.bandwidth_hz)
    band_root = jnp.sqrt(uplink_price / rate * problem.uplink_bits)
    server_root = jnp.sqrt(problem.delay_price * problem.server_work_s)
    # Delay against energy at the server: y³ = delay_price / (2 energy price), whatever the work.
    thrifty = _thrifty(problem.delay_price, requests * problem.server_energy_price * problem.server_power_w)

    stages, cost = _equal_share_costs(problem)
    for _ in range(2):
        best = jnp.min(jnp.where(action_mask, cost, jnp.inf), axis=1, keepdims=True)
        chosen = action_mask & (cost == best)
        band_total, server_total = (
            jnp.sum(jnp.max(jnp.where(chosen, root, 0.0), axis=1, keepdims=True), axis=0, keepdims=True)
            for root in (band_root, server_root)
        )
        band = jnp.clip(band_root / jnp.where(band_total > 0, band_total, 1.0), _SMALLEST_SHARE, 1.0)
        server = jnp.clip(server_root / jnp.where(server_total > 0, server_total, 1.0), _SMALLEST_SHARE, thrifty)
        stages, own = _costs(problem, band, server)
        cost = own + band_total**2 * band + server_total**2 * server
    return stages, cost


def _equal_share_costs(problem: SlotProblem) -> tuple[Stages, Array]:
    share = jnp.full_like(problem.uplink_bits, 1.0 / problem.snr.shape[0])
    return _costs(problem, share, share)


def _costs(problem: SlotProblem, band_share: Array, server_share: Array) -> tuple[Stages, Array]:
    """Times of the stages and cost, [N, K], at given shares [N, K] and the best device speed.

    The device runs at the speed y that minimises delay_price · w/y + energy_price · τ λ P w y², that is
    y³ = delay_price / (2 energy_price τ λ P), at most 1: the same for every cut.
    """
    requests = problem.slot_s * problem.arrival_rate_hz
    speed = _thrifty(problem.delay_price, problem.energy_price * requests * problem.device_power_w)
    stages = (
        problem.device_work_s / speed,
        problem.uplink_bits / uplink_rate(band_share, problem.snr, problem.bandwidth_hz),
        problem.server_work_s / server_share,
    )
    slowest = jnp.maximum(jnp.maximum(stages[0], stages[1]), stages[2])
    delay_s = sum(stages) + waiting_time(slowest, problem.arrival_rate_hz, problem.knee)
    device_j = problem.device_power_w * speed**2 * problem.device_work_s + problem.tx_power_w * stages[1]
    server_j = problem.server_power_w * problem.server_work_s * server_share**2
    cost = problem.delay_price * delay_s + requests * (
        problem.energy_price * device_j + problem.server_energy_price * server_j
    )
    return stages, cost


def _thrifty(delay_price: Array, energy_price: Array) -> Array:
    """Speed y <= 1 that minimises delay_price / y + energy_price y²."""
    slow = 2.0 * energy_price > delay_price
    cube = jnp.where(slow, delay_price / jnp.where(slow, 2.0 * energy_price, 1.0), 1.0)
    return jnp.exp(jnp.log(cube) / 3.0)  # several times faster than a cube root on a CPU


def _log_price(relative_price: Array) -> Array:
    return jnp.log10(relative_price + _SMALLEST_PRICE)

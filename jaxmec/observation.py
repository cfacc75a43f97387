"""What a policy sees: one row per user, made of user features and of features of every cut.

The observation is a function of the slot problem of every cut alone, so it holds what the decision depends
on and nothing else: neither names of networks nor indices of users. All features but two are base-10
logarithms, so that seconds, prices and loads of any magnitude are roughly unit-scaled. Each cut is also priced by
the closed form, see `jaxmec.closed_form`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmec.allocation import SlotProblem
from jaxmec.batching import batch_last
from jaxmec.closed_form import aligned, aligned_costs

USER_FEATURES = (
    "arrival rate",
    "snr",  # where the channel tells a capacity instead: that, in bit/s/Hz
    "price of device energy over price of delay",
    "price of transmit energy over price of delay",
    "price of server energy over price of delay",
    "price of delay",
    "number of users",
    "expected cost",  # of the best cut, in seconds
)
CUT_FEATURES = (
    "valid",  # 1 or 0, no logarithm
    "device seconds",
    "uplink seconds",
    "server seconds",
    "expected cost over the best cut's",
    "expected regret",  # 1 - best cost / cost on a scale of a few per cent; in [0, 1], no logarithm
)

_SMALLEST_S = 1e-4  # stages shorter than this look alike
_SMALLEST_PRICE = 1e-4
_FINE = 0.03  # relative differences of cost that the finest feature tells apart


class Views(NamedTuple):
    """An observation's parts."""

    users: Array  # [..., N, U] features of every user
    options: Array  # [..., N, K, C] features of every option
    mask: Array  # bool[..., N, K] the options that exist


@dataclasses.dataclass(frozen=True)
class Observation:
    """How an observation is made and taken apart: a frozen, hashable part of the environment.

    `held` shows features at constant values instead of their own; the ablation asks what they are worth.
    """

    held: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for name, _ in self.held:
            if name not in (*USER_FEATURES, *CUT_FEATURES):
                raise ValueError(f"held: got {name!r}; allowed are {', '.join((*USER_FEATURES, *CUT_FEATURES))}")

    def size(self, num_cuts: int) -> int:
        """F, the width of an observation's row, without features that a fidelity adds."""
        return observation_size(num_cuts)

    def observe(self, cut_problems: SlotProblem, action_mask: Array, added: tuple[Array, ...] = ()) -> Array:
        """As `observe`, but for the features that are held."""
        observation = observe(cut_problems, action_mask, added)
        for name, value in self.held:
            if name in USER_FEATURES:
                columns = jnp.asarray(USER_FEATURES.index(name))
            else:
                columns = jnp.arange(
                    len(USER_FEATURES) + len(added) + CUT_FEATURES.index(name),
                    observation.shape[-1],
                    len(CUT_FEATURES),
                )
            observation = observation.at[..., columns].set(value)
        return observation

    def unpack(self, observation: Array, num_cuts: int) -> Views:
        """As `unpack`."""
        return unpack(observation, num_cuts)


def observe(cut_problems: SlotProblem, action_mask: Array, added: tuple[Array, ...] = ()) -> Array:
    """The observation.

    Args:
      cut_problems: slot problem whose `CUT_LEAVES` are [N, K], the others as ever.
      action_mask: bool[N, K], which cuts exist.
      added: A further features of every user, each [N], which follow the others.

    Returns:
      float32[N, len(USER_FEATURES) + A + K * len(CUT_FEATURES)].
    """
    return batch_last(_observe, action_mask.size)(cut_problems, action_mask, added)


def _observe(cut_problems: SlotProblem, action_mask: Array, added: tuple[Array, ...]) -> Array:
    """As `observe`, with any batch as the last axis."""
    problem = aligned(cut_problems)
    stages, cost = aligned_costs(problem, action_mask)
    best = jnp.min(jnp.where(action_mask, cost, jnp.inf), axis=1, keepdims=True)
    regret = jnp.maximum(cost - best, 0.0)  # a cut that does not exist may be cheaper than the best
    per_cut = (
        action_mask.astype(cost.dtype),
        *(jnp.log10(stage + _SMALLEST_S) for stage in stages),
        jnp.log10(jnp.maximum(cost / best, 1.0)),
        regret / (regret + _FINE * best),
    )

    quality = problem.snr
    if problem.capacity_bps is not None:
        quality = jnp.where(problem.capacity_bps > 0, problem.capacity_bps / problem.bandwidth_hz, quality)
    num_users, num_cuts = action_mask.shape[:2]
    joules_per_second = problem.slot_s * problem.arrival_rate_hz / problem.delay_price
    per_user = (
        jnp.log10(problem.arrival_rate_hz + _SMALLEST_S),
        jnp.log10(quality),
        _log_price(joules_per_second * problem.energy_price * problem.device_power_w),
        _log_price(joules_per_second * problem.energy_price * problem.tx_power_w),
        _log_price(joules_per_second * problem.server_energy_price * problem.server_power_w),
        jnp.log10(problem.delay_price),
        jnp.full_like(problem.snr, math.log10(num_users)),
        jnp.log10(best / problem.delay_price + _SMALLEST_S),
    )
    flat = jnp.stack(per_cut, axis=2).reshape(num_users, num_cuts * len(CUT_FEATURES), *cost.shape[2:])
    columns = (jnp.expand_dims(feature, 1) for feature in added)
    return jnp.concatenate([*per_user, *columns, flat], axis=1).astype(jnp.float32)


def unpack(observation: Array, num_cuts: int) -> Views:
    """The parts of observations [..., N, F]: options are the last, users have what is before."""
    split = observation.shape[-1] - num_cuts * len(CUT_FEATURES)
    cuts = observation[..., split:]
    cuts = cuts.reshape(*cuts.shape[:-1], num_cuts, len(CUT_FEATURES))
    return Views(observation[..., :split], cuts, cuts[..., 0] > 0.5)


def log_expected_cost(observation: Array) -> Array:
    """Natural logarithm of what every user expects of its best cut: [..., N] from observations [..., N, F]."""
    seconds, price = (observation[..., USER_FEATURES.index(name)] for name in ("expected cost", "price of delay"))
    return math.log(10.0) * (seconds + price)


def observation_size(num_cuts: int) -> int:
    """F, the width of an observation's row."""
    return len(USER_FEATURES) + num_cuts * len(CUT_FEATURES)


def _log_price(relative_price: Array) -> Array:
    return jnp.log10(relative_price + _SMALLEST_PRICE)

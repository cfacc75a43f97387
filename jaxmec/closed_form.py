"""What a cut is expected to cost before anyone has solved the slot problem, in closed form.

Every user prices each of its cuts with Kleinrock's square-root shares of band and server, headroom for the waiting
and the rents of both. It is a policy (`jaxmec.policies.closed_form`), the start of every search, the learner's
baseline and a feature of its observation.

Source of the shares: L. Kleinrock, "Communication Nets" (1964), capacity assignment; here for deterministic service.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmec.allocation import CUT_LEAVES, OPTIONAL_LEAVES, SHARED_LEAVES, USER_LEAVES, SlotProblem
from jaxmec.channel import uplink_rate
from jaxmec.compilation import one_programme
from jaxmec.delay import waiting_time

Stages = tuple[Array, Array, Array]  # of device, uplink, server

SMALLEST_SHARE = 1e-4  # that a user asks for, so that no time is infinite
_SAME = 1.0 + 1e-5  # costs within this factor are one cost
_TINY = 1e-12  # keeps 0 / 0 from arising where a stage has no load

# The price step, chosen on coinfer10 by the certified gap of the policy.
OFFLOADING = 0.6  # share of the users that is expected to send its raw input, before anyone has chosen
LEAST_FREE = 0.1  # of a budget, once everybody has its headroom
CHEAPEST_ROOT = 1e-6  # square root of the least rent


@one_programme()
def expected_costs(cut_problems: SlotProblem, action_mask: Array) -> tuple[Stages, Array]:
    """What users expect of their cuts: times of the three stages, each [N, K] (s), and cost plus rent [N, K].

    Costs are in the slot objective's units.

    Users first choose at rents as if `OFFLOADING` of them sent their raw input. What they choose gives new
    rents; halfway between the two, in the logarithm, is what the answer is for. Without the halving two sets of
    cuts could take turns for ever.

    At a rent per share the best share of a stage is √(price work / rent) without waiting, and the rent at which
    such shares fill the budget is (Σ √(price work))². For the waiting, a stage gets some of its load on top; see
    `_headroom`. It is L. Kleinrock's square-root assignment of capacity (Communication Nets, 1964), here for
    deterministic service.
    """
    return aligned_costs(aligned(cut_problems), action_mask)


@one_programme()
def cheapest_cuts(cut_problems: SlotProblem, action_mask: Array) -> Array:
    """Each user's cut of least expected cost: int32[N]."""
    _, cost = expected_costs(cut_problems, action_mask)
    return jnp.argmin(jnp.where(action_mask, cost, jnp.inf), axis=-1).astype(jnp.int32)


@one_programme()
def equal_share_times(cut_problems: SlotProblem) -> Stages:
    """Times of the stages, each [N, K] (s), at full speed of the device and equal shares of band and server."""
    problem = aligned(cut_problems)
    share = jnp.full_like(problem.snr, 1.0 / problem.snr.shape[0])
    return problem.device_work_s, problem.uplink_bits / _rate(problem, share), problem.server_work_s / share


def aligned(cut_problems: SlotProblem) -> SlotProblem:
    """Every leaf as [N or 1, K or 1, ...], with any batch behind."""
    told = [name for name in (*USER_LEAVES, *OPTIONAL_LEAVES) if getattr(cut_problems, name) is not None]
    wide = {name: jnp.expand_dims(getattr(cut_problems, name), 1) for name in told if name not in CUT_LEAVES}
    wide |= {name: jnp.expand_dims(getattr(cut_problems, name), (0, 1)) for name in SHARED_LEAVES}
    return cut_problems.replace(**wide)


def aligned_costs(problem: SlotProblem, action_mask: Array) -> tuple[Stages, Array]:
    """As `expected_costs`, of an `aligned` problem and a mask [N, K, ...]: [N, K, ...], any batch behind."""
    rate_hz, delay_price, scale = problem.arrival_rate_hz, problem.delay_price, problem.waiting_scale
    requests = problem.slot_s * rate_hz
    device_energy = requests * problem.energy_price * problem.device_power_w
    server_energy = requests * problem.server_energy_price * problem.server_power_w
    uplink_price = delay_price + requests * problem.energy_price * problem.tx_power_w
    equal_share = jnp.full_like(problem.snr, 1.0 / problem.snr.shape[0])
    band_s = problem.uplink_bits / (_rate(problem, equal_share) / equal_share)

    def with_backlog(price: Array) -> Array:
        """Of a second of a stage that may be the slowest, whose time is what unfinished work makes dear."""
        return price if problem.backlog_price is None else price + problem.backlog_price * rate_hz

    compute_price = with_backlog(delay_price)
    band = _Budget.of(with_backlog(uplink_price), band_s, rate_hz, jnp.ones_like(rate_hz), scale)
    most = _thrifty(compute_price, server_energy)
    server = _Budget.of(compute_price, problem.server_work_s, rate_hz, most, scale)

    thrifty = _thrifty(compute_price, device_energy)
    speed = jnp.minimum(thrifty + _headroom(thrifty, rate_hz * problem.device_work_s, scale), 1.0)
    device_s = problem.device_work_s / speed
    device_cost = device_energy * problem.device_work_s * speed**2

    def at(band_root: Array, server_root: Array) -> tuple[Stages, Array]:
        """Times and costs at rents of band and server, which are given by their square roots."""
        band_share, server_share = band.share(band_root), server.share(server_root)
        uplink_s = problem.uplink_bits / _rate(problem, band_share)
        server_s = problem.server_work_s / server_share
        slowest = jnp.maximum(jnp.maximum(device_s, uplink_s), server_s)
        waiting_s = waiting_time(slowest, rate_hz, problem.knee, 1.0 if scale is None else scale)
        own = delay_price * (device_s + server_s + waiting_s) + uplink_price * uplink_s + device_cost
        own += server_energy * problem.server_work_s * server_share**2
        if problem.backlog_price is not None:
            own += problem.backlog_price * rate_hz * slowest
        if problem.return_s is not None:
            own += delay_price * problem.return_s
        return (device_s, uplink_s, server_s), own + band_root**2 * band_share + server_root**2 * server_share

    first = band.guess(), server.guess()
    _, cost = at(*first)
    best = jnp.min(jnp.where(action_mask, cost, jnp.inf), axis=1, keepdims=True)
    chosen = action_mask & (cost <= best * _SAME)  # a compiler may compute both costs, and round them differently
    return at(band.halfway(first[0], chosen), server.halfway(first[1], chosen))


class _Budget(NamedTuple):
    """Band or server, and what users ask for of it. Rents per share are told by their square roots [1, 1, ...]."""

    root: Array  # [N, K, ...] of price times work
    load: Array  # [N, K, ...] arrival rate times work: the share below which the stage cannot keep up
    most: Array  # [N, 1, ...] the largest share that is worth its energy
    scale: Array | None  # [N, 1, ...] of the waiting time

    @classmethod
    def of(cls, price: Array, work_s: Array, rate_hz: Array, most: Array, scale: Array | None) -> _Budget:
        """A budget of works [N, K, ...] with the price of a second of each, [N, 1, ...]."""
        return cls(jnp.sqrt(price * work_s), rate_hz * work_s, most, scale)

    def share(self, rent_root: Array) -> Array:
        """What users ask for: [N, K, ...]."""
        return jnp.clip(self._without_waiting(rent_root) + self._headroom(rent_root), SMALLEST_SHARE, 1.0)

    def guess(self) -> Array:
        """The rent if `OFFLOADING` of the users sent their raw input, before anyone has chosen."""
        first = _Budget(self.root[:, :1], self.load[:, :1], self.most, self.scale)
        without = jnp.maximum(OFFLOADING * jnp.sum(first.root, axis=0, keepdims=True), CHEAPEST_ROOT)
        return first._clearing(without, True, OFFLOADING)

    def halfway(self, rent_root: Array, chosen: Array) -> Array:
        """From a rent to the one at which the chosen cuts bool[N, K, ...] fill the budget, in the logarithm."""
        return jnp.sqrt(rent_root * self._clearing(rent_root, chosen, 1.0))

    def _clearing(self, rent_root: Array, chosen: Array | bool, part: float) -> Array:
        """The rent at which the chosen cuts of part of the users fill the budget, with headroom as at a rent."""
        root, kept = self.root, self._headroom(rent_root)
        if self.scale is not None:
            # Long waits make much of the headroom grow with the share, as the rent falls; the load alone is kept.
            without = self._without_waiting(rent_root)
            root = root * jnp.maximum(without + kept - self.load, 0.0) / jnp.maximum(without, _TINY)
            kept = self.load
        root, kept = (
            part * jnp.sum(jnp.max(jnp.where(chosen, x, 0.0), axis=1, keepdims=True), axis=0, keepdims=True)
            for x in (root, kept)
        )
        return jnp.maximum(root / jnp.maximum(1.0 - kept, LEAST_FREE), CHEAPEST_ROOT)

    def _without_waiting(self, rent_root: Array) -> Array:
        return jnp.minimum(self.root * (1.0 / rent_root), self.most)

    def _headroom(self, rent_root: Array) -> Array:
        return _headroom(self._without_waiting(rent_root), self.load, self.scale)


def _rate(problem: SlotProblem, share: Array) -> Array:
    """Uplink rate of shares of the band, bit/s, of an `aligned` problem."""
    rate = uplink_rate(share, problem.snr, problem.bandwidth_hz)
    if problem.capacity_bps is None:
        return rate
    return jnp.where(problem.capacity_bps > 0, share * problem.capacity_bps, rate)


def _headroom(share: Array, load: Array, scale: Array | None) -> Array:
    """What a stage's share should be larger for the waiting in front of it.

    With r the share without waiting, l the load and c the scale of the waiting time, the best share is
    r + c l / 2 + O(l²) at light loads and l + √(c / 2) r + O(1 / l) at heavy ones; this has both limits. Where no
    scale is told, c = 1 with 0.7 for √(1 / 2).
    """
    if scale is None:
        return load * (load + 0.3 * share) / (load + 0.6 * share + _TINY)
    root = jnp.sqrt(0.5 * scale)
    return load * (load + root**2 / (1.0 + root) * share) / (load + share / (1.0 + root) + _TINY)


def _thrifty(delay_price: Array, energy_price: Array) -> Array:
    """Speed y <= 1 that minimises delay_price / y + energy_price y²."""
    slow = 2.0 * energy_price > delay_price
    cube = jnp.where(slow, delay_price / jnp.where(slow, 2.0 * energy_price, 1.0), 1.0)
    return jnp.exp(jnp.log(cube) / 3.0)  # several times faster than a cube root on a CPU

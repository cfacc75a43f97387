"""A lower bound of what any cuts and any shares can reach in a slot.

Pricing the two shared budgets splits the Lagrangian by user, and each takes its best cut:

    Σ_n min_k φ_nk(μ, ν) - μ - ν,    φ_nk = min over user n's shares at cut k of its cost plus rent

is a lower bound for all prices (μ, ν) >= 0 and concave in them (Lagrangian relaxation; A. M. Geoffrion,
Mathematical Programming Study 2 (1974)). Cutting planes find where it is highest.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from jaxmec.allocation import _planes, _solver
from jaxmec.allocation._planes import Planes
from jaxmec.allocation._priced import Priced, priced_costs
from jaxmec.allocation._problem import SlotProblem, return_cost
from jaxmec.allocation._solver import Demand, SolverConfig
from jaxmec.batching import alike, batch_last
from jaxmec.compilation import one_programme

MAX_PRICES = 20  # pairs of prices at which the dual is evaluated, at most
MEMORY = 8  # of them, the latest, whose tangents are kept
TOLERANCE = 2e-5  # of the dual's maximum, relative
_GROWTH = 4.0  # from one pair of prices to the next, at most
_SHRINKAGE = 1 / 16  # of the guess, at most


class LowerBound(struct.PyTreeNode):
    """A certified bound and the prices that give it."""

    value: Array  # []
    bandwidth_price: Array  # []
    server_price: Array  # []
    cuts: Array  # int32[N] each user's best cut at these prices
    uncertainty: Array  # [] the dual's maximum lies within this share of it above the value
    regret: Array  # [N, K] what each cut costs more than the user's best at these prices, its rent included
    rent: Array  # [2, N, K] of band and server, per cut at these prices


@one_programme(3)
def cut_costs(
    cut_problems: SlotProblem, bandwidth_price: Array, server_price: Array, config: SolverConfig = SolverConfig()
) -> Array:
    """φ [N, K]: what each cut costs its user at given prices per share of band and server, its rent included.

    Certified from below, so never above the true minimum but for rounding.

    Args:
      cut_problems: slot problem whose `CUT_LEAVES` are [N, K].
      bandwidth_price: [] at least zero.
      server_price: [] at least zero.
      config: its iterations are those of each user's problem.
    """
    demand = _rows(cut_problems)
    cost = priced_costs(demand, bandwidth_price[None], server_price[None], config.iterations).cost
    cost, fixed = cost.reshape(cut_problems.device_work_s.shape), return_cost(cut_problems)
    return cost if fixed is None else cost + fixed


@one_programme(2)
def lower_bound(
    cut_problems: SlotProblem,
    action_mask: Array,
    config: SolverConfig = SolverConfig(),
    prices: Array | None = None,
) -> LowerBound:
    """Certified lower bound of the slot objective over all valid cuts and all feasible shares.

    The dual's maximum over the prices, from below: within `uncertainty` of it, and never less than zero.

    Args:
      cut_problems: slot problem whose `CUT_LEAVES` are [N, K].
      action_mask: bool[N, K], the cuts that exist.
      config: its iterations are those of each user's problem at given prices.
      prices: [2] of band and server, where the search starts; a guess of its own if absent.
    """
    if prices is None:
        prices = jnp.full(2, -1.0, cut_problems.snr.dtype)

    rows, fixed = _rows(cut_problems), return_cost(cut_problems)
    search = batch_last(_maximum, action_mask.size, iterations=config.iterations)
    return search(rows, fixed, action_mask, prices)


class _Search(NamedTuple):
    """The state of the search; B problems at once."""

    rounds: Array  # int32[] pairs of prices so far
    prices: Array  # [2, B] the next
    limit: Array  # [2, B] of the prices after it
    planes: Planes
    rows: Array  # [3, 4, B] see `_planes.Vertex`
    value: Array  # [B] the best so far
    best_prices: Array  # [2, B]
    best: Priced  # [N, K, B]
    above: Array  # [B] upper bound of the dual's maximum
    done: Array  # bool[B]


def _maximum(
    demand: Demand, fixed: Array | None, action_mask: Array, prices: Array, iterations: int
) -> LowerBound:
    """The dual's maximum for rows [N K, B] from prices [2, B], or from a guess where those are negative.

    `fixed` [N, K, B] is what each cut costs whatever the shares.
    """
    shape = action_mask.shape

    def step(state: _Search) -> _Search:
        prices = state.prices
        priced = priced_costs(demand, prices[:1], prices[1:], iterations)
        priced = Priced(*(leaf.reshape(shape) for leaf in priced))
        if fixed is not None:
            priced = priced._replace(cost=priced.cost + fixed)
        constant = priced.cost - priced.band * prices[:1, None] - priced.server * prices[1:, None]
        new = Planes(constant, priced.band, priced.server)
        planes = Planes(
            *(old.at[state.rounds % MEMORY].set(one) for old, one in zip(state.planes, new, strict=True))
        )
        value, slope = _planes.envelope(Planes(*(leaf[None] for leaf in new)), action_mask, prices)
        better = value > state.value
        best = Priced(*(jnp.where(better[None, None], *both) for both in zip(priced, state.best, strict=True)))
        best_prices = jnp.where(better[None], prices, state.best_prices)
        best_value = jnp.maximum(value, state.value)

        is_first = state.rounds == 0
        limit = jnp.maximum(state.limit, _GROWTH * prices)
        rows = jnp.where(is_first, _planes.first_rows(value, slope, prices, limit), state.rows)
        vertex = _planes.highest(planes, action_mask, rows, limit, 0.2 * TOLERANCE)
        done = state.done | (vertex.value - best_value <= TOLERANCE * jnp.abs(best_value))
        proposed = jnp.where((is_first & guessed)[None], _answer(prices, slope), vertex.prices)
        return _Search(
            rounds=state.rounds + 1,
            prices=jnp.where(done[None], best_prices, proposed),
            limit=limit,
            planes=planes,
            rows=vertex.rows,
            value=best_value,
            best_prices=best_prices,
            best=best,
            above=jnp.where(state.done, state.above, vertex.value),
            done=done,
        )

    guess = _guess(demand, action_mask)
    guessed = prices[0] < 0
    start = jnp.where(guessed[None], guess, prices)
    found = lax.while_loop(_unfinished, step, alike(start, _start(shape, start, guess)))
    least = jnp.min(jnp.where(action_mask, found.best.cost, jnp.inf), axis=1, keepdims=True)
    value = jnp.maximum(found.value, 0.0)
    above = jnp.maximum(found.above, value)
    band_price, server_price = found.best_prices
    return LowerBound(
        value=value,
        bandwidth_price=band_price,
        server_price=server_price,
        cuts=jnp.argmin(jnp.where(action_mask, found.best.cost, jnp.inf), axis=1).astype(jnp.int32),
        uncertainty=jnp.where(above > 0, (above - value) / jnp.where(above > 0, above, 1.0), 0.0),
        regret=jnp.where(action_mask, found.best.cost - least, jnp.inf),
        rent=jnp.stack([found.best.band * band_price[None, None], found.best.server * server_price[None, None]]),
    )


def _unfinished(state: _Search) -> Array:
    return (state.rounds < MAX_PRICES) & ~jnp.all(state.done)


def _start(shape: tuple[int, ...], prices: Array, guess: Array) -> _Search:
    """Before anything is evaluated at the first prices."""
    batch, dtype = shape[-1:], prices.dtype
    nothing = jnp.zeros(shape, dtype)
    unseen = jnp.zeros((MEMORY, *shape), dtype)
    return _Search(
        rounds=jnp.zeros((), jnp.int32),
        prices=prices,
        limit=_GROWTH * guess,
        planes=Planes(jnp.full_like(unseen, jnp.inf), unseen, unseen),
        rows=jnp.zeros((3, 4, *batch), dtype),
        value=jnp.full(batch, -jnp.inf, dtype),
        best_prices=prices,
        best=Priced(nothing, nothing, nothing),
        above=jnp.full(batch, jnp.inf, dtype),
        done=jnp.zeros(batch, bool),
    )


def _guess(demand: Demand, action_mask: Array) -> Array:
    """Prices [2, B] at which square-root shares of every user's mean cut would fill the budgets."""
    shape = action_mask.shape
    alone_s = demand.uplink_s / _solver.spectrum(demand, shape[0] * demand.snr)[0]
    prices = []
    for price, work in ((demand.uplink_price, alone_s), (demand.delay_price, demand.server_s)):
        root = jnp.sqrt(price * work).reshape(shape)
        mean = jnp.sum(jnp.where(action_mask, root, 0.0), axis=1) / jnp.sum(action_mask, axis=1)
        prices.append(jnp.sum(mean, axis=0) ** 2)
    return jnp.maximum(jnp.stack(prices), float(jnp.finfo(demand.rate.dtype).tiny) ** 0.5)


def _answer(prices: Array, excess: Array) -> Array:
    """Prices after which demands that fall with the square root of the price would be one."""
    return prices * jnp.clip((1.0 + excess) ** 2, _SHRINKAGE, _GROWTH)


def _rows(cut_problems: SlotProblem) -> Demand:
    """Every user's every cut as a row of its own: user leaves [N K]."""
    shape = cut_problems.device_work_s.shape

    def flat(leaf: Array) -> Array:
        wide = leaf if leaf.ndim == 2 else jnp.broadcast_to(leaf[:, None], shape)
        return wide.reshape(-1)

    return _solver.to_demand(jax.tree.map(lambda leaf: flat(leaf) if leaf.ndim else leaf, cut_problems))

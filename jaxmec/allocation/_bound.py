"""A lower bound of what any cuts and any shares can reach in a slot.

Pricing the two shared budgets splits the Lagrangian by user, and each takes its best cut:

    Σ_n min_k φ_nk(μ, ν) - μ - ν,    φ_nk = min over user n's shares at cut k of its cost plus rent

is a lower bound for all prices (μ, ν) >= 0 and concave in them (Lagrangian relaxation; A. M. Geoffrion,
Mathematical Programming Study 2 (1974)).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.allocation import _solver
from jaxmec.allocation._allocate import allocate
from jaxmec.allocation._certificate import user_bounds
from jaxmec.allocation._problem import SlotProblem
from jaxmec.allocation._solver import SolverConfig

_WORK = ("device_work_s", "uplink_bits", "server_work_s")


class LowerBound(struct.PyTreeNode):
    """A certified bound and the prices that give it."""

    value: Array  # []
    bandwidth_price: Array  # []
    server_price: Array  # []
    cuts: Array  # int32[N] each user's best cut at these prices


def cut_costs(
    cut_problems: SlotProblem, bandwidth_price: Array, server_price: Array, config: SolverConfig = SolverConfig()
) -> Array:
    """φ [N, K]: what each cut costs its user at given prices per share of band and server, its rent included.

    Certified from below, so never above the true minimum but for rounding.

    Args:
      cut_problems: slot problem whose three work leaves are [N, K].
      bandwidth_price: [] above zero.
      server_price: [] above zero.
      config: static settings of the solver.
    """
    shape = cut_problems.device_work_s.shape

    def flat(leaf: Array) -> Array:
        wide = leaf if leaf.ndim == 2 else jnp.broadcast_to(leaf[:, None], shape)
        return wide.reshape(-1)

    problem = jax.tree.map(lambda leaf: flat(leaf) if leaf.ndim else leaf, cut_problems)
    demand = _solver.to_demand(problem)
    tiny = jnp.finfo(demand.rate.dtype).tiny
    band_price, server_price = (jnp.maximum(price, tiny)[None] for price in (bandwidth_price, server_price))
    point = _solver.solve_at_prices(demand, band_price, server_price, config)
    return user_bounds(demand, point).reshape(shape)


def lower_bound(
    cut_problems: SlotProblem, action_mask: Array, config: SolverConfig = SolverConfig(), rounds: int = 4
) -> LowerBound:
    """Certified lower bound of the slot objective over all valid cuts and all feasible shares.

    Prices are found by tatonnement: the prices of the exact allocation at the users' best cuts give new best
    cuts, and so on; the best of all rounds is kept. Every round's value is a valid bound.

    Args:
      cut_problems: slot problem whose three work leaves are [N, K].
      action_mask: bool[N, K], the cuts that exist.
      config: static settings of the solver.
      rounds: price iterations.
    """

    def at(cuts: Array) -> SlotProblem:
        picked = {
            name: jnp.take_along_axis(getattr(cut_problems, name), cuts[:, None], axis=-1)[:, 0] for name in _WORK
        }
        return cut_problems.replace(**picked)

    def one_round(carry: tuple[LowerBound, Array, Array], _: None) -> tuple[tuple[LowerBound, Array, Array], None]:
        best, band_price, server_price = carry
        costs = jnp.where(action_mask, cut_costs(cut_problems, band_price, server_price, config), jnp.inf)
        cuts = jnp.argmin(costs, axis=-1).astype(jnp.int32)
        value = jnp.sum(jnp.min(costs, axis=-1)) - band_price - server_price
        here = LowerBound(value, band_price, server_price, cuts)
        best = jax.tree.map(lambda new, old: jnp.where(value > best.value, new, old), here, best)
        answer = allocate(at(cuts), config)
        # Halfway in the logarithm: plain tatonnement can oscillate between two sets of cuts.
        band_price = jnp.sqrt(band_price * jnp.maximum(answer.bandwidth_price, 0.1 * band_price))
        server_price = jnp.sqrt(server_price * jnp.maximum(answer.server_price, 0.1 * server_price))
        return (best, band_price, server_price), None

    num_users = action_mask.shape[0]
    start = allocate(at(jnp.zeros(num_users, jnp.int32)), config)
    nothing = LowerBound(
        value=jnp.full_like(start.objective, -jnp.inf),
        bandwidth_price=start.bandwidth_price,
        server_price=start.server_price,
        cuts=jnp.zeros(num_users, jnp.int32),
    )
    (best, _, _), _ = jax.lax.scan(
        one_round, (nothing, start.bandwidth_price, start.server_price), None, length=rounds
    )
    return best

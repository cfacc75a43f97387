"""`allocate`: the slot problem's optimum as one differentiable function."""

from __future__ import annotations

import enum
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from jaxmec.allocation import _solver
from jaxmec.allocation._certificate import user_bounds
from jaxmec.allocation._implicit import tangent
from jaxmec.allocation._problem import SlotProblem, check, into_domain, objective, return_cost
from jaxmec.allocation._solver import Demand, Iterate, SolverConfig
from jaxmec.batching import batch_last
from jaxmec.compilation import one_programme

MIN_GAIN = 1e-5  # relative, of a search by this solver; smaller gains are its rounding and could cycle
_RESCUE_ITERATIONS = 6
_FLOAT64_MORE = 11  # iterations; derivatives are then right to 1e-6 wherever they exist
_RESCUE_BATCH = 64  # problems that are rescued at once, at least


class Status(enum.IntEnum):
    """What an allocation's numbers mean."""

    OPTIMAL = 0  # certified: the duality gap is at most the tolerance
    INEXACT = 1  # feasible and finite, but the certified gap is larger
    OUT_OF_DOMAIN = 2  # a value was outside the domain: shares, prices and slopes are those of the nearest problem
    # inside, the objective is that of the problem itself, and the gap is 1: nothing is known


class Allocation(struct.PyTreeNode):
    """The optimal shares of a slot problem."""

    device_share: Array  # [N] of the device's own speed; zero where a stage is skipped, as the two below
    bandwidth_share: Array  # [N], adding up to one if anyone sends
    server_share: Array  # [N], adding up to at most one
    bandwidth_price: Array  # [] objective saved per additional band, in units of the band
    server_price: Array  # [] likewise for the server
    objective: Array  # []
    duality_gap: Array  # [] certified: the optimum lies within this share of the objective
    status: Array  # int32[] see `Status`


class _Answer(struct.PyTreeNode):
    """What the solver found, [N, ...] and [...]."""

    point: Iterate
    objective: Array
    gap: Array


def allocate(problem: SlotProblem, config: SolverConfig = SolverConfig()) -> Allocation:
    """Solve a slot problem exactly.

    Works under jit, vmap (nested too, fast for plain batches) and differentiation in both modes. The objective's
    derivative is the Lagrangian's partial derivative (envelope theorem); shares and prices are differentiated
    implicitly, by a solve of the optimality conditions that can itself be differentiated, so derivatives of any
    order are right. Computes in float64 if a leaf is float64, and in float32 otherwise.

    Args:
      problem: leaves [N] and [], real numbers of any dtype.
      config: static settings of the solver.

    Returns:
      The allocation; its leaves and their derivatives are finite whatever the problem's values.

    Raises:
      ValueError: before anything is traced, if a leaf has a wrong shape or dtype, or there is no user.
    """
    check(problem)
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(problem))
    return _optimum(jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), problem), config)


@one_programme(1)
def _optimum(problem: SlotProblem, config: SolverConfig) -> Allocation:
    """As `allocate`, of leaves of one dtype."""
    dtype = problem.snr.dtype
    inside, outside = into_domain(problem)
    demand = _solver.to_demand(inside)
    answer = _solution(config, demand)
    device, band, server = _solver.shares(demand, answer.point)
    gap = lax.stop_gradient(answer.gap)
    fixed = return_cost(inside)
    optimum = answer.objective if fixed is None else answer.objective + jnp.sum(fixed)
    # The objective is always that of the problem that was asked for.
    asked = objective(*lax.stop_gradient((problem, device, band, server)))
    asked = jnp.where(jnp.isfinite(asked), asked, float(jnp.finfo(dtype).max))
    elsewhere = asked - lax.stop_gradient(optimum)
    status = jnp.where(gap <= config.gap_tolerance(dtype), Status.OPTIMAL, Status.INEXACT)
    return Allocation(
        device_share=device,
        bandwidth_share=band,
        server_share=server,
        bandwidth_price=jnp.where(jnp.any(demand.uplink_s > 0), answer.point.band_price[0], 0.0),
        server_price=jnp.where(jnp.any(demand.server_s > 0), answer.point.server_price[0], 0.0),
        objective=optimum + jnp.where(outside, elsewhere, 0.0),
        duality_gap=jnp.where(outside, 1.0, gap),
        status=jnp.where(outside, Status.OUT_OF_DOMAIN, status).astype(jnp.int32),
    )


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solution(config: SolverConfig, demand: Demand) -> _Answer:
    return batch_last(_solve, demand.rate.size, config=config)(demand)


@_solution.defjvp
def _solution_jvp(config: SolverConfig, primals: tuple, tangents: tuple) -> tuple:
    answer = _solution(config, *primals)
    point_dot = tangent(primals[0], answer.point, tangents[0])
    _, objective_dot = jax.jvp(lambda demand: _solver.lagrangian(demand, answer.point), primals, tangents)
    return answer, _Answer(point_dot, objective_dot, jnp.zeros_like(answer.gap))


def _solve(demand: Demand, config: SolverConfig) -> _Answer:
    """Solve a batch [N, B]: a few iterations for all, then more for those whose certified gap is too large.

    The latter are gathered, so that one hard problem does not cost the batch its own iterations.
    """
    batch = demand.rate.shape[-1]
    dtype = demand.rate.dtype
    tolerance = config.gap_tolerance(dtype)
    first = config.iterations if dtype == jnp.float32 else config.iterations + _FLOAT64_MORE
    answer = _certified(demand, _solver.iterate(demand, _solver.start(demand), first, config))
    if config.rescues == 0:
        return answer
    size = min(batch, max(_RESCUE_BATCH, batch // 16))

    def in_need(state: tuple[_Answer, Array]) -> Array:
        answer, rescued = state
        return ~(answer.gap <= tolerance) & (rescued < config.rescues)

    def rescue(state: tuple[_Answer, Array]) -> tuple[_Answer, Array]:
        answer, rescued = state
        chosen = jnp.nonzero(in_need(state), size=size, fill_value=0)[0]
        some, point = jax.tree.map(lambda leaf: leaf[..., chosen], (demand, answer.point))
        better = _certified(some, _solver.iterate(some, point, _RESCUE_ITERATIONS, config))
        answer = jax.tree.map(lambda old, new: old.at[..., chosen].set(new), answer, better)
        return answer, rescued.at[chosen].add(1)

    rescued = jnp.zeros_like(answer.gap, jnp.int32)
    return lax.while_loop(lambda state: jnp.any(in_need(state)), rescue, (answer, rescued))[0]


def _certified(demand: Demand, point: Iterate) -> _Answer:
    """A point with its objective and certified relative gap, [B]."""
    objective = _solver.cost(demand, *_solver.shares(demand, point))
    rent = sum(
        jnp.where(jnp.any(work > 0, axis=0), price[0], 0.0)
        for work, price in ((demand.uplink_s, point.band_price), (demand.server_s, point.server_price))
    )
    limits = jnp.finfo(demand.rate.dtype)
    scale = jnp.maximum(objective, float(limits.tiny))
    # Divided before they are added up: XLA then computes each user's bound once.
    bound = _solver.total(user_bounds(demand, point) / scale[None])[0]
    missing = objective / scale - bound + rent / scale + float(limits.eps) * (8.0 + 2.0 * rent / scale)
    gap = jnp.maximum(missing, 0.0)
    gap = jnp.where(jnp.isfinite(gap), gap, 1.0)
    return _Answer(point, jnp.where(jnp.isfinite(objective), objective, float(limits.max)), gap)

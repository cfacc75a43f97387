"""`allocate`: the slot problem's optimum as one differentiable function."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec.allocation import _solver
from jaxmec.allocation._certificate import user_bounds
from jaxmec.allocation._problem import SlotProblem, check, objective
from jaxmec.allocation._solver import Demand, Iterate, SolverConfig


class Allocation(struct.PyTreeNode):
    """The optimal shares of a slot problem."""

    device_share: Array  # [N] of the device's own speed; zero where a stage is skipped, as the two below
    bandwidth_share: Array  # [N], adding up to one if anyone sends
    server_share: Array  # [N], adding up to at most one
    bandwidth_price: Array  # [] objective saved per additional band, in units of the band
    server_price: Array  # [] likewise for the server
    objective: Array  # []
    duality_gap: Array  # [] certified: the optimum lies within this share of the objective


def allocate(problem: SlotProblem, config: SolverConfig = SolverConfig()) -> Allocation:
    """Solve a slot problem exactly.

    Works under jit, vmap (nested too, fast for plain batches) and differentiation in both modes. The objective's
    derivative is the Lagrangian's partial derivative (envelope theorem); shares and prices are differentiated
    implicitly, through one more Newton step at the solution.

    Args:
      problem: leaves [N] and [].
      config: static settings of the solver.

    Returns:
      The allocation; its leaves are finite for every problem within the domain that `SlotProblem` states.

    Raises:
      ValueError: before anything is traced, if a leaf has a wrong shape or dtype.
    """
    check(problem)
    dtype = jnp.result_type(*jax.tree.leaves(problem))
    problem = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), problem)
    demand = _solver.to_demand(problem)
    point, bound, value = _solution(config, demand)
    device, band, server = _solver.shares(demand, point)
    fixed = jax.lax.stop_gradient((device, band, server))
    exact = jax.lax.stop_gradient(objective(problem, *fixed))
    # `value` is the Lagrangian at the solution: it lends its derivative, the shares lend their exact objective.
    total = exact + (value - jax.lax.stop_gradient(value))
    tiny = float(jnp.finfo(dtype).tiny)
    return Allocation(
        device_share=device,
        bandwidth_share=band,
        server_share=server,
        bandwidth_price=point.band_price[0],
        server_price=jnp.where(jnp.any(problem.server_work_s > 0), point.server_price[0], 0.0),
        objective=total,
        duality_gap=jax.lax.stop_gradient(jnp.maximum(exact - bound, 0.0) / jnp.maximum(exact, tiny)),
    )


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solution(config: SolverConfig, demand: Demand) -> tuple[Iterate, Array, Array]:
    """The solution, a lower bound of the objective, and the Lagrangian."""
    return _solve_batched(config)(demand)


@_solution.defjvp
def _solution_jvp(config: SolverConfig, primals: tuple, tangents: tuple) -> tuple:
    point, bound, value = _solution(config, *primals)
    _, point_dot = jax.jvp(lambda demand: _solver.refine(demand, point, config), primals, tangents)
    _, value_dot = jax.jvp(lambda demand: _solver.lagrangian(demand, point), primals, tangents)
    return (point, bound, value), (point_dot, jnp.zeros_like(bound), value_dot)


def _solve_batched(config: SolverConfig):
    """The solver with a batching rule that keeps users first and puts the batch last.

    Reductions over users then run over contiguous rows of problems, which vectorise; under the default rule they
    would run within a problem's few users.
    """

    @jax.custom_batching.custom_vmap
    def run(demand: Demand) -> tuple[Iterate, Array, Array]:
        point = _solver.solve(demand, config)
        rent = point.band_price[0] + jnp.where(jnp.any(demand.server_s > 0, axis=0), point.server_price[0], 0.0)
        bound = jnp.sum(user_bounds(demand, point), axis=0) - rent
        return point, bound, _solver.lagrangian(demand, point)

    @run.def_vmap
    def rule(size: int, batched: list, demand: Demand):
        def to_last(leaf: Array, is_batched: bool) -> Array:
            if is_batched:
                return jnp.moveaxis(leaf, 0, -1)
            return jnp.broadcast_to(leaf[..., None], (*leaf.shape, size))

        result = run(jax.tree.map(to_last, demand, batched[0]))
        result = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), result)
        return result, jax.tree.map(lambda _: True, result)

    return run

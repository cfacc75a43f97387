"""Proven optima: a branch and bound over the cuts, on top of the Lagrangian dual.

A node allows some cuts of every user; the dual over those bounds it. At its prices each cut has a regret, and one
whose regret lifts the node's bound to what is already reached needs no branch. The device bounds nodes by the
batch, from their parents' prices; the host keeps the tree, best bound first (A. H. Land and A. G. Doig,
Econometrica 28 (1960); bounds from prices as in M. L. Fisher, Management Science 27 (1981)).
"""

from __future__ import annotations

import dataclasses
import enum
import heapq
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmec.allocation._allocate import allocate
from jaxmec.allocation._bound import LowerBound, lower_bound
from jaxmec.allocation._problem import SlotProblem
from jaxmec.allocation._rounding import problem_at, round_bound
from jaxmec.allocation._solver import SolverConfig

_BATCH = 32  # nodes that are bounded at once
_TIE = 1e-4  # of the objective: cuts of less regret are as good as tied when a user is chosen to branch on


class CertifyStatus(enum.Enum):
    """Why `certify` stopped."""

    PROVEN = "proven"  # the gap is at most the one that was asked for
    NODE_LIMIT = "node limit"
    TIME_LIMIT = "time limit"


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The best cuts found, and how far any others can be below them."""

    cuts: np.ndarray  # int32[N]
    objective: float  # of those cuts with the exact allocation
    bound: float  # no cuts and shares reach less
    nodes: int  # that were bounded
    seconds: float  # with compilation, if this call needed any
    status: CertifyStatus

    @property
    def gap(self) -> float:
        """How far the optimum may be below the objective, relative to it."""
        return max(self.objective - self.bound, 0.0) / self.objective if self.objective > 0 else 0.0


def certify(
    cut_problems: SlotProblem,
    action_mask: Array,
    gap: float = 1e-3,
    config: SolverConfig = SolverConfig(),
    max_nodes: int = 100_000,
    max_seconds: float = 60.0,
) -> Certificate:
    """Cuts that are optimal within a gap, proven; or the best that the limits allow, with the gap reached.

    Runs on the host: it can be neither jitted nor mapped.

    Args:
      cut_problems: slot problem whose `CUT_LEAVES` are [N, K].
      action_mask: bool[N, K], the cuts that exist.
      gap: relative to the objective of the cuts found; above the allocation's own tolerance of 1e-5.
      config: static settings of the solver.
      max_nodes: after which no further batch of nodes is begun.
      max_seconds: likewise.

    Raises:
      ValueError: if the gap or a limit is not above zero.
    """
    for name, value in (("gap", gap), ("max_nodes", max_nodes), ("max_seconds", max_seconds)):
        if not value > 0:
            raise ValueError(f"certify: {name}: got {value}; allowed is above 0")
    started = time.perf_counter()
    root, rounding = _root(cut_problems, action_mask, config)
    tree = _Tree(gap, np.asarray(rounding.cuts), float(rounding.objective))
    tree.add(_nodes(root, np.asarray(action_mask)[None], 1))
    status = CertifyStatus.PROVEN
    while tree.heap:
        if tree.nodes >= max_nodes or time.perf_counter() - started > max_seconds:
            status = CertifyStatus.NODE_LIMIT if tree.nodes >= max_nodes else CertifyStatus.TIME_LIMIT
            break
        for masks, prices in _batches(tree.branches()):
            padded = np.resize(masks, (_BATCH, *masks.shape[1:])), np.resize(prices, (_BATCH, 2))
            bounds, objectives = _bounded(cut_problems, *padded, config)
            tree.offer(np.asarray(bounds.cuts), np.asarray(objectives))
            tree.add(_nodes(bounds, masks, len(masks)))
    return Certificate(tree.cuts, tree.objective, tree.bound(), tree.nodes, time.perf_counter() - started, status)


class _Node(NamedTuple):
    """A part of the combinations, and what the dual says of it."""

    bound: float
    mask: np.ndarray  # bool[N, K] the cuts that it allows
    prices: np.ndarray  # [2]
    regret: np.ndarray  # [N, K]
    rent: np.ndarray  # [2, N, K]


class _Tree:
    """The nodes that may hold something better than the best cuts so far."""

    def __init__(self, gap: float, cuts: np.ndarray, objective: float) -> None:
        self.gap, self.cuts, self.objective = gap, cuts, objective
        self.heap: list[tuple[float, int, _Node]] = []
        self.nodes = 0
        self.closed = np.inf  # the least bound among the parts that were given up

    @property
    def cutoff(self) -> float:
        """What a part must be able to reach less than."""
        return self.objective * (1.0 - self.gap)

    def bound(self) -> float:
        """Lower bound over everything."""
        return min(self.closed, self.objective, self.heap[0][0] if self.heap else np.inf)

    def offer(self, cuts: np.ndarray, objectives: np.ndarray) -> None:
        """Cuts [B, N] that somebody tried."""
        best = int(np.argmin(objectives))
        if objectives[best] < self.objective:
            self.cuts, self.objective = cuts[best], float(objectives[best])

    def add(self, nodes: list[_Node]) -> None:
        """Bounded nodes; those that cannot help are given up."""
        for node in nodes:
            self.nodes += 1
            if node.bound < self.cutoff:
                heapq.heappush(self.heap, (node.bound, self.nodes, node))
            else:
                self.closed = min(self.closed, node.bound)

    def branches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Masks and first prices of the best nodes' children, some `_BATCH` of them."""
        children: list[tuple[np.ndarray, np.ndarray]] = []
        while self.heap and len(children) < _BATCH:
            bound, _, node = heapq.heappop(self.heap)
            if bound >= self.cutoff:
                self.closed = min(self.closed, bound)
                continue
            without = node.bound + np.where(node.mask, node.regret, np.inf)
            allowed = node.mask & (without < self.cutoff)
            self.closed = min(self.closed, np.min(without[node.mask & ~allowed], initial=np.inf))
            if (allowed.sum(axis=1) > 1).any():
                user = _branching_user(node, allowed, self.objective)
                for cut in np.flatnonzero(allowed[user]):
                    child = allowed.copy()
                    child[user] = False
                    child[user, cut] = True
                    children.append((child, node.prices))
            else:
                # One combination is left, the node's best cuts: its objective is known, and not below the best.
                self.closed = min(self.closed, self.objective)
        return children


def _branching_user(node: _Node, allowed: np.ndarray, objective: float) -> int:
    """The user of several cuts whose choice moves the budgets most for the least regret."""
    best = np.argmin(np.where(allowed, node.regret, np.inf), axis=1)
    rent_of_best = np.take_along_axis(node.rent, best[None, :, None], axis=2)
    moved = np.abs(node.rent - rent_of_best).sum(axis=0) + _TIE * objective
    score = np.where(allowed, moved / (np.where(allowed, node.regret, 0.0) + _TIE * objective), 0.0)
    np.put_along_axis(score, best[:, None], 0.0, axis=1)
    return int(np.argmax(score.max(axis=1)))


def _batches(children: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for first in range(0, len(children), _BATCH):
        masks, prices = zip(*children[first : first + _BATCH], strict=True)
        yield np.stack(masks), np.stack(prices)


def _nodes(bounds: LowerBound, masks: np.ndarray, number: int) -> list[_Node]:
    """The first so many of bounds [B], or of one, as nodes."""
    value, band_price, server_price, regret, rent = (
        np.asarray(leaf).reshape(-1, *np.shape(leaf)[np.ndim(leaf) - own :])
        for leaf, own in (
            (bounds.value, 0),
            (bounds.bandwidth_price, 0),
            (bounds.server_price, 0),
            (bounds.regret, 2),
            (bounds.rent, 3),
        )
    )
    prices = np.stack([band_price, server_price], axis=-1)
    return [_Node(float(value[i]), masks[i], prices[i], regret[i], rent[i]) for i in range(number)]


@partial(jax.jit, static_argnames="config")
def _root(cut_problems: SlotProblem, action_mask: Array, config: SolverConfig) -> tuple:
    bound = lower_bound(cut_problems, action_mask, config)
    return bound, round_bound(cut_problems, bound, config)


@partial(jax.jit, static_argnames="config")
def _bounded(
    cut_problems: SlotProblem, masks: Array, prices: Array, config: SolverConfig
) -> tuple[LowerBound, Array]:
    """Bounds [B] of masks bool[B, N, K] from prices [B, 2], and what their best cuts reach."""

    def one(mask: Array, prices: Array) -> tuple[LowerBound, Array]:
        bound = lower_bound(cut_problems, mask, config, prices)
        return bound, allocate(problem_at(cut_problems, bound.cuts), config).objective

    return jax.vmap(one)(jnp.asarray(masks), jnp.asarray(prices))

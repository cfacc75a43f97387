"""From prices to cuts: a local search that tries only the changes that the prices do not rule out at once."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from jaxmec.allocation._allocate import MIN_GAIN, allocate
from jaxmec.allocation._bound import LowerBound
from jaxmec.allocation._problem import CUT_LEAVES, SlotProblem
from jaxmec.allocation._solver import SolverConfig
from jaxmec.compilation import one_programme

MAX_ROUNDS = 40
_SINGLES = 64  # changes of one user's cut that are tried in a round: those of least regret
_PAIRED = 8  # of which so many, those of least objective, are tried two at a time once none gains alone


class Rounding(struct.PyTreeNode):
    """Cuts and what they reach."""

    cuts: Array  # int32[N]
    objective: Array  # [] with the exact allocation


class _Search(NamedTuple):
    """The state of the search."""

    best: Rounding
    reached: Array  # [S] what the single changes reach
    in_pairs: Array  # bool[] whether changes are tried two at a time
    going: Array  # bool[]
    rounds: Array  # int32[]


def problem_at(cut_problems: SlotProblem, cuts: Array) -> SlotProblem:
    """The slot problem of given cuts int32[N] from that of every cut."""
    of_cuts = {name: leaf for name in CUT_LEAVES if (leaf := getattr(cut_problems, name)) is not None}
    return cut_problems.replace(
        **{name: jnp.take_along_axis(leaf, cuts[:, None], axis=-1)[:, 0] for name, leaf in of_cuts.items()}
    )


@one_programme(2)
def round_bound(cut_problems: SlotProblem, bound: LowerBound, config: SolverConfig = SolverConfig()) -> Rounding:
    """Cuts near a lower bound: each user's best at its prices, then changed singly and in pairs while that gains.

    Any cuts with user n at cut k cost at least `value + regret[n, k]`, so the changes of least regret are those
    that can lead somewhere; the exact allocation scores them. Rounds of single and of paired changes share one copy
    of it, which is most of what there is to compile.

    Args:
      cut_problems: slot problem whose `CUT_LEAVES` are [N, K].
      bound: its lower bound.
      config: static settings of the solver.
    """
    num_users, num_cuts = bound.regret.shape
    singles = min(_SINGLES, num_users * num_cuts)
    no_regret, chosen = lax.top_k(-bound.regret.reshape(-1), singles)
    user, cut = chosen // num_cuts, (chosen % num_cuts).astype(jnp.int32)
    mine = jnp.arange(num_users)[None] == user[:, None]
    valid = jnp.isfinite(no_regret)
    one, other = jnp.triu_indices(min(_PAIRED, singles))  # a change paired with itself is the change
    width = max(singles, one.size)  # of a round
    alone, pairs = jnp.arange(width) % singles, jnp.arange(width) % one.size

    def objective(cuts: Array) -> Array:
        return allocate(problem_at(cut_problems, cuts), config).objective

    def step(search: _Search) -> _Search:
        best = search.best
        good = lax.top_k(-search.reached, min(_PAIRED, singles))[1]
        first = jnp.where(search.in_pairs, good[one[pairs]], alone)
        second = jnp.where(search.in_pairs, good[other[pairs]], alone)
        changed = jnp.where(mine[first], cut[first][:, None], best.cuts[None])
        candidates = jnp.where(mine[second], cut[second][:, None], changed)
        reached = jnp.where(valid[first] & valid[second], jax.vmap(objective)(candidates), jnp.inf)
        least = jnp.argmin(reached)
        gains = reached[least] < best.objective * (1.0 - MIN_GAIN)
        better = Rounding(candidates[least], reached[least])
        rounds = search.rounds + 1
        return _Search(
            best=jax.tree.map(lambda new, old: jnp.where(gains, new, old), better, best),
            reached=jnp.where(search.in_pairs, search.reached, reached[:singles]),
            in_pairs=~search.in_pairs & ~gains,
            going=(gains | ~search.in_pairs) & (rounds < MAX_ROUNDS),
            rounds=rounds,
        )

    # Changes without regret leave the bound's cuts as they are, so the first round tells their objective.
    unknown = jnp.asarray(jnp.inf, bound.value.dtype)
    start = _Search(
        best=Rounding(bound.cuts, unknown),
        reached=jnp.full(singles, unknown),
        in_pairs=jnp.zeros((), bool),
        going=jnp.ones((), bool),
        rounds=jnp.zeros((), jnp.int32),
    )
    return lax.while_loop(lambda search: search.going, step, start).best

"""From prices to cuts: a local search that tries only the changes that the prices do not rule out at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax

from jaxmec.allocation._allocate import allocate
from jaxmec.allocation._bound import LowerBound
from jaxmec.allocation._problem import SlotProblem
from jaxmec.allocation._solver import SolverConfig

MIN_GAIN = 1e-5  # relative; smaller gains are the allocation's rounding and could cycle
MAX_ROUNDS = 20
_SINGLES = 64  # changes of one user's cut that are tried in a round: those of least regret
_PAIRED = 8  # of which so many, those of least objective, are tried two at a time
_WORK = ("device_work_s", "uplink_bits", "server_work_s")


class Rounding(struct.PyTreeNode):
    """Cuts and what they reach."""

    cuts: Array  # int32[N]
    objective: Array  # [] with the exact allocation


def problem_at(cut_problems: SlotProblem, cuts: Array) -> SlotProblem:
    """The slot problem of given cuts int32[N] from that of every cut."""
    return cut_problems.replace(
        **{name: jnp.take_along_axis(getattr(cut_problems, name), cuts[:, None], axis=-1)[:, 0] for name in _WORK}
    )


def round_bound(cut_problems: SlotProblem, bound: LowerBound, config: SolverConfig = SolverConfig()) -> Rounding:
    """Cuts near a lower bound: each user's best at its prices, then changed singly and in pairs while that gains.

    Any cuts with user n at cut k cost at least `value + regret[n, k]`, so the changes of least regret are those
    that can lead somewhere; the exact allocation scores them.

    Args:
      cut_problems: slot problem whose three work leaves are [N, K].
      bound: its lower bound.
      config: static settings of the solver.
    """
    num_users, num_cuts = bound.regret.shape
    singles = min(_SINGLES, num_users * num_cuts)
    _, chosen = lax.top_k(-bound.regret.reshape(-1), singles)
    user, cut = chosen // num_cuts, (chosen % num_cuts).astype(jnp.int32)
    mine = jnp.arange(num_users)[None] == user[:, None]
    valid = jnp.isfinite(bound.regret.reshape(-1)[chosen])
    one, other = jnp.triu_indices(min(_PAIRED, singles), 1)

    def objectives(candidates: Array) -> Array:
        return jax.vmap(lambda cuts: allocate(problem_at(cut_problems, cuts), config).objective)(candidates)

    def search(state: tuple[Rounding, Array, Array]) -> tuple[Rounding, Array, Array]:
        best, _, rounds = state
        single = jnp.where(mine, cut[:, None], best.cuts[None])
        reached = jnp.where(valid, objectives(single), jnp.inf)
        _, good = lax.top_k(-reached, min(_PAIRED, singles))
        pair = jnp.where(mine[good[other]], cut[good[other]][:, None], single[good[one]])
        candidates = jnp.concatenate([single, pair])
        usable = jnp.concatenate([valid, valid[good[one]] & valid[good[other]]])
        reached = jnp.where(usable, jnp.concatenate([reached, objectives(pair)]), jnp.inf)
        least = jnp.argmin(reached)
        gains = reached[least] < best.objective * (1.0 - MIN_GAIN)
        better = Rounding(candidates[least], reached[least])
        best = jax.tree.map(lambda new, old: jnp.where(gains, new, old), better, best)
        return best, gains, rounds + 1

    start = Rounding(bound.cuts, allocate(problem_at(cut_problems, bound.cuts), config).objective)
    state = (start, jnp.ones((), bool), jnp.zeros((), jnp.int32))
    return lax.while_loop(lambda state: state[1] & (state[2] < MAX_ROUNDS), search, state)[0]

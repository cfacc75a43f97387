"""The allocation layer: time per problem, and accuracy against converged float64 solutions."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np

from benchmarks.common import (
    Row,
    Settings,
    as_dtype,
    random_problems,
    relative_gaps,
    scenario_problems,
    timed,
)
from jaxmec.allocation import Allocation, SlotProblem, SolverConfig, allocate, objective

CONVERGED = SolverConfig(iterations=40, tolerance=1e-11, rescues=10)
_SCENARIOS = {"coinfer10": 10, "coinfer50": 50}  # and their number of users
_CHECKED = 1024  # problems of a batch whose accuracy is looked at
_FLOAT64_BATCH = 4096
_MOST_ROWS = 2_000_000  # users times problems
_CHUNK = 8192  # problems whose accuracy is checked at once


@jax.jit
def _converged(problem: SlotProblem) -> tuple[jax.Array, jax.Array]:
    answer = jax.vmap(lambda one: allocate(one, CONVERGED))(problem)
    return jax.vmap(objective)(problem, *shares(answer)), answer.duality_gap


def optimum(problem: SlotProblem) -> tuple[np.ndarray, np.ndarray]:
    """Float64 objectives [batch] of converged shares and their certified gaps; needs `jax.enable_x64`.

    The objective is evaluated at the shares, by the same function that judges other shares.
    """
    value, gap = _converged(as_dtype(problem, np.float64))
    return np.asarray(value), np.asarray(gap)


def shares(answer: Allocation) -> tuple:
    """Its three shares."""
    return answer.device_share, answer.bandwidth_share, answer.server_share


def allocate_section(settings: Settings) -> Iterator[Row]:
    """Every N and batch, float64 at one of them, on problems of coinfer10's population.

    The accuracy is that of the first problems of the batch.
    """
    with jax.enable_x64(True):
        for num_users in settings.users:
            checked = scenario_problems("coinfer10", 0, max(_CHECKED, *settings.batches), num_users)
            best, _ = optimum(jax.tree.map(lambda leaf: leaf[:_CHECKED], checked))
            for batch in settings.batches:
                if num_users * batch > _MOST_ROWS:
                    continue
                problem = jax.tree.map(lambda leaf, b=batch: leaf[:b], checked)
                for dtype in (np.float32, np.float64) if batch == _FLOAT64_BATCH else (np.float32,):
                    answer, seconds, compile_s = timed(jax.vmap(allocate), (as_dtype(problem, dtype),), settings)
                    first, found = jax.tree.map(lambda leaf: leaf[:_CHECKED], (problem, shares(answer)))
                    gaps = relative_gaps(first, found, best[:batch])
                    yield Row(
                        section="allocate",
                        what="allocate",
                        users=num_users,
                        batch=batch,
                        dtype=np.dtype(dtype).name,
                        microseconds=1e6 * seconds / batch,
                        gap_p999=float(np.percentile(gaps, 99.9)),
                        gap_max=float(gaps.max()),
                        compile_s=compile_s,
                    )


def accuracy_section(settings: Settings) -> Iterator[Row]:
    """True gaps over many random problems, and whether every certificate holds."""
    sets = [(kind, num_users) for num_users in settings.users for kind in ("narrow", "wide")]
    sets += [(name, num_users) for name, num_users in _SCENARIOS.items() if num_users in settings.users]
    solve = jax.jit(jax.vmap(allocate))
    with jax.enable_x64(True):
        for name, num_users in sets:
            count = max(512, settings.count * 5 // max(num_users, 5))
            gaps: dict[type, list] = {np.float32: [], np.float64: []}
            invalid, bad, reference = dict.fromkeys(gaps, 0), dict.fromkeys(gaps, 0), 0.0
            for seed in range(-(-count // _CHUNK)):
                size = min(count, _CHUNK)
                if name in ("narrow", "wide"):
                    problem = random_problems(seed, size, num_users, wide=name == "wide")
                else:
                    problem = scenario_problems(name, seed, size)
                best, certified = optimum(problem)
                needed = best > 0  # where nobody asks for anything, every gap is zero
                reference = max(reference, float(certified[needed].max()))
                for dtype, found in gaps.items():
                    answer = solve(as_dtype(problem, dtype))
                    gap = relative_gaps(problem, shares(answer), best)[needed]
                    found.append(gap)
                    bad[dtype] += sum(int((~np.isfinite(leaf)).sum()) for leaf in jax.tree.leaves(answer))
                    invalid[dtype] += int((gap > np.asarray(answer.duality_gap)[needed]).sum())
            for dtype, found in gaps.items():
                everything = np.concatenate(found)
                yield Row(
                    section="accuracy",
                    what=name,
                    users=num_users,
                    batch=everything.size,
                    dtype=np.dtype(dtype).name,
                    gap_p999=float(np.percentile(everything, 99.9)),
                    gap_max=float(everything.max()),
                    note=f"least {everything.min():.0e}; {invalid[dtype]} certificates too low; "
                    f"{bad[dtype]} not finite; reference certified to {reference:.0e}",
                )

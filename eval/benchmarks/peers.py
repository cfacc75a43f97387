"""Another batched solver in JAX: qpax on quadratic programmes of the slot problem's size.

It takes quadratic programmes, not the slot problem, whose uplink needs an exponential cone; so this compares the cost
of a solve, not answers. N users have 4 N variables, three shares and a slowest time each, and 5 N + 2 inequalities:
a stage's time below the slowest, a knee, a full-speed limit, and two budgets.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np

from benchmarks.common import Row, Settings, timed
from jaxmec.extras import optional

_TOLERANCE = 1e-5  # of the solver's residuals; in float32 they stayed above 1e-3 on these programmes
_MOST_NUMBERS = 20_000_000  # in a batch's matrices


def peers_section(settings: Settings) -> Iterator[Row]:
    """Every N and batch whose dense matrices fit."""
    qpax = optional("qpax", "peers")
    solve = jax.vmap(lambda *programme: qpax.solve_qp(*programme, solver_tol=_TOLERANCE))
    for num_users in settings.users:
        for batch in settings.batches:
            programme = _programmes(num_users, batch)
            if programme is None:
                continue
            with jax.enable_x64(True):
                answer, seconds, compile_s = timed(solve, programme, settings)
            converged, iterations = (np.asarray(leaf) for leaf in answer[4:6])
            yield Row(
                section="peers",
                what="qpax",
                users=num_users,
                batch=batch,
                dtype="float64",
                microseconds=1e6 * seconds / batch,
                compile_s=compile_s,
                note=f"{np.mean(converged > 0):.1%} converged to {_TOLERANCE:g}, {iterations.max()} iterations at most",
            )


def _programmes(num_users: int, batch: int) -> tuple[np.ndarray, ...] | None:
    """Random strictly convex programmes (Q, q, A, b, G, h) with an interior; None if too large."""
    n, p = 4 * num_users, 5 * num_users + 2
    if batch * n * (n + p) > _MOST_NUMBERS:
        return None
    rng = np.random.default_rng(0)
    root, limits = rng.normal(size=(batch, n, n)), rng.normal(size=(batch, p, n))
    inside, room = rng.normal(size=(batch, n)), rng.exponential(size=(batch, p))
    return (
        root @ root.swapaxes(1, 2) / n + np.eye(n),
        rng.normal(size=(batch, n)),
        np.zeros((batch, 0, n)),
        np.zeros((batch, 0)),
        limits,
        np.einsum("bpn,bn->bp", limits, inside) + room,
    )

"""Clarabel on the same problems: with its cones built directly, and through a parametrised CVXPY problem."""

from __future__ import annotations

import time
from collections.abc import Iterator

import clarabel
import cvxpy as cp
import jax
import numpy as np
from scipy import sparse

from benchmarks.common import Row, Settings, as_dtype, scenario_problems
from benchmarks.layer import optimum
from jaxmec.allocation import SlotProblem

_USERS_BY_CVXPY = 10  # its canonicalisation grows too slow to repeat beyond


def own_solve_time(p: SlotProblem) -> tuple[float, float]:
    """Clarabel's solve time (s) and objective of one problem (float64 leaves [N] and []).

    Variables are the stage times and, of every user, θ and the waiting time's parts; a power y² w of a share
    y >= w / s is a 3d power cone or a rotated second-order cone, the rate an exponential cone.
    """
    columns = 0
    cost: list[tuple[int, float]] = []
    rows: list[tuple[list[tuple[int, float]], float]] = []  # of A x + slack = b
    cones: list = []

    def variable() -> int:
        nonlocal columns
        columns += 1
        return columns - 1

    def cone(kind: object, *affine: tuple[list[tuple[int, float]], float]) -> None:
        """Each (coefficients, constant) is an entry of the cone."""
        for coefficients, constant in affine:
            rows.append(([(column, -value) for column, value in coefficients], constant))
        cones.append(kind)

    def inverse(numerator: float, y: int) -> int:
        """A variable s with s y >= numerator: || (2 √numerator, s - y) || <= s + y."""
        s = variable()
        cone(
            clarabel.SecondOrderConeT(3),
            ([(s, 1.0), (y, 1.0)], 0.0),
            ([(s, 1.0), (y, -1.0)], 0.0),
            ([], 2.0 * np.sqrt(numerator)),
        )
        return s

    def square(y: int) -> int:
        """A variable v >= y²."""
        v = variable()
        cone(clarabel.SecondOrderConeT(3), ([(v, 1.0)], 1.0), ([(v, 1.0)], -1.0), ([(y, 2.0)], 0.0))
        return v

    def at_least(coefficients: list[tuple[int, float]], constant: float) -> None:
        cone(clarabel.NonnegativeConeT(1), (coefficients, constant))

    requests = p.slot_s * p.arrival_rate_hz
    knee = float(p.knee)
    steep = 0.5 * ((1.0 - knee) ** -2 - 1.0)
    constant = 0.0
    band: list[int] = []
    server: list[int] = []
    for n in range(p.snr.size):
        rate, price = float(p.arrival_rate_hz[n]), float(p.delay_price[n])
        if max(p.device_work_s[n], p.uplink_bits[n], p.server_work_s[n]) <= 0:
            continue
        # Waiting: (1 / (1 - λ b) - 1 - λ b) / (2 λ) + steep · o, with θ = b + o and λ b <= knee.
        below, over, idle = variable(), variable(), variable()
        at_least([(below, -rate)], knee)
        at_least([(over, 1.0)], 0.0)
        at_least([(idle, -1.0), (below, -rate)], 1.0)
        busy = inverse(1.0, idle)
        cost += [(busy, price / (2 * rate)), (below, -price / 2), (over, price * steep)]
        constant -= price / (2 * rate)
        for work, energy, used in (
            (p.device_work_s[n], requests[n] * p.energy_price[n] * p.device_power_w[n], None),
            (p.server_work_s[n], requests[n] * p.server_energy_price * p.server_power_w, server),
        ):
            if work > 0:
                y = variable()
                s = inverse(float(work), y)
                cost += [(s, price), (square(y), float(energy * work))]
                at_least([(below, 1.0), (over, 1.0), (s, -1.0)], 0.0)
                at_least([(y, -1.0)], 1.0)
                if used is not None:
                    used.append(y)
        if p.uplink_bits[n] > 0:
            y, nats = variable(), variable()
            # (-nats, y, y + snr) in the exponential cone: y exp(nats / y) <= y + snr, for nats = y log1p(snr / y).
            cone(
                clarabel.ExponentialConeT(), ([(nats, 1.0)], 0.0), ([(y, 1.0)], 0.0), ([(y, 1.0)], float(p.snr[n]))
            )
            s = inverse(float(p.uplink_bits[n] * np.log(2.0) / p.bandwidth_hz), nats)
            cost += [(s, float(price + requests[n] * p.energy_price[n] * p.tx_power_w[n]))]
            at_least([(below, 1.0), (over, 1.0), (s, -1.0)], 0.0)
            band.append(y)
    for used in (band, server):
        if used:
            at_least([(y, -1.0) for y in used], 1.0)
    entries = [(i, column, value) for i, (row, _) in enumerate(rows) for column, value in row]
    i, j, values = (np.array(part) for part in zip(*entries, strict=True))
    matrix = sparse.csc_matrix((values, (i, j)), shape=(len(rows), columns))
    linear = np.zeros(columns)
    for column, value in cost:
        linear[column] += value
    options = clarabel.DefaultSettings()
    options.verbose = False
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix((columns, columns)), linear, matrix, np.array([b for _, b in rows]), cones, options
    )
    solution = solver.solve()
    failed = str(solution.status) not in ("Solved", "AlmostSolved")
    return solution.solve_time, float("nan") if failed else solution.obj_val + constant


def parametrised(num_users: int) -> tuple[cp.Problem, dict[str, cp.Parameter]]:
    """The slot problem with all three stages in CVXPY's disciplined parametrised form."""
    names = ("device", "uplink", "server", "device_energy", "server_energy", "uplink_price", "price", "snr")
    given = {name: cp.Parameter(num_users, nonneg=True) for name in names}
    y = [cp.Variable(num_users, nonneg=True) for _ in range(3)]
    nats, times = cp.Variable(num_users, nonneg=True), [cp.Variable(num_users, nonneg=True) for _ in range(3)]
    below, over = cp.Variable(num_users, nonneg=True), cp.Variable(num_users, nonneg=True)
    half, wait, knee_s, rate = (cp.Parameter(num_users, nonneg=True) for _ in range(4))
    given |= {"half": half, "wait": wait, "knee_s": knee_s, "rate": rate}
    idle = cp.Variable(num_users, nonneg=True)
    constraints = [
        below <= knee_s,
        idle <= 1 - cp.multiply(rate, below),
        cp.sum(y[1]) <= 1,
        cp.sum(y[2]) <= 1,
        y[0] <= 1,
    ]
    cost = half @ cp.inv_pos(idle) - 0.5 * given["price"] @ below + wait @ over
    constraints += [nats <= -cp.rel_entr(y[1], y[1] + given["snr"])]
    for time_, share, work in zip(times, (y[0], nats, y[2]), ("device", "uplink", "server"), strict=True):
        constraints += [cp.multiply(given[work], cp.inv_pos(share)) <= time_, time_ <= below + over]
    cost += given["price"] @ (times[0] + times[2]) + given["uplink_price"] @ times[1]
    cost += given["device_energy"] @ cp.square(y[0]) + given["server_energy"] @ cp.square(y[2])
    return cp.Problem(cp.Minimize(cost), constraints), given


def clarabel_section(settings: Settings) -> Iterator[Row]:
    """Clarabel's own solve time and CVXPY's wall time, median over a few problems of coinfer10's population."""
    for num_users in settings.users:
        count = max(4, min(64, 640 // num_users))
        problem = as_dtype(scenario_problems("coinfer10", 0, count, num_users), np.float64)
        with jax.enable_x64(True):
            best, _ = optimum(problem)
        results = [own_solve_time(jax.tree.map(lambda leaf, k=k: leaf[k], problem)) for k in range(count)]
        seconds, values = (np.array(column) for column in zip(*results, strict=True))
        gaps = np.abs(values / best - 1.0)
        failures = int(np.isnan(values).sum())
        yield Row(
            section="clarabel",
            what="Clarabel, own solve time",
            users=num_users,
            batch=1,
            dtype="float64",
            microseconds=1e6 * float(np.median(seconds)),
            gap_p999=float(np.nanpercentile(gaps, 99.9)),
            gap_max=float(np.nanmax(gaps)),
            note=f"median of {count}, {failures} failed",
        )
        if num_users > _USERS_BY_CVXPY:
            continue
        model, given = parametrised(num_users)
        steep = 0.5 * ((1.0 - problem.knee) ** -2 - 1.0)
        walls, compile_s = [], float("nan")
        for k in range(min(count, 12)):
            p = jax.tree.map(lambda leaf, k=k: leaf[k], problem)
            device_price = p.slot_s * p.arrival_rate_hz * p.energy_price
            values_of = {
                "device": p.device_work_s,
                "uplink": p.uplink_bits * np.log(2.0) / p.bandwidth_hz,
                "server": p.server_work_s,
                "device_energy": device_price * p.device_power_w * p.device_work_s,
                "server_energy": p.server_energy_price
                * p.server_power_w
                * p.slot_s
                * p.arrival_rate_hz
                * p.server_work_s,
                "uplink_price": p.delay_price + device_price * p.tx_power_w,
                "price": p.delay_price,
                "snr": p.snr,
                "half": 0.5 * p.delay_price / p.arrival_rate_hz,
                "wait": p.delay_price * steep[k],
                "knee_s": p.knee / p.arrival_rate_hz,
                "rate": p.arrival_rate_hz,
            }
            for name, value in values_of.items():
                given[name].value = value
            start = time.perf_counter()
            model.solve(solver=cp.CLARABEL)
            walls.append(time.perf_counter() - start)
        compile_s, walls = walls[0], walls[1:]
        yield Row(
            section="clarabel",
            what="CVXPY, parametrised, wall time",
            users=num_users,
            batch=1,
            dtype="float64",
            microseconds=1e6 * float(np.median(walls)),
            compile_s=compile_s,
            note=f"median of {len(walls)}",
        )

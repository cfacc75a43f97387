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


class _Cones:
    """A cone programme min cost · x, A x + slack = b with slack in cones, put together term by term.

    An affine expression is ([(variable, coefficient), ...], constant).
    """

    def __init__(self) -> None:
        self.cost: list[tuple[int, float]] = []
        self._columns = 0
        self._rows: list[tuple[list[tuple[int, float]], float]] = []
        self._cones: list = []

    def variable(self) -> int:
        self._columns += 1
        return self._columns - 1

    def cone(self, kind: object, *affine: tuple[list[tuple[int, float]], float]) -> None:
        """Each affine expression is an entry of the cone."""
        for coefficients, constant in affine:
            self._rows.append(([(column, -value) for column, value in coefficients], constant))
        self._cones.append(kind)

    def at_least(self, coefficients: list[tuple[int, float]], constant: float) -> None:
        """The affine expression is not negative."""
        self.cone(clarabel.NonnegativeConeT(1), (coefficients, constant))

    def inverse(self, numerator: float, y: int) -> int:
        """A variable s with s y >= numerator: || (2 √numerator, s - y) || <= s + y."""
        s = self.variable()
        self.cone(
            clarabel.SecondOrderConeT(3),
            ([(s, 1.0), (y, 1.0)], 0.0),
            ([(s, 1.0), (y, -1.0)], 0.0),
            ([], 2.0 * np.sqrt(numerator)),
        )
        return s

    def square(self, y: int) -> int:
        """A variable v >= y²."""
        v = self.variable()
        self.cone(clarabel.SecondOrderConeT(3), ([(v, 1.0)], 1.0), ([(v, 1.0)], -1.0), ([(y, 2.0)], 0.0))
        return v

    def solve(self) -> tuple[float, float]:
        """Clarabel's solve time (s) and the optimum, NaN where it failed."""
        entries = [(i, column, value) for i, (row, _) in enumerate(self._rows) for column, value in row]
        i, j, values = (np.array(part) for part in zip(*entries, strict=True))
        shape = (len(self._rows), self._columns)
        linear = np.zeros(self._columns)
        for column, value in self.cost:
            linear[column] += value
        options = clarabel.DefaultSettings()
        options.verbose = False
        solution = clarabel.DefaultSolver(
            sparse.csc_matrix((self._columns, self._columns)),
            linear,
            sparse.csc_matrix((values, (i, j)), shape=shape),
            np.array([b for _, b in self._rows]),
            self._cones,
            options,
        ).solve()
        solved = str(solution.status) in ("Solved", "AlmostSolved")
        return solution.solve_time, solution.obj_val if solved else float("nan")


def own_solve_time(p: SlotProblem) -> tuple[float, float]:
    """Clarabel's solve time (s) and objective of one problem (float64 leaves [N] and []).

    Variables are the stage times and, of every user, θ and the waiting time's parts; a power y² w of a share
    y >= w / s is a 3d power cone or a rotated second-order cone, the rate an exponential cone.
    """
    program, constant = _Cones(), 0.0
    band: list[int] = []
    server: list[int] = []
    for n in range(p.snr.size):
        if max(p.device_work_s[n], p.uplink_bits[n], p.server_work_s[n]) <= 0:
            continue
        below, over = _waiting(program, p, n)
        constant -= float(p.delay_price[n] / (2 * p.arrival_rate_hz[n]))
        device_energy, server_energy = (
            p.energy_price[n] * p.device_power_w[n],
            p.server_energy_price * p.server_power_w,
        )
        for work, energy, used in (
            (p.device_work_s[n], device_energy, None),
            (p.server_work_s[n], server_energy, server),
        ):
            if work > 0:
                share = _computing(program, p, n, float(work), float(energy), below, over)
                program.at_least([(share, -1.0)], 1.0)
                if used is not None:
                    used.append(share)
        if p.uplink_bits[n] > 0:
            band.append(_uplink(program, p, n, below, over))
    for used in (band, server):
        if used:
            program.at_least([(share, -1.0) for share in used], 1.0)
    seconds, value = program.solve()
    return seconds, value + constant


def _waiting(program: _Cones, p: SlotProblem, n: int) -> tuple[int, int]:
    """The parts b and o of θ: (1 / (1 - λ b) - 1 - λ b) / (2 λ) + steep · o, with λ b <= knee."""
    rate, price, knee = float(p.arrival_rate_hz[n]), float(p.delay_price[n]), float(p.knee)
    below, over, idle = program.variable(), program.variable(), program.variable()
    program.at_least([(below, -rate)], knee)
    program.at_least([(over, 1.0)], 0.0)
    program.at_least([(idle, -1.0), (below, -rate)], 1.0)
    steep = 0.5 * ((1.0 - knee) ** -2 - 1.0)
    program.cost += [
        (program.inverse(1.0, idle), price / (2 * rate)),
        (below, -price / 2),
        (over, price * steep),
    ]
    return below, over


def _computing(
    program: _Cones, p: SlotProblem, n: int, work_s: float, energy_price: float, below: int, over: int
) -> int:
    """The share of a computing stage."""
    share = program.variable()
    seconds = program.inverse(work_s, share)
    energy = float(p.slot_s * p.arrival_rate_hz[n]) * energy_price * work_s
    program.cost += [(seconds, float(p.delay_price[n])), (program.square(share), energy)]
    program.at_least([(below, 1.0), (over, 1.0), (seconds, -1.0)], 0.0)
    return share


def _uplink(program: _Cones, p: SlotProblem, n: int, below: int, over: int) -> int:
    """The share of the band."""
    share, nats = program.variable(), program.variable()
    # (-nats, y, y + snr) in the exponential cone: y exp(nats / y) <= y + snr, for nats = y log1p(snr / y).
    program.cone(
        clarabel.ExponentialConeT(),
        ([(nats, 1.0)], 0.0),
        ([(share, 1.0)], 0.0),
        ([(share, 1.0)], float(p.snr[n])),
    )
    seconds = program.inverse(float(p.uplink_bits[n] * np.log(2.0) / p.bandwidth_hz), nats)
    energy_price = p.slot_s * p.arrival_rate_hz[n] * p.energy_price[n] * p.tx_power_w[n]
    program.cost.append((seconds, float(p.delay_price[n] + energy_price)))
    program.at_least([(below, 1.0), (over, 1.0), (seconds, -1.0)], 0.0)
    return share


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
        yield _direct(problem, num_users)
        if num_users <= _USERS_BY_CVXPY:
            yield _by_cvxpy(jax.tree.map(lambda leaf, count=count: leaf[: min(count, 12)], problem), num_users)


def _direct(problems: SlotProblem, num_users: int) -> Row:
    """Problems with leaves [K, ...], their cones built directly."""
    with jax.enable_x64(True):
        best, _ = optimum(problems)
    count = len(problems.slot_s)
    results = [own_solve_time(jax.tree.map(lambda leaf, k=k: leaf[k], problems)) for k in range(count)]
    seconds, values = (np.array(column) for column in zip(*results, strict=True))
    gaps = np.abs(values / best - 1.0)
    return Row(
        section="clarabel",
        what="Clarabel, own solve time",
        users=num_users,
        batch=1,
        dtype="float64",
        microseconds=1e6 * float(np.median(seconds)),
        gap_p999=float(np.nanpercentile(gaps, 99.9)),
        gap_max=float(np.nanmax(gaps)),
        note=f"median of {count}, {int(np.isnan(values).sum())} failed",
    )


def _by_cvxpy(problems: SlotProblem, num_users: int) -> Row:
    """Problems with leaves [K, ...] through one parametrised problem, whose first solution compiles it."""
    model, given = parametrised(num_users)
    walls = []
    for k in range(len(problems.slot_s)):
        for name, value in _parameters(jax.tree.map(lambda leaf, k=k: leaf[k], problems)).items():
            given[name].value = value
        start = time.perf_counter()
        model.solve(solver=cp.CLARABEL)
        walls.append(time.perf_counter() - start)
    compile_s, *walls = walls
    return Row(
        section="clarabel",
        what="CVXPY, parametrised, wall time",
        users=num_users,
        batch=1,
        dtype="float64",
        microseconds=1e6 * float(np.median(walls)),
        compile_s=compile_s,
        note=f"median of {len(walls)}",
    )


def _parameters(p: SlotProblem) -> dict[str, np.ndarray]:
    """What `parametrised` asks for, of one problem."""
    requests = p.slot_s * p.arrival_rate_hz
    device_price, server_price = requests * p.energy_price, requests * p.server_energy_price
    return {
        "device": p.device_work_s,
        "uplink": p.uplink_bits * np.log(2.0) / p.bandwidth_hz,
        "server": p.server_work_s,
        "device_energy": device_price * p.device_power_w * p.device_work_s,
        "server_energy": server_price * p.server_power_w * p.server_work_s,
        "uplink_price": p.delay_price + device_price * p.tx_power_w,
        "price": p.delay_price,
        "snr": p.snr,
        "half": 0.5 * p.delay_price / p.arrival_rate_hz,
        "wait": p.delay_price * 0.5 * ((1.0 - p.knee) ** -2 - 1.0),
        "knee_s": p.knee / p.arrival_rate_hz,
        "rate": p.arrival_rate_hz,
    }

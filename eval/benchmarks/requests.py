"""Every request: the environment at both fidelities, and requests per CPU-second beside other simulators.

The same requests, the environment's own under random cuts, pass a plain NumPy loop and SimPy (`pip install -e
".[simulators]"`), which must find the same departures.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxmec
from benchmarks.common import Row, Settings, scenario_states, without_final_observation
from jaxmec.requests import RequestFidelity, Slot, serve
from jaxmec.rollout import rollout

BATCH = 4096
REPETITIONS = 20
COMPARED_SLOTS = 20  # of the systems whose requests the other simulators get
COMPARED_SYSTEMS = 16
TOLERANCE_S = 1e-3  # float32 against float64, seconds after the start of a run


def requests_section(settings: Settings) -> Iterator[Row]:
    """`step` at both fidelities, timed in turns; then the queues alone, and what others take for them."""
    yield from _steps()
    yield _queues()
    yield from _others()


def _steps() -> Iterator[Row]:
    compiled: dict[str, Any] = {}
    compile_s = {}
    for fidelity in ("stationary", "requests"):
        env, params = jaxmec.make("coinfer10", fidelity=fidelity)
        states, cuts = jax.jit(lambda env=env, params=params: scenario_states(env, params, 0, BATCH))()
        arguments = jax.random.split(jax.random.key(1), BATCH), states, cuts, params
        step = partial(without_final_observation, jax.vmap(env.step, (0, 0, 0, None)))
        start = time.perf_counter()
        compiled[fidelity] = jax.jit(step).lower(*arguments).compile(), arguments
        compile_s[fidelity] = time.perf_counter() - start
    fastest = {fidelity: float("inf") for fidelity in compiled}
    for _ in range(REPETITIONS):
        for fidelity, (function, arguments) in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            fastest[fidelity] = min(fastest[fidelity], time.perf_counter() - start)
    for fidelity, seconds in fastest.items():
        times = seconds / fastest["stationary"]
        yield _row(
            f"env.step, {fidelity}", BATCH, 1e6 * seconds / BATCH, f"{times:.2f} times", compile_s[fidelity]
        )


def _queues() -> Row:
    """Requests of a slot of all systems drawn and served, outside the environment."""
    env, params = jaxmec.make("coinfer10", fidelity="requests")
    assert isinstance(env.fidelity, RequestFidelity)
    users, room = env.num_users, env.fidelity.max_requests
    states, cuts = jax.jit(lambda: scenario_states(env, params, 0, BATCH))()
    decide = jax.jit(jax.vmap(env.decide, (0, 0, None)))
    decision = decide(states, cuts, params)

    def one(key: jax.Array, rate_hz: jax.Array, stage_times: jax.Array) -> tuple[jax.Array, jax.Array]:
        drawn = params.requests.draw(key, params.requests.init(key, users), room)
        nothing = jnp.zeros_like(stage_times)
        slot = Slot(drawn, rate_hz * params.slot_s, params.slot_s, stage_times, nothing, params.deadline_s)
        served = serve(params.requests.intervals, slot)
        return served.count, served.total_s

    arguments = jax.random.split(jax.random.key(2), BATCH), decision.problem.arrival_rate_hz, decision.stage_times
    function = jax.jit(jax.vmap(one)).lower(*arguments).compile()
    count, seconds = np.asarray(function(*arguments)[0]).sum(), float("inf")
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds = min(seconds, time.perf_counter() - start)
    note = f"{count / seconds / 1e6:,.1f} million requests per second, drawn and served"
    return _row("requests alone", BATCH, 1e6 * seconds / BATCH, note)


def _others() -> Iterator[Row]:
    arrivals, services, ours = _recorded()
    total = sum(map(len, arrivals))
    for name, simulate in {"NumPy loop": _numpy_loop, "SimPy": _simpy}.items():
        start = time.perf_counter()
        try:
            found = [simulate(*of) for of in zip(arrivals, services, strict=True)]
        except ModuleNotFoundError as error:
            yield _row(name, 1, float("nan"), f"{error}: not measured")
            continue
        seconds = time.perf_counter() - start
        worst = max(float(np.abs(a - b).max(initial=0.0)) for a, b in zip(found, ours, strict=True))
        if worst > TOLERANCE_S:
            raise AssertionError(f"{name}: departures differ by {worst} s; allowed is {TOLERANCE_S} s")
        note = f"{total / seconds:,.0f} requests per second; {total:,} departures within {worst:.0e} s of ours"
        yield _row(name, 1, 1e6 * seconds / (COMPARED_SLOTS * COMPARED_SYSTEMS), note)


def _recorded() -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Arrivals [M], services [M, 3] and the environment's departures [M, 3] of every user of every system."""
    env, params = jaxmec.make("coinfer10", fidelity="requests")
    assert isinstance(env.fidelity, RequestFidelity)
    env = dataclasses.replace(env, fidelity=dataclasses.replace(env.fidelity, record=True))
    keep = "request_count", "request_arrival_s", "request_departure_s", "stage_times_s"

    def run(key: jax.Array) -> dict[str, jax.Array]:
        def policy(key: jax.Array, state: Any, params: Any) -> jax.Array:
            mask = env.action_mask(state, params)
            return jax.random.categorical(key, jnp.where(mask, 0.0, -jnp.inf)).astype(jnp.int32)

        key_reset, key_run = jax.random.split(key)
        _, state = env.reset(key_reset, params)
        measure = lambda slot: {name: slot.info[name] for name in keep}  # noqa: E731
        return rollout(env, policy, key_run, state, params, COMPARED_SLOTS, measure)[1]

    told = jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(3), COMPARED_SYSTEMS)))
    slot_s, result = float(params.slot_s), ([], [], [])  # type: ignore[var-annotated]
    for system in range(COMPARED_SYSTEMS):
        for user in range(env.num_users):
            counts = told["request_count"][system, :, user]
            parts = [
                (
                    t * slot_s + told["request_arrival_s"][system, t, :count, user].astype(float),
                    np.tile(told["stage_times_s"][system, t, user].astype(float), (count, 1)),
                    t * slot_s + told["request_departure_s"][system, t, :count, user].astype(float),
                )
                for t, count in enumerate(counts)
            ]
            for kept, part in zip(result, zip(*parts, strict=True), strict=True):
                kept.append(np.concatenate(part))
    return result


def _numpy_loop(arrivals: np.ndarray, services: np.ndarray) -> np.ndarray:
    """The recursion, one request after the other."""
    free, departures = np.zeros(3), np.zeros((len(arrivals), 3))
    for number, arrival in enumerate(arrivals):
        departure = arrival
        for stage in range(3):
            departure = max(departure, free[stage]) + services[number, stage]
            free[stage] = departures[number, stage] = departure
    return departures


def _simpy(arrivals: np.ndarray, services: np.ndarray) -> np.ndarray:
    """Three resources, a process per request."""
    import simpy

    calendar = simpy.Environment()
    stages = [simpy.Resource(calendar) for _ in range(3)]
    departures = np.zeros((len(arrivals), 3))

    def request(number: int) -> Iterator[Any]:
        for stage, resource in enumerate(stages):
            with resource.request() as turn:
                yield turn
                yield calendar.timeout(services[number, stage])
            departures[number, stage] = calendar.now

    def source() -> Iterator[Any]:
        for number, arrival in enumerate(arrivals):
            yield calendar.timeout(arrival - calendar.now)
            calendar.process(request(number))

    calendar.process(source())
    calendar.run()
    return departures


def _row(what: str, batch: int, microseconds: float, note: str, compile_s: float = float("nan")) -> Row:
    return Row("requests", what, 10, batch, "float32", microseconds, compile_s=compile_s, note=note)

"""The three queues: against an event-by-event simulation, Friedman's reduction and the theory of M/D/1."""

import heapq
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from jaxmec.requests import Bursty, Frames, Poisson, Replay, Slot, follow, serve

SERVICES = (0.02, 0.05, 0.03)
PROCESSES = {
    "poisson": Poisson(),
    "frames": Frames(jnp.asarray(0.6)),
    "bursty": Bursty(jnp.asarray(4.0), jnp.asarray(8.0)),
    "trace": Replay(jnp.asarray([0.1, 2.0, 0.4, 3.0, 0.2, 0.3])),
}


def play(process, key, rates_hz, stage_times, slot_s=1.0, max_requests=60):
    """Slots of rates [T, N] and stage times [T, N, 3]: served, leaves [T, ...]."""
    num_users = rates_hz.shape[1]

    def slot(carry, of):
        state, backlog_s = carry
        key, rate_hz, times = of
        drawn = process.draw(key, state, max_requests)
        met = Slot(drawn, rate_hz * slot_s, jnp.asarray(slot_s), times, backlog_s, jnp.full(num_users, 0.1))
        served = serve(process.intervals, met, record=True)
        state = process.step(state, drawn, served.count, served.wait)
        return (state, jnp.maximum(served.free_s - slot_s, 0.0)), served

    key_init, key_run = jax.random.split(key)
    start = process.init(key_init, num_users), jnp.zeros((num_users, 3))
    served = jax.lax.scan(slot, start, (jax.random.split(key_run, len(rates_hz)), rates_hz, stage_times))[1]
    return jax.tree.map(np.asarray, served)


def requests_of(served, stage_times, user, slot_s=1.0):
    """Arrivals [M], services [M, 3] and departures [M, 3] of all requests of a user, in absolute time."""
    arrivals, services, departures = [], [], []
    stage_times = np.asarray(stage_times)
    for t, count in enumerate(served.count[:, user]):
        assert served.overflow[t, user] == 0
        arrivals.append(t * slot_s + served.arrival_s[t, :count, user].astype(float))
        departures.append(t * slot_s + served.departure_s[t, :count, user].astype(float))
        services.append(np.tile(stage_times[t, user].astype(float), (count, 1)))
    return np.concatenate(arrivals), np.concatenate(services), np.concatenate(departures)


def event_by_event(arrivals, services):
    """Departures [M, 3] by a calendar of events and three first-come-first-served queues."""
    calendar = [(time, 0, number, 0) for number, time in enumerate(arrivals)]  # time, kind, request, stage
    heapq.heapify(calendar)
    waiting, busy = [[], [], []], [False] * 3
    departures = np.zeros((len(arrivals), 3))

    def begin(now, stage):
        if waiting[stage] and not busy[stage]:
            busy[stage] = True
            number = waiting[stage].pop(0)
            heapq.heappush(calendar, (now + services[number][stage], 1, number, stage))

    while calendar:
        now, kind, number, stage = heapq.heappop(calendar)
        if kind == 1:
            departures[number, stage], busy[stage] = now, False
            begin(now, stage)
            stage += 1
        if stage < 3:
            waiting[stage].append(number)
            begin(now, stage)
    return departures


@pytest.fixture(scope="module")
def varied():
    """Every process under rates and stage times that change from slot to slot; stages are skipped now and then."""
    key_rate, key_time, key_skip, key = jax.random.split(jax.random.key(0), 4)
    shape = 120, 2
    rates_hz = jax.random.uniform(key_rate, shape, minval=2.0, maxval=12.0)
    times = 0.12 * jax.random.uniform(key_time, (*shape, 3)) * (jax.random.uniform(key_skip, (*shape, 3)) > 0.3)
    return times, {name: play(process, key, rates_hz, times) for name, process in PROCESSES.items()}


@pytest.mark.parametrize("name", PROCESSES)
def test_every_request_leaves_every_stage_when_an_event_by_event_simulation_says(varied, name):
    times, served = varied
    for user in range(2):
        arrivals, services, departures = requests_of(served[name], times, user)
        assert len(arrivals) > 300
        expected = event_by_event(arrivals, services)
        np.testing.assert_allclose(departures, expected, atol=1e-3)
        assert np.max(departures[:, -1] - arrivals - services.sum(axis=1)) > 0.2  # there were queues
        again = follow(jnp.asarray(arrivals), jnp.asarray(services), jnp.zeros(3))
        np.testing.assert_allclose(again, expected, atol=1e-3)


@pytest.mark.parametrize("name", PROCESSES)
def test_what_a_slot_tells_of_its_requests_is_what_they_met(varied, name):
    served = varied[1][name]
    delays = served.departure_s[..., -1] - served.arrival_s
    for t, user in itertools.product(range(0, 120, 7), range(2)):
        mine = delays[t, : served.count[t, user], user]
        np.testing.assert_allclose(served.total_s[t, user], mine.sum(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(served.max_s[t, user], mine.max(initial=0.0), rtol=1e-5)
        assert served.late[t, user] == (mine > 0.1).sum()


@pytest.mark.parametrize("name", PROCESSES)
def test_friedman_all_waiting_is_that_before_the_slowest_stage_alone(name):
    rates_hz = jnp.full((40, 6), 12.0)
    orders = np.array(list(itertools.permutations(SERVICES)))  # one user each, who all get the same requests
    process = PROCESSES[name]
    served = play(process, jax.random.key(3), rates_hz, jnp.broadcast_to(jnp.asarray(orders), (40, 6, 3)))
    arrivals = [requests_of(served, np.broadcast_to(orders, (40, 6, 3)), user)[0] for user in range(6)]
    for user, order in enumerate(orders):
        own = arrivals[user]
        departures = np.asarray(
            follow(jnp.asarray(own), jnp.tile(jnp.asarray(order), (len(own), 1)), jnp.zeros(3))
        )
        waits, free = [], 0.0  # of a single queue
        for arrival in own:
            waits.append(max(free - arrival, 0.0))
            free = max(free, arrival) + max(SERVICES)
        np.testing.assert_allclose(departures[:, -1] - own, np.array(waits) + sum(SERVICES), atol=1e-3)
        mine = requests_of(served, np.broadcast_to(orders, (40, 6, 3)), user)[2]
        np.testing.assert_allclose(mine, departures, atol=1e-3)


def test_littles_law_holds_at_every_stage():
    times = jnp.broadcast_to(jnp.asarray(SERVICES), (3000, 1, 3))
    served = play(Poisson(), jax.random.key(1), jnp.full((3000, 1), 14.0), times)
    arrivals, _, departures = requests_of(served, times, 0)
    looks = np.random.default_rng(0).uniform(10.0, 2990.0, 20_000)
    enters = arrivals
    for stage in range(3):
        leaves = departures[:, stage]
        # Whoever looks at random times finds as many as came at that rate and stayed that long.
        found = np.searchsorted(enters, looks) - np.searchsorted(leaves, looks)
        error = 4.0 * found.std() / math.sqrt(len(looks) / 4)  # looks are not quite independent
        assert abs(found.mean() - len(enters) / 3000.0 * np.mean(leaves - enters)) < error
        enters = leaves


def test_no_request_is_lost():
    key = jax.random.key(5)
    process, slots = Frames(jnp.asarray(0.0)), 50
    times = jnp.broadcast_to(
        jnp.asarray([0.3, 0.5, 0.2]), (slots, 4, 3)
    )  # overloaded: 0.5 s of work at 3.1 requests/s
    for room in (8, 2):
        served = play(process, key, jnp.full((slots, 4), 3.1), times, max_requests=room)
        phase = np.asarray(process.init(jax.random.split(key)[0], 4).wait)
        came = np.floor(3.1 * slots - phase) + 1  # ticks of a clock
        total = (served.count + served.overflow).sum(axis=0)
        assert np.abs(total - came).max() <= (0 if room == 8 else 1)
        assert (served.overflow.sum() > 0) == (room == 2)
        # Who has not left by the end is in the system: its work is what keeps the last stage busy.
    served = play(process, key, jnp.full((slots, 4), 3.1), times, max_requests=8)
    for user in range(4):
        arrivals, _, departures = requests_of(served, times, user)
        inside = [np.sum(arrivals < slots)] + [np.sum(departures[:, i] <= slots) for i in range(3)]
        assert inside == sorted(inside, reverse=True)
        assert departures[-1, -1] - slots == pytest.approx(float(served.free_s[-1, user, -1]) - 1.0, abs=1e-3)
        # The slowest stage works without a pause from its first request on.
        assert departures[-1, 1] == pytest.approx(arrivals[0] + 0.3 + 0.5 * len(arrivals), abs=1e-2)


def waiting_probability(time_s, rate_hz, service_s):
    """P(W <= t) in M/D/1. Source: A. K. Erlang (1909); C. D. Crommelin, P.O. Electrical Engineers' J. 25 (1932)."""
    steps = np.arange(math.floor(time_s / service_s) + 1)
    past = rate_hz * (time_s - steps * service_s)
    terms = [
        (-1.0) ** k * x**k / math.factorial(k) * math.exp(x) for k, x in zip(steps.tolist(), past, strict=True)
    ]
    return (1.0 - rate_hz * service_s) * math.fsum(terms)


def test_waiting_times_have_the_distribution_of_md1():
    rate_hz, service_s = 12.0, 0.05
    times = jnp.broadcast_to(jnp.asarray([0.02, service_s, 0.03]), (2000, 4, 3))
    served = play(Poisson(), jax.random.key(2), jnp.full((2000, 4), rate_hz), times)
    sample = []
    for user in range(4):
        arrivals, _, departures = requests_of(served, times, user)
        sample.append((departures[:, -1] - arrivals - 0.1)[100::30])  # so far apart that they are independent
    waits = np.maximum(np.concatenate(sample), 0.0)
    positive = waits[waits > 1e-3]  # times in float32 blur those that did not wait
    at_least = waiting_probability(1e-3, rate_hz, service_s)
    assert len(positive) / len(waits) == pytest.approx(1.0 - at_least, abs=3 * math.sqrt(0.24 / len(waits)))

    def given_wait(t):
        return np.array([(waiting_probability(x, rate_hz, service_s) - at_least) / (1.0 - at_least) for x in t])

    assert len(positive) > 1000
    assert kstest(positive, given_wait).pvalue > 0.01

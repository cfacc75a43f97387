"""Every request through the queues.

protocol.py   what an arrival process of requests is, and what its settings are
poisson.py    independent requests
frames.py     a clock's ticks, with jitter
bursty.py     bursts and pauses
replay.py     the time stamps of a trace
queue.py      three stages, first come first served
fidelity.py   the environment at this fidelity: `jaxmec.make(..., fidelity="requests")`
sketch.py     quantiles of any number of delays in fixed memory
waiting.py    the factor on the formula's waiting time: `fit_waiting_scale`
study.py      percentiles, misses and backlog with confidence intervals: `simulate_requests`

A new process is one file and one line of `REQUESTS`; a scenario names it as `requests: {process: NAME, ...}` with the
fields of its settings.
"""

from jaxmec.requests.bursty import Bursty, BurstySettings
from jaxmec.requests.fidelity import RequestFidelity
from jaxmec.requests.frames import Frames, FramesSettings
from jaxmec.requests.poisson import Poisson, PoissonSettings
from jaxmec.requests.protocol import RequestArrivals, RequestSettings
from jaxmec.requests.queue import Served, Slot, follow, serve
from jaxmec.requests.replay import Replay, ReplaySettings
from jaxmec.requests.sketch import LogHistogram
from jaxmec.requests.study import Estimate, RequestReport, StudyConfig, compare_requests, simulate_requests
from jaxmec.requests.waiting import WaitingFit, fit_waiting_scale, mean_delays

REQUESTS: dict[str, type[RequestSettings]] = {
    "poisson": PoissonSettings,
    "frames": FramesSettings,
    "bursty": BurstySettings,
    "trace": ReplaySettings,
}

__all__ = [
    "REQUESTS",
    "Bursty",
    "BurstySettings",
    "Estimate",
    "Frames",
    "FramesSettings",
    "LogHistogram",
    "Poisson",
    "PoissonSettings",
    "Replay",
    "ReplaySettings",
    "RequestArrivals",
    "RequestFidelity",
    "RequestReport",
    "RequestSettings",
    "Served",
    "Slot",
    "StudyConfig",
    "WaitingFit",
    "compare_requests",
    "fit_waiting_scale",
    "follow",
    "mean_delays",
    "serve",
    "simulate_requests",
]

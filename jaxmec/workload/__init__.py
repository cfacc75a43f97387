"""Arrival processes: how many requests per second each user issues, slot by slot.

Within a slot arrivals are Poisson; a process moves their rate between slots.

protocol.py   what an arrival process is, and what its settings are
constant.py   a rate drawn once per episode
uniform.py    a fresh rate in every slot
markov.py     two rates, switched at random
diurnal.py    a sinusoid
trace.py      a recorded sequence, and reading one from a file of request times
fit.py        two rates fitted to recorded request times

A new process is one file and one line of `ARRIVALS`; a scenario names it as `arrivals: {process: NAME, ...}` with
the fields of its settings.
"""

from jaxmec.workload.constant import Constant, ConstantSettings
from jaxmec.workload.diurnal import Diurnal, DiurnalSettings
from jaxmec.workload.fit import MarkovFit, fit_markov
from jaxmec.workload.markov import Markov, MarkovSettings
from jaxmec.workload.protocol import Arrivals, ArrivalSettings
from jaxmec.workload.trace import Trace, TraceSettings, load_request_times, load_trace
from jaxmec.workload.uniform import Uniform, UniformSettings

ARRIVALS: dict[str, type[ArrivalSettings]] = {
    "constant": ConstantSettings,
    "uniform": UniformSettings,
    "markov": MarkovSettings,
    "diurnal": DiurnalSettings,
    "trace": TraceSettings,
}

__all__ = [
    "ARRIVALS",
    "ArrivalSettings",
    "Arrivals",
    "Constant",
    "ConstantSettings",
    "Diurnal",
    "DiurnalSettings",
    "Markov",
    "MarkovFit",
    "MarkovSettings",
    "Trace",
    "TraceSettings",
    "Uniform",
    "UniformSettings",
    "fit_markov",
    "load_request_times",
    "load_trace",
]

"""Radio channels of the uplink: where users are, and how the power gain of each moves from slot to slot.

protocol.py       what a channel is, and what every radio section of a scenario says
path_loss.py      what a path-loss law is; log-distance
fading.py         small-scale fading, and how it decorrelates under Doppler shift
gauss_markov.py   users that stand, under log-distance path loss
tr38901.py        users that stand, under 3GPP's urban path loss
movement.py       random waypoint and Gauss-Markov movement
mobility.py       users that move, under either path loss
trace.py          recorded capacity
link.py           from gain to signal-to-noise ratio or from a recording to capacity, and rates

A new channel is one file and one line of `CHANNELS`; a scenario names it as `radio: {process: NAME, ...}` with the
fields of its settings.
"""

from jaxmec.channel.fading import Fading, bessel_j0, doppler_correlation
from jaxmec.channel.gauss_markov import GaussMarkov, GaussMarkovRadio
from jaxmec.channel.link import quality, snr, uplink_rate
from jaxmec.channel.mobility import PATH_LOSSES, Mobility, MobilityRadio
from jaxmec.channel.movement import MOVEMENTS, GaussMarkovMovement, Movement, RandomWaypoint
from jaxmec.channel.path_loss import LogDistance, PathLoss, mean_gain
from jaxmec.channel.protocol import CapacityChannel, Channel, Radio
from jaxmec.channel.tr38901 import UrbanPathLoss, UrbanPathLossSettings, UrbanRadio
from jaxmec.channel.trace import (
    CapacityTrace,
    TraceRadio,
    load_packet_times,
    load_rates,
    load_throughput,
)

CHANNELS: dict[str, type[Radio]] = {
    "gauss_markov": GaussMarkovRadio,
    "tr38901": UrbanRadio,
    "mobility": MobilityRadio,
    "trace": TraceRadio,
}

__all__ = [
    "CHANNELS",
    "MOVEMENTS",
    "PATH_LOSSES",
    "CapacityChannel",
    "CapacityTrace",
    "Channel",
    "Fading",
    "GaussMarkov",
    "GaussMarkovMovement",
    "GaussMarkovRadio",
    "LogDistance",
    "Mobility",
    "MobilityRadio",
    "Movement",
    "PathLoss",
    "Radio",
    "RandomWaypoint",
    "TraceRadio",
    "UrbanPathLoss",
    "UrbanPathLossSettings",
    "UrbanRadio",
    "bessel_j0",
    "doppler_correlation",
    "load_packet_times",
    "load_rates",
    "load_throughput",
    "mean_gain",
    "quality",
    "snr",
    "uplink_rate",
]

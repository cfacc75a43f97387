"""Radio channels of the uplink: where users are, and how the power gain of each moves from slot to slot.

protocol.py       what a channel is, and what every radio section of a scenario says
gauss_markov.py   path loss, log-normal shadowing, Gauss-Markov fading
link.py           from gain to signal-to-noise ratio, and from that to a rate

A new channel is one file and one line of `CHANNELS`; a scenario names it as `radio: {process: NAME, ...}` with the
fields of its settings.
"""

from jaxmec.channel.gauss_markov import GaussMarkov, GaussMarkovRadio
from jaxmec.channel.link import snr, uplink_rate
from jaxmec.channel.protocol import Channel, Radio

CHANNELS: dict[str, type[Radio]] = {
    "gauss_markov": GaussMarkovRadio,
}

__all__ = ["CHANNELS", "Channel", "GaussMarkov", "GaussMarkovRadio", "Radio", "snr", "uplink_rate"]

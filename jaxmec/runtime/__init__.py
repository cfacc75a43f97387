"""Two processes, a device and a server, that run the halves of a cut and measure what the formulas predict."""

from jaxmec.runtime.device import Device, LostError, Record, RefusedError, StageTimes
from jaxmec.runtime.files import Folder, export_halves, load_half
from jaxmec.runtime.halves import Half, Model, Source, load_model
from jaxmec.runtime.link import TokenBucket
from jaxmec.runtime.messages import ProtocolError
from jaxmec.runtime.report import Report, arrivals, tandem_delays_s
from jaxmec.runtime.server import Server

__all__ = [
    "Device",
    "Folder",
    "Half",
    "LostError",
    "Model",
    "ProtocolError",
    "Record",
    "RefusedError",
    "Report",
    "Server",
    "Source",
    "StageTimes",
    "TokenBucket",
    "arrivals",
    "export_halves",
    "load_half",
    "load_model",
    "tandem_delays_s",
]

"""Where should this network be cut? Prints its cut table and the answer, and draws both.

jaxmec profile resnet50 --device raspberry_pi_4 --server epyc_7742 --bandwidth 2e6 --snr-db 20
jaxmec profile my_package.my_module:my_model --rate 10e6 --out mine.png --save mine.json
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxmec import devices, profiles
from jaxmec.devices import Device
from jaxmec.profiles import PartitionProfile, Stages
from jaxmec.profiles.choice import OBJECTIVES, Choice, Costs, choose
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.figures.best_cuts import best_cuts

_RATES_BPS = np.logspace(4, 10, 241)  # of the verdicts
_SHOWN = (1 / 16, 1 / 4, 1, 4, 16)  # rates of the printed answer, over the given one


@dataclasses.dataclass(frozen=True)
class Flags:
    """Cut table of a network, and its best cuts between a device and a server over an uplink."""

    network: tyro.conf.Positional[str]
    """A name such as resnet50, a profile's .json file, or MODULE:FUNCTION. The function is called without
    arguments and returns (fn, params, *inputs) as `jaxmec.profiles.profile` takes them, shapes instead of arrays
    suffice; or a PartitionProfile."""
    device: str = "raspberry_pi_4"
    """Class of device that runs the rows up to the cut, see jaxmec/devices.yaml; or a .yaml file of one's own."""
    server: str = "epyc_7742"
    """Class of device that runs the rest, likewise."""
    bandwidth: Annotated[float, tyro.conf.arg(metavar="HZ")] = 2e6
    """Of the uplink."""
    snr_db: float = 20.0
    """Signal to noise over that bandwidth: the uplink carries bandwidth · log2(1 + snr) bits per second."""
    rate: Annotated[float | None, tyro.conf.arg(metavar="BPS")] = None
    """Uplink rate, bits per second, instead of bandwidth and snr."""
    wire_bits: Literal[8, 16, 32] = 8
    """Bits per floating-point number that crosses."""
    per_channel: bool = False
    """Quantise with a scale per channel instead of one per array."""
    input_bits: float | None = None
    """Bits of a raw input, if other than the network's own."""
    downlink_bits: float | None = None
    """Bits that return wherever the server runs the last layer, if other than the network's own."""
    downlink_rate: Annotated[float, tyro.conf.arg(metavar="BPS")] = math.inf
    """Of the downlink, bits per second."""
    round_trip: Annotated[float, tyro.conf.arg(metavar="S")] = 0.0
    """Time of an empty message there and back."""
    tx_power: Annotated[float, tyro.conf.arg(metavar="W")] = 0.2
    """Of the device's radio while it sends."""
    max_tensors: int = 1
    """Arrays that may cross at a cut of MODULE:FUNCTION."""
    prune: bool = False
    """Leave out cuts that send no less than an earlier one."""
    out: Path | None = None
    """The picture of the table; NAME.png if absent. The answer's is beside it, NAME-rates.png."""
    save: Path | None = None
    """JSON file to which the cut table is written; it serves as a network in a scenario."""


def main(argv: list[str], program: str = "jaxmec profile") -> int:
    """Run the command; returns the exit status."""
    flags = tyro.cli(Flags, args=argv, prog=program)
    errors, console = terminal(), terminal(stderr=False)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            rate_bps = _rate_bps(flags)
            table = _table(flags)
            device, server = devices.load(flags.device), devices.load(flags.server)
            stages = devices.stage_seconds(
                table, device, server, flags.wire_bits, flags.input_bits, flags.per_channel
            )
        for text in dict.fromkeys(str(one.message) for one in caught if one.category is UserWarning):
            say(errors, f"warning: {text}", style="yellow")
        out = flags.out or Path(f"{table.name.replace('/', '_')}.png")
        between = f"{device.name}, {rate_bps / 1e6:.3g} Mbit/s, {server.name}".replace("_", " ")
        table.plot(stages, rate_bps, out, f"{table.name}: {between}", flags.downlink_rate, flags.round_trip)
        rates = out.with_name(f"{out.stem}-rates{out.suffix}")
        answer = _Answer.of(flags, table, stages, (device, server))
        best_cuts(rates, answer.at(_RATES_BPS), f"{table.name} between {device.name} and {server.name}")
        if flags.save:
            table.save(flags.save)
    except (ValueError, OSError) as error:
        return fail(errors, error)
    _print_cuts(console, flags, table, stages, rate_bps, f"{table.name} between {device.name} and {server.name}")
    _print_answer(console, answer, rate_bps)
    say(console, f"written: {', '.join(str(file) for file in (out, rates, flags.save) if file)}")
    return 0


def _table(flags: Flags) -> PartitionProfile:
    table = _made(flags) if ":" in flags.network else profiles.load(flags.network)
    if flags.downlink_bits is not None:
        table = dataclasses.replace(table, downlink_bits=flags.downlink_bits)
    return table.pruned(flags.wire_bits, flags.input_bits, flags.per_channel) if flags.prune else table


def _made(flags: Flags) -> PartitionProfile:
    """The profile of MODULE:FUNCTION."""
    module_name, _, function_name = flags.network.partition(":")
    sys.path.insert(0, "")
    try:
        made = getattr(importlib.import_module(module_name), function_name)()
    except ModuleNotFoundError as error:
        raise ValueError(f"network: got {flags.network!r}: {error}; allowed is an importable module") from None
    except AttributeError as error:
        raise ValueError(f"network: got {flags.network!r}: {error}") from None
    except Exception as error:
        raise ValueError(f"network: {flags.network} raised {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove("")
    if isinstance(made, PartitionProfile):
        return made
    if not isinstance(made, tuple) or len(made) < 3 or not callable(made[0]):
        raise ValueError(
            f"network: {flags.network} returned {type(made).__name__}; allowed are (fn, params, *inputs) and a "
            "PartitionProfile"
        )
    fn, params, *inputs = made
    options: dict[str, Any] = {"name": function_name, "source": f"traced from {flags.network}"}
    return profiles.profile(fn, params, *inputs, max_tensors=flags.max_tensors, local_outputs=True, **options)


def _rate_bps(flags: Flags) -> float:
    for name in ("bandwidth", "rate", "input_bits"):
        value = getattr(flags, name)
        if value is not None and not (0 < value < math.inf):
            raise ValueError(f"{name}: got {value}; allowed is a finite number above 0")
    for name in ("downlink_bits", "round_trip", "tx_power"):
        value = getattr(flags, name)
        if value is not None and not (0 <= value < math.inf):
            raise ValueError(f"{name}: got {value}; allowed is a finite number of at least 0")
    if not flags.downlink_rate > 0:
        raise ValueError(f"downlink_rate: got {flags.downlink_rate}; allowed is a number above 0")
    if flags.rate is not None:
        return flags.rate
    return flags.bandwidth * math.log2(1 + 10 ** (flags.snr_db / 10))


def _print_cuts(
    console: Console, flags: Flags, table: PartitionProfile, stages: Stages, rate_bps: float, title: str
) -> None:
    """A row per cut, the fastest marked, and the sentence that says it."""
    total = stages.delay_s(rate_bps, flags.downlink_rate, flags.round_trip)
    best = int(np.argmin(total))
    printed = Table(title=f"{title} at {rate_bps / 1e6:.3g} Mbit/s", highlight=False)
    columns = {
        "MMAC": table.macs / 1e6,
        "device ms": 1e3 * stages.device_work_s,
        "kbit": stages.uplink_bits / 1e3,
        "wire ms": 1e3 * (total - stages.device_work_s - stages.server_work_s),
        "server ms": 1e3 * stages.server_work_s,
        "total ms": 1e3 * total,
    }
    if table.device_peak_bytes is not None:
        columns["peak MB"] = table.device_peak_bytes / 1e6
    for header in ("cut", "after", *columns):
        printed.add_column(header, justify="left" if header == "after" else "right", overflow="fold")
    for i, label in enumerate(table.labels):
        numbers = (f"{values[i]:.{1 if name in ('MMAC', 'kbit') else 2}f}" for name, values in columns.items())
        printed.add_row(str(i), label, *numbers, style="bold green" if i == best else "")
    console.print(printed)
    if more := table.more_text():
        say(console, f"{len(table)} cuts; {more}")
    say(
        console,
        f"best cut: {best}, after {table.labels[best]}: {1e3 * total[best]:.2f} ms; all on the server "
        f"{1e3 * total[0]:.2f} ms, all on the device {1e3 * total[-1]:.2f} ms",
    )


@dataclasses.dataclass(frozen=True)
class _Answer:
    """What the best cuts are asked of."""

    table: PartitionProfile
    stages: Stages
    sides: tuple[Device, Device]  # device and server
    costs: Costs

    @classmethod
    def of(cls, flags: Flags, table: PartitionProfile, stages: Stages, sides: tuple[Device, Device]) -> _Answer:
        return cls(
            table, stages, sides, Costs(sides[0].power_w, flags.tx_power, flags.downlink_rate, flags.round_trip)
        )

    @property
    def modelled(self) -> list[Device]:
        """The sides whose seconds come from their latency model."""
        measured = self.table.device_s, self.table.server_s
        return [side for side, seconds in zip(self.sides, measured, strict=True) if seconds is None]

    def at(self, rate_bps: np.ndarray) -> list[Choice]:
        """The best cuts at uplink rates, an objective after the other."""
        measured = self.table.device_s, self.table.server_s
        errors = [
            side.typical_error if seconds is None and math.isfinite(side.typical_error) else 0.0
            for side, seconds in zip(self.sides, measured, strict=True)
        ]
        known = [name for name in OBJECTIVES if name != "memory" or self.table.device_peak_bytes is not None]
        return [choose(self.table, self.stages, rate_bps, self.costs, name, *errors) for name in known]


def _print_answer(console: Console, answer: _Answer, rate_bps: float) -> None:
    """The best cut by objective and uplink rate, what it is worth, and how far the seconds may err."""
    shown = rate_bps * np.array(_SHOWN)
    choices = answer.at(shown)
    printed = Table(title="best cut; loss of the better end / by the model's error", highlight=False)
    for header in ("uplink Mbit/s", *(choice.objective for choice in choices)):
        printed.add_column(header, justify="right")
    for i, rate in enumerate(shown):
        cells = (f"{c.best[i]}; {c.end_loss[i]:.1%} / {c.error_loss[i]:.1%}" for c in choices)
        printed.add_row(f"{rate / 1e6:.3g}", *cells)
    console.print(printed)
    for choice in answer.at(_RATES_BPS):
        say(console, choice.verdict())
    for side in answer.modelled:
        scaled = "; this network's whole time was measured" if answer.table.name in side.measured_s else ""
        say(console, f"{side.error_text()}{scaled}")

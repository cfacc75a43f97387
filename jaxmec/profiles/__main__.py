"""Where should this network be cut? Prints its cut table and draws the picture.

python -m jaxmec.profiles resnet50 --device raspberry_pi_4 --server epyc_7742 --bandwidth 2e6 --snr-db 20
python -m jaxmec.profiles my_package.my_module:my_model --rate 10e6 --out mine.png --save mine.json
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
from jaxmec.profiles import PartitionProfile


@dataclasses.dataclass(frozen=True)
class Flags:
    """Cut table of a network, and its fastest cut between a device and a server over an uplink."""

    network: tyro.conf.Positional[str]
    """A name such as resnet50, a profile's .json file, or MODULE:FUNCTION. The function is called without
    arguments and returns (fn, params, *inputs) as `jaxmec.profiles.profile` takes them, shapes instead of arrays
    suffice; or a PartitionProfile."""
    device: str = "raspberry_pi_4"
    """Class of device that runs the rows up to the cut, see jaxmec/devices.yaml."""
    server: str = "epyc_7742"
    """Class of device that runs the rest."""
    bandwidth: Annotated[float, tyro.conf.arg(metavar="HZ")] = 2e6
    """Of the uplink."""
    snr_db: float = 20.0
    """Signal to noise over that bandwidth: the uplink carries bandwidth · log2(1 + snr) bits per second."""
    rate: Annotated[float | None, tyro.conf.arg(metavar="BPS")] = None
    """Uplink rate, bits per second, instead of bandwidth and snr."""
    wire_bits: Literal[8, 16, 32] = 8
    """Bits per floating-point number that crosses."""
    input_bits: float | None = None
    """Bits of a raw input, if other than the network's own."""
    max_tensors: int = 1
    """Arrays that may cross at a cut of MODULE:FUNCTION."""
    prune: bool = False
    """Leave out cuts that send no less than an earlier one."""
    out: Path | None = None
    """The picture; NAME.png if absent."""
    save: Path | None = None
    """JSON file to which the cut table is written; it serves as a network in a scenario."""


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    flags = tyro.cli(Flags, args=argv, prog="python -m jaxmec.profiles")
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            table = _table(flags)
        for text in dict.fromkeys(str(one.message) for one in caught if one.category is UserWarning):
            errors.print(f"[yellow]warning:[/yellow] {_plain(text)}")
        device, server = devices.load(flags.device), devices.load(flags.server)
        rate_bps = _rate_bps(flags)
        out = flags.out or Path(f"{table.name.replace('/', '_')}.png")
        stages = devices.stage_seconds(table, device, server, flags.wire_bits, flags.input_bits)
        table.plot(stages, rate_bps, out)
        if flags.save:
            table.save(flags.save)
    except (ValueError, OSError) as error:
        errors.print(f"[red]error:[/red] {_plain(str(error))}")
        return 2
    total = stages.delay_s(rate_bps)
    best = int(np.argmin(total))
    printed = Table(
        title=f"{table.name} between {device.name} and {server.name} at {rate_bps / 1e6:.3g} Mbit/s",
        highlight=False,
    )
    for header in ("cut", "after", "MMAC", "device ms", "kbit", "uplink ms", "server ms", "total ms"):
        printed.add_column(header, justify="left" if header == "after" else "right", overflow="fold")
    for i, label in enumerate(table.labels):
        printed.add_row(
            str(i),
            _plain(label),
            f"{table.macs[i] / 1e6:.1f}",
            f"{1e3 * stages.device_work_s[i]:.2f}",
            f"{stages.uplink_bits[i] / 1e3:.1f}",
            f"{1e3 * stages.uplink_bits[i] / rate_bps:.2f}",
            f"{1e3 * stages.server_work_s[i]:.2f}",
            f"{1e3 * total[i]:.2f}",
            style="bold green" if i == best else "",
        )
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(printed)
    console.print(
        f"best cut: {best}, after {_plain(table.labels[best])}: {1e3 * total[best]:.2f} ms; all on the server "
        f"{1e3 * total[0]:.2f} ms, all on the device {1e3 * total[-1]:.2f} ms"
    )
    console.print(f"written: {', '.join(str(file) for file in (out, flags.save) if file)}")
    return 0


def _table(flags: Flags) -> PartitionProfile:
    table = _made(flags) if ":" in flags.network else profiles.load(flags.network)
    return table.pruned(flags.wire_bits, flags.input_bits) if flags.prune else table


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
    if flags.rate is not None:
        return flags.rate
    return flags.bandwidth * math.log2(1 + 10 ** (flags.snr_db / 10))


def _plain(text: str) -> str:
    """Text whose brackets are no markup."""
    return text.replace("[", "\\[")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Run the halves of a network on two processes, and see whether the delay is what the formulas say.

python -m jaxmec.runtime server --model my_module:my_model
python -m jaxmec.runtime device --model my_module:my_model --cut 5 --rate 2 --uplink 20e6 --requests 200
python -m jaxmec.runtime export --model my_module:my_model --cuts 3 5 --out halves
python -m jaxmec.runtime server --halves halves
python -m jaxmec.runtime link --uplink 20e6
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console

from jaxmec.reporting.console import fail, say, terminal
from jaxmec.runtime import (
    Device,
    Folder,
    RefusedError,
    Report,
    Server,
    Source,
    StageTimes,
    arrivals,
    export_halves,
    load_model,
)
from jaxmec.runtime.halves import Model
from jaxmec.runtime.link import event_loop
from jaxmec.runtime.messages import MAX_BYTES
from jaxmec.runtime.namespace import Link, limited_link
from jaxmec.runtime.report import Arrivals, write_records

PORT = 5717
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclasses.dataclass(frozen=True)
class _Network:
    """Where the halves come from: a model, or files of `export`."""

    model: str | None = None
    """MODULE:FUNCTION; the function is called without arguments and returns (fn, params, *inputs), arrays all."""
    halves: Path | None = None
    """Folder of exported halves, instead of a model."""
    wire_bits: Literal[8, 16, 32] = 8
    """Bits per floating-point number that crosses, of a model."""
    max_tensors: int = 1
    """Arrays that may cross at a cut of a model."""
    core: int | None = None
    """Processor core to stay on; all if absent."""

    def source(self) -> Source:
        """Pin the process, before the first program is compiled, and load.

        Raises:
          ValueError: for both or neither of the two, a core that does not exist, or what cannot be loaded.
        """
        if (self.model is None) == (self.halves is None):
            raise ValueError("allowed is one of --model and --halves")
        if self.core is not None:
            try:
                os.sched_setaffinity(0, {self.core})
            except (OSError, OverflowError, ValueError):
                raise ValueError(f"core: got {self.core}; allowed are cores of this machine, from 0") from None
        if self.halves is not None:
            return Folder(self.halves)
        return load_model(str(self.model), _split_bits(self.wire_bits), self.max_tensors)


@dataclasses.dataclass(frozen=True)
class ServerFlags(_Network):
    """Answer devices until told to stop (Ctrl-C, SIGTERM); then answer what waits and leave."""

    host: str = "127.0.0.1"
    """To listen on. Only this machine reaches the default; there is neither authentication nor encryption."""
    port: int = PORT
    """Port to listen on; 0 takes a free one and tells it."""
    queue: int = 256
    """Requests that wait at most."""
    max_message: Annotated[int, tyro.conf.arg(metavar="BYTES")] = MAX_BYTES
    """Longer messages are refused."""


@dataclasses.dataclass(frozen=True)
class DeviceFlags(_Network):
    """Send requests to a server and print predicted beside measured. Ctrl-C ends the requests, not the answers."""

    cut: int = 0
    """Row of the cut table; `jaxmec profile MODULE:FUNCTION` prints it."""
    switch: tuple[str, ...] = ()
    """REQUEST:CUT, such as 100:3: from that request on another cut."""
    rate: Annotated[float, tyro.conf.arg(metavar="HZ")] = 1.0
    """Requests per second."""
    arrivals: Arrivals = "poisson"
    """Random or equal gaps between requests."""
    requests: int = 200
    """How many."""
    uplink: Annotated[float | None, tyro.conf.arg(metavar="BPS")] = None
    """Bits per second that the sender keeps to; what the network gives if absent."""
    burst: Annotated[float, tyro.conf.arg(metavar="BITS")] = 0.0
    """Bits that may leave at once after a pause."""
    inputs: Path | None = None
    """An .npz file with arrays arr_0, arr_1, ..., one for each input, whose first axis counts requests; they are
    taken in turn. The model's own inputs if absent, zeros with --halves."""
    host: str = "127.0.0.1"
    """Of the server."""
    port: int = PORT
    """Of the server."""
    queue: int = 256
    """Requests in the system at most; more are dropped as they arrive."""
    patience: Annotated[float, tyro.conf.arg(metavar="S")] = 30.0
    """Seconds to try to reach a server that is gone."""
    repeats: int = 30
    """Runs of each half alone, from which the delay is predicted."""
    seed: int = 0
    """Of the random gaps."""
    out: Path | None = None
    """CSV file for the times of every request."""


@dataclasses.dataclass(frozen=True)
class ExportFlags:
    """Write halves as files, with which a side runs without the model's code."""

    model: str
    """MODULE:FUNCTION; the function is called without arguments and returns (fn, params, *inputs), arrays all."""
    cuts: tuple[int, ...]
    """Rows of the cut table."""
    out: Path
    """Folder, made if absent."""
    wire_bits: Literal[8, 16, 32] = 8
    """Bits per floating-point number that crosses."""
    max_tensors: int = 1
    """Arrays that may cross at a cut."""
    platforms: tuple[str, ...] | None = None
    """On which the programs shall run, such as cpu cuda; this machine's if absent."""


@dataclasses.dataclass(frozen=True)
class LinkFlags:
    """Lay a real link of a given rate to a network namespace until told to stop (Linux, root)."""

    uplink: Annotated[float, tyro.conf.arg(metavar="BPS")]
    """Bits per second towards the server, headers included."""


def main(argv: list[str]) -> int:
    """Run a command; returns the exit status."""
    flags = tyro.extras.subcommand_cli_from_dict(
        {"server": ServerFlags, "device": DeviceFlags, "export": ExportFlags, "link": LinkFlags},
        args=argv,
        prog="python -m jaxmec.runtime",
        description="Run the halves of a network on two processes.",
    )
    errors, console = terminal(), terminal(stderr=False)
    try:
        match flags:
            case ServerFlags():
                asyncio.run(serve(flags, console))
            case DeviceFlags():
                with asyncio.Runner(loop_factory=event_loop) as runner:
                    runner.run(send(flags, console))
            case ExportFlags():
                model = load_model(flags.model, _split_bits(flags.wire_bits), flags.max_tensors)
                files = export_halves(model, flags.cuts, flags.out, flags.platforms)
                say(console, f"written: {', '.join(map(str, files))}")
            case LinkFlags():
                with limited_link(flags.uplink) as link:
                    asyncio.run(keep(link, console))
    except (ValueError, OSError, RefusedError) as error:
        return fail(errors, error)
    return 0


async def serve(flags: ServerFlags, console: Console) -> None:
    """Run the server until a signal."""
    source = flags.source()
    if flags.host not in LOOPBACK:
        say(console, f"listening beyond this machine, on {flags.host}: whoever reaches it may use it")
    server = Server(source, flags.host, flags.port, queue=flags.queue, max_bytes=flags.max_message)
    stopped = asyncio.Event()
    async with server:
        _on_signals(stopped.set)
        where = f"{server.host}:{server.port}"
        say(console, f"serving {source.name} ({source.digest[:12]}) on {where}")
        sys.stdout.flush()
        await stopped.wait()
    say(console, f"stopped; requests computed: {server.computed}")


async def keep(link: Link, console: Console) -> None:
    """Tell how to use the link, and wait for a signal."""
    stopped = asyncio.Event()
    _on_signals(stopped.set)
    command = "python -m jaxmec.runtime"
    say(console, f"server: {' '.join(link.server_command)} {command} server --host {link.server_host} ...")
    say(console, f"device: {command} device --host {link.server_host} ...")
    sys.stdout.flush()
    await stopped.wait()


async def send(flags: DeviceFlags, console: Console) -> None:
    """Run the device and print its report."""
    times_s = arrivals(flags.arrivals, flags.rate, flags.requests, flags.seed)
    switches = {0: flags.cut} | dict(_switch(text) for text in flags.switch)
    source = flags.source()
    inputs = _inputs(source, flags)
    device = Device(
        source,
        flags.host,
        flags.port,
        uplink_bps=flags.uplink,
        burst_bits=flags.burst,
        queue=flags.queue,
        patience_s=flags.patience,
    )
    async with device:
        predicted = {cut: await device.prepare(cut, flags.repeats) for cut in dict.fromkeys(switches.values())}
        say(console, f"connected to {flags.host}:{flags.port}; halves compiled and timed alone")
        sys.stdout.flush()
        _on_signals(device.stop)
        try:
            await device.run(times_s, inputs, switches)
        finally:
            if flags.out:
                write_records(flags.out, device.records)
            _print(device, predicted, flags, console)


def _print(device: Device, predicted: dict[int, StageTimes], flags: DeviceFlags, console: Console) -> None:
    for cut, times in predicted.items():
        records = sorted((one for one in device.records if one.cut == cut), key=lambda one: one.id)
        if records:
            title = f"cut {cut}: {len(records)} {flags.arrivals} requests at {flags.rate:g} Hz"
            console.print(Report(times, records, flags.rate, flags.arrivals).table(title))
    again = sum(one.attempts > 1 for one in device.records)
    say(
        console,
        f"answered: {len(device.records)}; dropped as the system was full: {device.dropped}; sent again after a "
        f"lost connection: {again}; answers that came twice and were passed over: {device.repeated}",
    )


def _inputs(source: Source, flags: DeviceFlags) -> Iterator[Sequence[np.ndarray]]:
    """What the requests bring, for ever."""
    if flags.inputs is None:
        if isinstance(source, Model):
            return itertools.repeat(source.arrays())
        return itertools.repeat([np.zeros(one.shape, one.dtype) for one in source.head(flags.cut).takes])
    with np.load(flags.inputs, allow_pickle=False) as file:
        arrays = [file[f"arr_{index}"] for index in range(len(file.files))]
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"inputs: {flags.inputs}: got {sorted(lengths)} requests; allowed is one number above 0")
    return itertools.cycle([list(one) for one in zip(*arrays, strict=True)])


def _split_bits(wire_bits: int) -> int | None:
    """As `jaxmec.profiles.split` takes them, which sends floats of 32 bits as they are."""
    return None if wire_bits == 32 else wire_bits


def _switch(text: str) -> tuple[int, int]:
    request, _, cut = text.partition(":")
    try:
        return int(request), int(cut)
    except ValueError:
        raise ValueError(f"switch: got {text!r}; allowed is REQUEST:CUT, such as 100:3") from None


def _on_signals(stop: Callable[[], None]) -> None:
    """The first SIGINT or SIGTERM stops in good order, a second one at once."""
    loop = asyncio.get_running_loop()

    def once() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, once)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

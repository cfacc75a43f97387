"""Does a split network take the time that the formula says? Runs halves on two processes and draws it.

python eval/runtime_validation.py [--seconds S] [--uplink BPS] [--out DIR]

Three networks, five cuts and three loads. Device and server run on a processor core each; the stages of a cut are
timed alone just before its loads, which are shares of what its slowest stage can do.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from jaxmec.profiles.zoo.decoder import Decoder
from jaxmec.profiles.zoo.networks import NETWORKS
from jaxmec.reporting.console import say, terminal
from jaxmec.reporting.figures.runtime import predicted_against_measured
from jaxmec.reporting.files import write_csv
from jaxmec.runtime import Device, Model, Report, arrivals, load_model
from jaxmec.runtime.link import event_loop

PIXELS = {"resnet18": 32, "mobilenet_v2": 64}  # so few that a run of some seconds has hundreds of requests
TOKENS = 64
WARM_UP = 10  # requests before each run
OVERLOADED = 0.95  # utilisation beyond which a mean over some seconds says little
PREDICTIONS = {
    "formula_s": "formula, halves timed alone before the run",
    "run_formula_s": "formula, mean stage times of the run",
    "run_recursion_s": "recursion, every request's own stage times",
}


@dataclasses.dataclass(frozen=True)
class Flags:
    """Measured against predicted delay of split networks on this machine."""

    networks: tuple[str, ...] = ("resnet18", "mobilenet_v2", "decoder")
    """Functions of this file."""
    cuts: int = 5
    """Rows of each cut table, spread evenly from the first to the last."""
    loads: tuple[float, ...] = (0.3, 0.6, 0.8)
    """Utilisations of the slowest stage, as it was timed alone."""
    seconds: float = 12.0
    """Of each run."""
    uplink: Annotated[float, tyro.conf.arg(metavar="BPS")] = 5e6
    """Rate that the sender keeps to."""
    repeats: int = 50
    """Runs of each half alone."""
    cores: tuple[int, int] = (0, 1)
    """Of device and server."""
    seed: int = 0
    """Of the arrivals."""
    out: Path = Path("runs/runtime_validation")
    """Folder for runtime_validation.csv and .png."""


def resnet18() -> tuple:
    """ResNet18 on a small image, random weights."""
    return _image_network("resnet18")


def mobilenet_v2() -> tuple:
    """MobileNetV2 on a small image, random weights."""
    return _image_network("mobilenet_v2")


def decoder() -> tuple:
    """The prefill of a small decoder, random weights."""
    network = Decoder(layers=6, width=256, heads=4, vocabulary=1000, longest=TOKENS)

    def prefill(params, tokens):
        return network.apply(params, tokens, jnp.array(0), network.empty_cache(1, TOKENS))[0]

    tokens = jnp.arange(TOKENS)[None]
    start = jnp.array(0), network.empty_cache(1, TOKENS)
    return prefill, _random_weights(network.init, tokens, *start), tokens


def _image_network(name: str) -> tuple:
    network, image = NETWORKS[name], jnp.ones((1, PIXELS[name], PIXELS[name], 3))
    return network.apply, _random_weights(network.init, image), image


def _random_weights(init: Callable, *inputs) -> dict:
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda one: rng.normal(0, 0.03, one.shape).astype(one.dtype), shapes)


@contextlib.contextmanager
def server(network: str, core: int) -> Iterator[int]:
    """A server process on a core; gives its port."""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "jaxmec.runtime", "server", "--model", f"{Path(__file__).stem}:{network}"),
            *("--core", str(core), "--port", "0"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


async def measure(model: Model, network: str, port: int, flags: Flags) -> list[dict[str, float | str]]:
    """All cuts and loads of one network."""
    rows: list[dict[str, float | str]] = []
    inputs = itertools.repeat(model.arrays())
    last = len(model.table) - 1
    async with Device(model, port=port, uplink_bps=flags.uplink) as device:
        for cut in np.unique(np.linspace(0, last, flags.cuts).round().astype(int)).tolist():
            for load in flags.loads:
                times = await device.prepare(cut, flags.repeats)
                device.cut = cut
                await device.run(np.zeros(WARM_UP), inputs)
                device.records.clear()
                rate_hz = load / max(times.device_s, times.uplink_s, times.server_s)
                requests = max(2, round(rate_hz * flags.seconds))
                await device.run(arrivals("poisson", rate_hz, requests, flags.seed), inputs)
                rows.append(summary(network, cut, load, Report(times, device.records, rate_hz), device.dropped))
                told = "{network}, cut {cut}, load {load}: formula {formula_s:.4f} s, measured {measured_s:.4f} s"
                say(terminal(), told.format(**rows[-1]))
                device.dropped = 0
    return rows


def summary(network: str, cut: int, load: float, report: Report, dropped: int) -> dict[str, float | str]:
    """One run as a row; seconds throughout."""
    mean_s, half_s = report.mean_and_interval_s()
    in_run_s = report.measured_stages_s.mean(axis=0)
    return {
        "network": network,
        "cut": cut,
        "load": load,
        "rate_hz": report.rate_hz,
        "requests": len(report.records),
        "dropped": dropped,
        **dict(zip(("device_s", "uplink_s", "server_s"), report.predicted_stages_s.tolist(), strict=True)),
        **dict(zip(("run_device_s", "run_uplink_s", "run_server_s"), in_run_s.tolist(), strict=True)),
        "run_load": report.rate_hz * float(in_run_s.max()),
        "hand_over_s": float(report.hand_over_s().mean()),
        "formula_s": report.formula_s(),
        "recursion_s": float(report.recursion_s().mean()),
        "run_formula_s": report.formula_s(in_run_s),
        "run_recursion_s": mean_s - float(report.hand_over_s().mean()),
        "measured_s": mean_s,
        "measured_ci95_s": half_s,
        "recursion_p95_s": float(np.quantile(report.recursion_s(), 0.95)),
        "measured_p95_s": float(np.quantile(report.delays_s, 0.95)),
        "message_bytes": float(report.predicted.message_bytes),
        "load_average": os.getloadavg()[0],
    }


def errors(rows: list[dict[str, float | str]], predicted: str) -> np.ndarray:
    """Predicted over measured mean delay, less one, of every run."""
    return np.array([float(row[predicted]) / float(row["measured_s"]) - 1.0 for row in rows])


def main(flags: Flags) -> None:
    """Run, print, write and draw."""
    os.sched_setaffinity(0, {flags.cores[0]})
    flags.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, float | str]] = []
    for network in flags.networks:
        with server(network, flags.cores[1]) as port, asyncio.Runner(loop_factory=event_loop) as runner:
            rows += runner.run(measure(load_model(f"{Path(__file__).stem}:{network}"), network, port, flags))
    write_csv(flags.out / "runtime_validation.csv", rows)
    predicted_against_measured(flags.out / "runtime_validation.png", rows, PREDICTIONS)
    console = terminal(stderr=False)
    on_uplink = [row for row in rows if row["uplink_s"] == max(row["device_s"], row["uplink_s"], row["server_s"])]
    for name, some in (("all", rows), ("those whose slowest stage is the uplink", on_uplink)):
        say(console, f"error of the mean delay in {len(some)} runs, {name}:")
        for column, title in PREDICTIONS.items() if some else ():
            error = np.abs(errors(some, column))
            p50, p90 = np.quantile(error, (0.5, 0.9))
            say(console, f"  {title}: median {p50:.1%}, 90th percentile {p90:.1%}, largest {error.max():.1%}")
    hand_over_ms = 1e3 * np.median([float(row["hand_over_s"]) for row in rows])
    say(console, f"hand-overs, median over the runs: {hand_over_ms:.1f} ms")
    overloaded = sum(float(row["run_load"]) > OVERLOADED for row in rows)
    say(console, f"runs whose slowest stage was busy for more than {OVERLOADED:.0%} of the time: {overloaded}")
    load = np.median([float(row["load_average"]) for row in rows])
    say(console, f"processes running or waiting, median over the runs: {load:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main(tyro.cli(Flags))

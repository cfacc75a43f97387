"""How far does the latency model err on networks that were not measured? Cross-validation on public measurements.

python eval/latency.py ncnn_latency.csv                # prints the errors, draws docs/latency.png
python eval/latency.py ncnn_latency.csv --write-prior  # makes jaxmec/latency_prior.json

The table is ncnn's public benchmark (https://github.com/Tencent/ncnn, benchmark/README.md) as CSV with the columns
device, num_threads, powersave, gpu_device, model and min_ms; see `jaxmec/devices.yaml`.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tyro
from rich.table import Table
from scipy.optimize import nnls

from jaxmec import latency, profiles
from jaxmec.reporting import style
from jaxmec.reporting.console import say, terminal

NETWORKS = {  # name in ncnn's table -> in jaxmec
    "alexnet": "alexnet",
    "vgg16": "vgg16",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet": "mobilenet_v1",
    "mobilenet_v3": "mobilenet_v3",
    "mnasnet": "mnasnet",
    "efficientnet_b0": "efficientnet_b0",
    "shufflenet_v2": "shufflenet_v2",
    "squeezenet": "squeezenet",
    "regnety_400m": "regnet_y_400mf",
    "googlenet": "googlenet",
    "vision_transformer": "vit_b_32_384",
}
SETTING = ("device", "num_threads", "powersave", "gpu_device")
TRANSFORMER = len(NETWORKS) - 1  # whose matrix products run at other rates than pointwise convolutions in ncnn
TRAINING = 5  # the first networks above, whose times come with the package
FOLDS = 5  # of devices
SHOWN = "six constants, five networks measured"  # by network
LINES = (":", "-.", "-", "--")  # of the models
ERROR = 0.1  # standard deviation of log time; 0.07 to 0.15 give the same errors within a percentage point


@dataclasses.dataclass(frozen=True)
class Flags:
    """Cross-validate the latency model."""

    measurements: tyro.conf.Positional[Path]
    """The CSV file."""
    out: Path = Path("docs/latency.png")
    """The figure."""
    write_prior: bool = False
    """Make the prior of the package from all measurements."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Times of N networks in S settings."""

    devices: list[str]  # of every setting
    times_s: np.ndarray  # [S, N], NaN where not measured
    work: np.ndarray  # terms of the networks, [N, 6]


def main(flags: Flags) -> None:
    """Print errors by network and model, and draw them."""
    measured = read(flags.measurements)
    console = terminal(stderr=False)
    if flags.write_prior:
        write_prior(latency.pool(measured.work, measured.times_s, ERROR))
        say(console, f"written: {latency.PRIOR_FILE}")
    errors = {
        "FLOPs alone": held_out(measured, flops_alone),
        "FLOPs, bytes, kernels": held_out(measured, three_constants),
        SHOWN: cross_validated(measured, only_training=True),
        "six constants, all others measured": cross_validated(measured, only_training=False),
    }
    names = list(NETWORKS.values())[TRAINING:]
    table = Table(title=f"median error of {len(measured.times_s)} settings on networks held out, %")
    table.add_column("network", no_wrap=True)
    for model in errors:
        table.add_column(model, justify="right")
    for column, name in enumerate(names):
        table.add_row(name, *(f"{100 * np.nanmedian(np.abs(e[:, column])):.1f}" for e in errors.values()))
    table.add_section()
    for text, statistic in (("median", np.nanmedian), ("mean", np.nanmean), ("90 % within", _nine_tenths)):
        table.add_row(text, *(f"{100 * statistic(np.abs(e)):.1f}" for e in errors.values()))
    console.print(table)
    draw(errors, names, flags.out)
    say(console, f"written: {flags.out}")


def read(path: Path) -> Measured:
    """Settings in which all training networks were measured."""
    settings: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    with path.open() as file:
        for row in csv.DictReader(file):
            if row["model"] in NETWORKS and float(row["min_ms"]) > 0:
                settings[tuple(row[name] for name in SETTING)][row["model"]] = 1e-3 * float(row["min_ms"])
    training = list(NETWORKS)[:TRAINING]
    complete = {setting: times for setting, times in settings.items() if times.keys() >= set(training)}
    return Measured(
        devices=[setting[0] for setting in complete],
        times_s=np.array([[times.get(name, np.nan) for name in NETWORKS] for times in complete.values()]),
        work=np.array([latency.terms(profiles.load(name))[-1] for name in NETWORKS.values()]),
    )


def write_prior(prior: latency.Prior) -> None:
    """As the package reads it."""
    data = {
        "source": "eval/latency.py --write-prior, from ncnn's benchmark table (see devices.yaml)",
        "terms": latency.TERMS,
        "mean": prior.mean.round(4).tolist(),
        "covariance": prior.covariance.round(4).tolist(),
        "error": prior.error,
    }
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in data.items())
    latency.PRIOR_FILE.write_text(f"{{\n{lines}\n}}\n")


def held_out(measured: Measured, fit: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Relative errors on the networks beyond the training ones, each setting fitted by itself: [S, N - 5]."""
    times_s, work = measured.times_s, measured.work
    constants = np.array([fit(work[:TRAINING], times) for times in times_s[:, :TRAINING]])
    return constants @ work[TRAINING:].T / times_s[:, TRAINING:] - 1


def flops_alone(work: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """One rate for all arithmetic, by least squares of the relative errors."""
    flop = work[:, :4].sum(axis=1) / times_s
    return np.array([flop.sum() / (flop**2).sum()] * 4 + [0.0, 0.0])


def three_constants(work: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """One rate for all arithmetic, one for bytes and a time per kernel, likewise and at least 0."""
    relative = np.stack([work[:, :4].sum(axis=1), work[:, 4], work[:, 5]], axis=1) / times_s[:, None]
    scale = np.linalg.norm(relative, axis=0)
    flop, byte, kernel = nnls(relative / scale, np.ones(len(times_s)))[0] / scale
    return np.array([flop] * 4 + [byte, kernel])


def cross_validated(measured: Measured, only_training: bool, predicted: Sequence[int] | None = None) -> np.ndarray:
    """Relative errors of the model on networks held out: [S, P].

    Neither the network nor the device has a part in the prior: for every network it is made from the others on the
    devices of the other folds. The transformer has a part in the prior only.

    Args:
      measured: times.
      only_training: fit a device to the training networks; otherwise to all but the one that is predicted.
      predicted: the P networks that are held out in turn; all beyond the training ones if absent.
    """
    times_s, work = measured.times_s, measured.work
    predicted = range(TRAINING, len(work)) if predicted is None else predicted
    errors = np.full((len(times_s), len(predicted)), np.nan)
    folds = {name: i % FOLDS for i, name in enumerate(dict.fromkeys(measured.devices))}
    fold = np.array([folds[name] for name in measured.devices])
    for column, network in enumerate(predicted):
        others = np.array([i for i in range(len(work)) if i != network])
        for one in range(FOLDS):
            prior = latency.pool(work[others], times_s[fold != one][:, others], ERROR)
            for setting in np.flatnonzero(fold == one):
                known = others[np.isfinite(times_s[setting, others])]
                known = known[known < TRAINING] if only_training else known[known != TRANSFORMER]
                constants = latency.fit(work[known], times_s[setting, known], prior)
                errors[setting, column] = constants @ work[network] / times_s[setting, network] - 1
    return errors


def draw(errors: dict[str, np.ndarray], names: list[str], path: Path) -> None:
    """How often the error is below a size, and the model's errors by network."""
    with style.drawing(path, 1, 2, figsize=(10.0, 4.2)) as (figure, (left, right)):
        for index, (model, values) in enumerate(errors.items()):
            sizes = np.sort(np.abs(values[np.isfinite(values)]))
            part = 100 * np.arange(1, len(sizes) + 1) / len(sizes)
            left.plot(100 * sizes, part, color=style.colour(index), linestyle=LINES[index], label=model)
        left.set(xlim=(0, 100), ylim=(0, 100), xlabel="error at most [%]", ylabel="of predictions [%]")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        columns = [100 * column[np.isfinite(column)] for column in errors[SHOWN].T]
        right.boxplot(
            columns,
            orientation="horizontal",
            whis=(5, 95),
            showfliers=False,
            medianprops={"color": style.colour(1)},
        )
        right.set_yticks(range(1, len(names) + 1), names)
        right.invert_yaxis()  # as in the table
        right.axvline(0, color="0.3", linewidth=0.8)
        right.set_xlabel("modelled over measured - 1 [%]: quartiles, 5 and 95 %")
        right.set_title(SHOWN, fontsize=9)


def _nine_tenths(values: np.ndarray) -> float:
    return float(np.nanpercentile(values, 90))


if __name__ == "__main__":
    main(tyro.cli(Flags))

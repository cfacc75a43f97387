"""What a sweep's file may say, and the settings that it stands for.

A field to sweep is a dotted path: `ppo.learning_rate` is a hyperparameter, by the algorithm's name, everything else
is a field of the scenario's file (`tradeoff`, `radio.bandwidth_hz`, `users[0].energy_budget_j.jetson_nano`), and
`scenario` is the scenario itself. Grid fields are crossed with each other and with the random draws, and every
point of the grid meets the same draws, so differences along the grid are paired.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxmec.agents import PPO, Algorithm
from jaxmec.agents.run import ALGORITHMS, algorithm_name, build_algorithm
from jaxmec.config import LARGEST_SEED, ConfigError, build, number, read_yaml
from jaxmec.scenario import DEFAULT, find

Value = bool | int | float | tuple[float, ...] | dict[str, float] | str
Point = dict[str, Any]  # dotted path -> value

MAX_TRIALS = 1_000_000
BYTES_PER_TRIAL = 1000  # of a row of the table, in memory


@dataclasses.dataclass(frozen=True)
class Space:
    """Values of one field: exactly one of these."""

    grid: tuple[Value, ...] | None = None  # every one of them
    choice: tuple[Value, ...] | None = None  # one of them, drawn
    uniform: tuple[float, float] | None = None  # drawn between low and high
    log_uniform: tuple[float, float] | None = None  # its logarithm drawn uniformly

    def check(self, path: str) -> None:
        """Raise a ConfigError that names `path` unless this is one sensible set of values."""
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        given = {name: values for name, values in named.items() if values is not None}
        if len(given) != 1:
            raise ConfigError(
                f"space.{path}: got {' and '.join(given) or 'nothing'}; allowed is exactly one of "
                f"{', '.join(named)}"
            )
        ((name, values),) = given.items()
        if not values:
            raise ConfigError(f"space.{path}.{name}: got an empty list; at least one value is needed")
        if name in ("uniform", "log_uniform"):
            low, high = values
            if not low < high or (name == "log_uniform" and low <= 0):
                limit = "0 < low < high" if name == "log_uniform" else "low < high"
                raise ConfigError(f"space.{path}.{name}: got [{low}, {high}]; allowed is [low, high] with {limit}")

    def draw(self, rng: np.random.Generator) -> Any:
        """One value of a field that is not on the grid."""
        if self.choice is not None:
            return self.choice[rng.integers(len(self.choice))]
        if self.uniform is not None:
            return float(rng.uniform(*self.uniform))
        assert self.log_uniform is not None
        return float(np.exp(rng.uniform(*np.log(self.log_uniform))))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Held-out episodes under the greedy learned policy, the same ones for every trial."""

    num_envs: int = number(16, at_least=1, at_most=10**6)
    num_slots: int = number(100, at_least=1, at_most=10**9)
    state_every: int = number(10, at_least=1, at_most=10**9)
    """Slots between the states at which the gap is certified."""
    seed: int = number(2**20, at_least=0, at_most=LARGEST_SEED)  # far from training's seeds

    def __post_init__(self) -> None:
        if self.num_slots % self.state_every or self.num_slots == self.state_every:
            raise ConfigError(
                f"evaluation.state_every: got {self.state_every}; allowed is a proper divisor of num_slots = "
                f"{self.num_slots}"
            )


@dataclasses.dataclass(frozen=True)
class Curves:
    """A second figure: metrics against one swept field, a line for each value of another."""

    x: str
    y: tuple[str, ...]
    lines: str | None = None


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """Everything that decides a sweep's results."""

    space: dict[str, Space]
    scenario: str = DEFAULT
    fidelity: Literal["stationary", "requests"] = "stationary"  # see jaxmec.make
    algorithm: Algorithm = dataclasses.field(default_factory=PPO)
    samples: int = number(1, at_least=1, at_most=10**12)  # random draws
    seeds: int = number(3, at_least=1, at_most=10**9)  # training runs of every setting, with seeds 0, 1, ...
    search: Literal["random", "optuna"] = "random"  # where draws come from; optuna learns from earlier trials
    search_seed: int = number(0, at_least=0, at_most=2**63 - 1)
    metric: str = "objective"  # what settings are ranked by: a metric's name, eval_... for a held-out one
    mode: Literal["min", "max"] = "min"
    across: tuple[str, ...] = ()  # grid fields that are tasks: settings are ranked over all of their values
    evaluation: Evaluation | None = None
    curves: Curves | None = None
    chunk: int | None = number(None, at_least=1, at_most=10**9)
    """Trials in one call; as many as fit memory_gb if absent."""
    memory_gb: float | None = number(None, at_least=1e-6, at_most=1e6)
    """Of one chunk; half of what is free if absent."""

    def __post_init__(self) -> None:
        find(self.scenario)
        if not self.space:
            raise ConfigError("space: got an empty mapping; at least one field is needed")
        for path, space in self.space.items():
            space.check(path)
        if self.trials > MAX_TRIALS:
            raise ConfigError(
                f"samples: got {self.samples:,}; with grid and {self.seeds:,} seeds {self.trials:.3g} trials, whose "
                f"table would take {self.trials * BYTES_PER_TRIAL / 1e9:.3g} GB; allowed are {MAX_TRIALS:,} trials"
            )
        drawn = [path for path, space in self.space.items() if space.grid is None]
        if self.search == "optuna" and len(drawn) < len(self.space):
            raise ConfigError(
                f"space.{self.grid_paths[0]}: got grid; search 'optuna' draws every field, allowed are choice, "
                "uniform, log_uniform"
            )
        for path in self.space:
            section = path.partition(".")[0]
            if section in ALGORITHMS and section != self.algorithm_name:
                raise ConfigError(
                    f"space.{path}: got a field of {section}; the algorithm is {self.algorithm_name}"
                )
        if self.samples > 1 and not drawn:
            raise ConfigError(f"samples: got {self.samples}; allowed is 1 where every field is on the grid")
        for path in self.across:
            if path not in self.grid_paths:
                raise ConfigError(f"across: got {path!r}; allowed are grid fields: {', '.join(self.grid_paths)}")
        if self.curves is not None:
            for name in ("x", "lines"):
                path = getattr(self.curves, name)
                if path is not None and path not in self.space:
                    raise ConfigError(f"curves.{name}: got {path!r}; allowed are {', '.join(self.space)}")

    @property
    def algorithm_name(self) -> str:
        """Whose hyperparameters may be swept."""
        return algorithm_name(self.algorithm)

    @property
    def trials(self) -> int:
        """Training runs of the whole sweep."""
        grid = math.prod(len(space.grid) for space in self.space.values() if space.grid is not None)
        return grid * self.samples * self.seeds

    @property
    def grid_paths(self) -> list[str]:
        """Fields on the grid."""
        return [path for path, space in self.space.items() if space.grid is not None]


@dataclasses.dataclass(frozen=True)
class Resources:
    """Where Ray runs, and what each unit of work occupies."""

    address: str | None = None
    """Of a running cluster, or "auto"; a local one is started if absent."""
    cpus: float = number(1.0, at_least=0, at_most=1e6)
    """Cores of each unit of work."""
    gpus: float = number(0.0, at_least=0, at_most=1e6)
    """GPUs of each unit of work; may be a fraction."""


def load(path: str | Path) -> SweepConfig:
    """Read a sweep's file.

    Raises:
      ConfigError: naming file, field, value and what is allowed.
    """
    return build_sweep(read_yaml(path), path)


def build_sweep(data: Mapping[str, Any], source: str | Path) -> SweepConfig:
    """A sweep's configuration from plain data; the algorithm's part is that of a run's file.

    Raises:
      ConfigError: naming source, field, value and what is allowed.
    """
    rest = {name: value for name, value in data.items() if name != "algorithm" and name not in ALGORITHMS}
    return build(SweepConfig, rest, source, given={"algorithm": build_algorithm(data, source)})


def points(config: SweepConfig) -> list[Point]:
    """Every setting of a grid or random search, in a fixed order: the grid's last field moves fastest."""
    rng = np.random.default_rng(config.search_seed)
    drawn = {path: space for path, space in config.space.items() if space.grid is None}
    draws = [{path: space.draw(rng) for path, space in drawn.items()} for _ in range(config.samples)]
    grid = [config.space[path].grid or () for path in config.grid_paths]
    return [
        {path: (dict(zip(config.grid_paths, values, strict=True)) | draw)[path] for path in config.space}
        for values in itertools.product(*grid)
        for draw in draws
    ]


def split(point: Mapping[str, Any], algorithm: str) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
    """A point's scenario (if it names one), its hyperparameters and its scenario fields."""
    prefix = f"{algorithm}."
    own = {path.removeprefix(prefix): value for path, value in point.items() if path.startswith(prefix)}
    fields = {path: v for path, v in point.items() if path != "scenario" and not path.startswith(prefix)}
    return point.get("scenario"), own, fields


def cell(value: Any) -> str:
    """A value's text in a table; numbers survive the way back."""
    return value if isinstance(value, str) else json.dumps(value)


def parse(cells: Mapping[str, str], spaces: Mapping[str, Space]) -> Point:
    """The point whose values have these texts."""
    point: Point = {}
    for path, space in spaces.items():
        listed = space.grid or space.choice
        point[path] = {cell(v): v for v in listed}[cells[path]] if listed else float(cells[path])
    return point

"""Settings built into systems and learners, and grouped by what can share one compilation."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jaxmec.agents import Algorithm
from jaxmec.config import ConfigError, assign, build, read_yaml
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.scenario import find, make
from jaxmec.sweeps.config import Point, SweepConfig, split


@dataclasses.dataclass(frozen=True)
class Setting:
    """One point of the sweep, ready to run."""

    index: int
    point: Point
    env: EdgeInferenceEnv
    params: EnvParams
    algorithm: Algorithm

    def leaves(self) -> list[Any]:
        """Every number that a compilation can take as an argument."""
        return jax.tree.leaves((self.params, self.algorithm))

    def kind(self) -> Any:
        """What a compilation depends on: settings whose kinds are equal can share one."""
        shapes = tuple((np.shape(leaf), getattr(leaf, "dtype", None)) for leaf in self.leaves())
        # By its text: in JAX 0.10 the structures of unlike dataclasses with fields of the same names are equal.
        return self.env, str(jax.tree.structure((self.params, self.algorithm))), shapes


@dataclasses.dataclass(frozen=True)
class Group:
    """Settings of equal shapes and kinds: they differ in numbers only, so one compilation serves all."""

    index: int
    settings: tuple[Setting, ...]

    @functools.cached_property
    def varied(self) -> list[bool]:
        """Per leaf: whether it differs between settings. The others need no trial axis."""
        columns = zip(*(setting.leaves() for setting in self.settings), strict=True)
        return [
            any(leaf is not column[0] and not np.array_equal(leaf, column[0]) for leaf in column)
            for column in columns
        ]

    def trials(self, seeds: int) -> list[Trial]:
        """Every setting with every seed."""
        return [(setting, seed) for setting in self.settings for seed in range(seeds)]


Trial = tuple[Setting, int]  # and its seed


class Builder:
    """Builds settings; systems that several settings share are built once."""

    def __init__(self, config: SweepConfig) -> None:
        self._config = config
        self._systems: dict[str, tuple[EdgeInferenceEnv, EnvParams]] = {}

    def setting(self, index: int, point: Point) -> Setting:
        """The setting of a point.

        Raises:
          ConfigError: if the scenario or the learner refuses the point's values.
        """
        scenario, hyperparameters, fields = split(point, self._config.algorithm_name)
        scenario = self._config.scenario if scenario is None else scenario
        name = repr((scenario, fields))
        try:
            if name not in self._systems:
                overrides = assign(read_yaml(find(scenario)), fields)
                self._systems[name] = make(scenario, fidelity=self._config.fidelity, **overrides)
            env, params = self._systems[name]
            base = self._config.algorithm
            fields_of_it = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}  # type: ignore[arg-type]
            algorithm = build(type(base), fields_of_it | hyperparameters, "space", self._config.algorithm_name)
            algorithm.check(env)
        except ValueError as error:
            values = ", ".join(f"{path}={value}" for path, value in point.items())
            raise ConfigError(f"setting {index} ({values}): {error}") from None
        return Setting(index, point, env, params, algorithm)


def group(settings: Iterable[Setting]) -> list[Group]:
    """Settings that can share a compilation, together; groups in order of their first setting."""
    found: dict[Any, list[Setting]] = {}
    for setting in settings:
        found.setdefault(setting.kind(), []).append(setting)
    return [Group(index, tuple(members)) for index, members in enumerate(found.values())]


def fingerprint(groups: Iterable[Group]) -> str:
    """A digest of every number and kind that the groups hold: equal only if they would give the same results."""
    digest = hashlib.sha256()
    for member in groups:
        for setting in member.settings:
            digest.update(repr((setting.index, setting.point, setting.env, setting.algorithm)).encode())
            for leaf in jax.tree.leaves(setting.params):
                digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()

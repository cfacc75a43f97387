"""Policies against one field of a scenario: the systems that its values make, and what came of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import yaml

from jaxmec.config import ConfigError, assign, quoted, read_yaml
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.evaluation.comparison import Comparison, differing_leaf
from jaxmec.evaluation.tables import Row, paired_rows
from jaxmec.reporting.tables import number, table
from jaxmec.scenario import find, make

if TYPE_CHECKING:
    from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Variation:
    """A field of a scenario's file by its dotted path, and the values that it takes."""

    field: str
    values: tuple[Any, ...]

    def systems(
        self, scenario: str | Path, env: EdgeInferenceEnv, fidelity: str = "stationary"
    ) -> list[EnvParams]:
        """The params of every value, for the scenario's environment.

        Raises:
          ConfigError: naming field and value, where the scenario refuses it or its system has other shapes.
        """
        data = read_yaml(find(scenario))
        made = []
        for value in self.values:
            try:
                made.append(make(scenario, fidelity=fidelity, **assign(data, {self.field: value})))
            except ConfigError as error:
                raise self._error(value, str(error)) from None
        batch = _alike([params for _, params in made])
        for value, (other, _), params in zip(self.values, made, batch, strict=True):
            if difference := _differing_part(env, other) or differing_leaf(batch[0], params):
                raise self._error(value, f"{difference}: only what changes no shape and no kind can be varied")
        return batch

    def _error(self, value: Any, what: str) -> ConfigError:
        return ConfigError(f"vary: {self.field}={label(value)}: {what}")


def parse_variation(text: str) -> Variation:
    """A variation from "radio.bandwidth_hz=5e6,10e6".

    Raises:
      ConfigError: if it is none.
    """
    field, _, listed = text.partition("=")
    try:
        values = [_plain(value) for value in yaml.safe_load(f"[{listed}]")]
    except (yaml.YAMLError, ValueError, TypeError):
        values = []
    if not field or not values:
        raise ConfigError(
            f"vary: got {quoted(text)}; allowed is FIELD=VALUE,VALUE, as radio.bandwidth_hz=5e6,10e6"
        )
    labels = [label(value) for value in values]
    for one in labels:
        if labels.count(one) > 1:
            raise ConfigError(f"vary: {field}: got {one} twice; allowed is each value once")
    return Variation(field, tuple(values))


def label(value: Any) -> str:
    """A value's text in tables and messages, the shorter one of 20000000 and 2e7."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    exponent = f"{value:g}".replace("e+0", "e").replace("e-0", "e-")
    return exponent if float(exponent) == value else f"{value:.10g}"


# Params that are left out where they would change nothing, and what they are then.
_NEUTRAL = {"waiting_scale": 1.0, "backlog_weight": 0.0, "return_s": 0.0}


def _alike(batch: list[EnvParams]) -> list[EnvParams]:
    """The same systems, with params that one of them tells told in all."""
    for name, neutral in _NEUTRAL.items():
        told = next((leaf for params in batch if (leaf := getattr(params, name)) is not None), None)
        if told is not None:
            left_out = jnp.full_like(told, neutral)
            batch = [
                params.replace(**{name: left_out}) if getattr(params, name) is None else params for params in batch
            ]
    return batch


def _differing_part(env: EdgeInferenceEnv, other: EdgeInferenceEnv) -> str | None:
    """What of another environment a compilation for this one would not take, "num_users: got 5; allowed is 4"."""
    for field in dataclasses.fields(env):
        got, allowed = getattr(other, field.name), getattr(env, field.name)
        if field.compare and got != allowed:
            return f"{field.name}: got {got}; allowed is {allowed}"
    return None


def variation_rows(variation: Variation, comparisons: Sequence[Comparison]) -> list[Row]:
    """One row per value and policy, see `jaxmec.evaluation.tables.paired_rows`."""
    return [
        {variation.field: label(value)} | row | {"scenario": comparison.scenario}
        for value, comparison in zip(variation.values, comparisons, strict=True)
        for row in paired_rows(comparison)
    ]


def variation_table(variation: Variation, rows: Sequence[Row], comparison: Comparison) -> Table:
    """The rows for a terminal of eighty columns."""
    body, last = [], None
    for row in rows:
        over = 100 * float(row["over_reference"]), 100 * float(row["over_reference_ci95"])
        body.append(
            [
                "" if row[variation.field] == last else row[variation.field],
                row["policy"],
                f"{row['delay_s']:.4g} {number(float(row['delay_s_ci95']), '± {:.2g}')}",
                f"{row['long_run_gap']:.1%}",
                "" if row["policy"] == comparison.reference else f"{over[0]:+.1f} {number(over[1], '± {:.1f}')}",
                f"{row['device_energy']:.3f}",
                f"{row['server_energy']:.3f}",
            ]
        )
        last = row[variation.field]
    return table(
        f"{comparison.scenario} against {variation.field}: long-run gap, delay at equal energy over "
        f"{comparison.reference}'s (paired), energies over budgets",
        ["value", "policy", "delay [s]", "gap", "over [%]", "device", "server"],
        body,
        left=2,
    )


def _plain(value: Any) -> Any:
    """A number where a text is one: YAML reads 5e6, which has no dot, as a text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        found = float(value) if isinstance(value, str | float) else None
    except ValueError:
        return value
    if found is None:
        return value
    if not math.isfinite(found):
        raise ValueError(value)
    return found

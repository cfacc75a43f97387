"""Strict configuration: YAML files into frozen dataclasses, with errors that tell what is allowed.

A dataclass is its own schema: field types are checked, unknown and missing fields are named, and limits
stand beside the field (`number(1.0, above=0)`). A part of a system that comes in kinds is a field that names one
of several dataclasses (`kind(ARRIVALS, "uniform")`). Every error names the source, the field, the value and what is
allowed.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import yaml

T = TypeVar("T")
_REQUIRED: Any = dataclasses.MISSING


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names source, field, value and what is allowed."""


def number(
    default: Any = _REQUIRED,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    """A dataclass field with limits, applied to every number it holds (itself, its items or its values)."""
    limits = {"above": above, "at_least": at_least, "at_most": at_most}
    metadata = {k: v for k, v in limits.items() if v is not None}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def kind(kinds: Mapping[str, type], default: str) -> Any:
    """A dataclass field that is one of several dataclasses, which the entry `process` of its mapping names.

    Args:
      kinds: name -> dataclass.
      default: the name that is meant where there is no entry. The field itself has a default if this one's fields
        all have.
    """
    metadata = {"kinds": kinds, "default": default}
    needed = [f for f in dataclasses.fields(kinds[default]) if _has_no_default(f)]
    if needed:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default_factory=kinds[default], metadata=metadata)


def default_float(value: Any) -> jax.Array:
    """An array of the default float type (float64 only if JAX has it enabled)."""
    return jnp.asarray(np.asarray(value), float)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
      ConfigError: if the file is missing, is no YAML, or holds something else.
    """
    try:
        data = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold a mapping of fields, but holds {type(data).__name__}")
    return data


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it; nested mappings are merged, everything else is replaced."""
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merge(old, value)
        merged[name] = value
    return merged


def build(
    cls: type[T],
    data: Mapping[str, Any],
    source: str | Path,
    field: str = "",
    given: Mapping[str, Any] | None = None,
) -> T:
    """Make a `cls` from plain data.

    Args:
      cls: a dataclass whose fields are float, int, bool, str, Path, Literal, tuple, dict[str, ...], Optional
        or dataclasses.
      data: field names to plain values, as YAML gives them.
      source: where the data comes from, for messages.
      field: the path of `data` inside its source, for messages.
      given: fields that the caller has made, as they are.

    Raises:
      ConfigError: on an unknown or missing field, a wrong type, or a value outside its limits.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: {field}: must be a mapping of fields, got {data!r}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for name in data:
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                f"{source}: {_join(field, name)}: unknown field (value {data[name]!r}); "
                f"allowed are {', '.join(fields) or 'none'}{hint}"
            )
    values = dict(given or {})
    for name, spec in fields.items():
        where = _join(field, name)
        if name in values:
            continue
        if name in data and "kinds" in spec.metadata:
            values[name] = _build_kind(spec.metadata, data[name], source, where)
        elif name in data:
            values[name] = _convert(hints[name], data[name], source, where)
            _check_limits(values[name], spec.metadata, source, where)
        elif _has_no_default(spec):
            raise ConfigError(f"{source}: {where}: missing; it has no default")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _build_kind(metadata: Mapping[str, Any], data: Any, source: str | Path, where: str) -> Any:
    """The dataclass that `process` names, of the other entries."""
    kinds: Mapping[str, type] = metadata["kinds"]
    if isinstance(data, tuple(kinds.values())):
        return data
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: {where}: must be a mapping of fields, got {data!r}")
    fields = dict(data)
    name = fields.pop("process", metadata["default"])
    if not isinstance(name, str) or name not in kinds:
        raise ConfigError(
            f"{source}: {where}.process: got {name!r}; allowed is one of {', '.join(map(repr, kinds))}"
        )
    return build(kinds[name], fields, source, where)


def _convert(hint: Any, value: Any, source: str | Path, where: str) -> Any:
    """`value` as the type `hint` says."""

    def fail(allowed: str) -> typing.NoReturn:
        raise ConfigError(f"{source}: {where}: got {value!r}; allowed is {allowed}")

    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        options = [option for option in args if option is not type(None)]
        for option in options:
            try:
                return _convert(option, value, source, where)
            except ConfigError:
                if option is options[-1]:
                    raise
    if origin is typing.Literal:
        return value if value in args else fail("one of " + ", ".join(map(repr, args)))
    if origin is tuple:
        if not isinstance(value, list | tuple):
            fail("a list")
        if args[-1] is not Ellipsis and len(value) != len(args):
            fail(f"a list of {len(args)} values")
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return tuple(
            _convert(k, v, source, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, Mapping):
            fail("a mapping")
        return {str(k): _convert(args[1], v, source, _join(where, k)) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, source, where)  # type: ignore[arg-type]
    if hint is float:
        try:  # PyYAML reads 3e-4, which has no dot, as a string
            number = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = float("nan")
        return number if math.isfinite(number) else fail("a finite number")
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        fail({int: "a whole number", str: "a text", bool: "true or false"}.get(hint, str(hint)))
    return value


def _check_limits(value: Any, limits: Mapping[str, float], source: str | Path, where: str) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_limits(item, limits, source, _join(where, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            _check_limits(item, limits, source, f"{where}[{index}]")
    elif isinstance(value, int | float):
        checks = [
            ("above", "above", value > limits.get("above", -float("inf"))),
            ("at_least", "at least", value >= limits.get("at_least", -float("inf"))),
            ("at_most", "at most", value <= limits.get("at_most", float("inf"))),
        ]
        if not all(holds for name, _, holds in checks if name in limits):
            allowed = " and ".join(f"{text} {limits[name]}" for name, text, _ in checks if name in limits)
            raise ConfigError(f"{source}: {where}: got {value!r}; allowed is a number {allowed}")


def _join(field: str, name: Any) -> str:
    return f"{field}.{name}" if field else str(name)

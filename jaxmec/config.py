"""Strict configuration: YAML files into frozen dataclasses, with errors that tell what is allowed.

A dataclass is its own schema: field types are checked, unknown and missing fields are named, and limits
stand beside the field (`number(1.0, above=0, at_most=10)`). A part of a system that comes in kinds is a field that
names one of several dataclasses (`kind(ARRIVALS, "uniform")`). Every error is one line that names the source, the
field, the value and what is allowed.

Files may come from anybody. `read_yaml` and `read_json` make texts, numbers, lists and mappings of them and nothing
else: no code runs, and what would take too much memory or time is refused before it does.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import itertools
import json
import math
import operator
import os
import re
import stat
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import yaml

T = TypeVar("T")
_REQUIRED: Any = dataclasses.MISSING

LONGEST_MESSAGE = 300  # characters
LARGEST_SEED = 2**32 - 1  # JAX keeps 32 bits of a seed
_LONGEST_QUOTE = 60  # of a value in a message
_LARGEST_YAML = 200_000  # bytes; a hundred times a scenario
_LARGEST_JSON = 5_000_000  # a thousand times a profile
_DEEPEST = 20  # lists and mappings within each other
_EXACT = 2**53  # whole numbers below it are floats without rounding


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names source, field, value and what is allowed."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


def one_line(message: object) -> str:
    """A message as one printable line; of a long one both ends are kept."""
    line = " ".join(str(message).split())
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    if len(line) <= LONGEST_MESSAGE:
        return line
    tail = LONGEST_MESSAGE // 3
    return f"{line[: LONGEST_MESSAGE - tail - 5]} ... {line[-tail:]}"


def quoted(value: object) -> str:
    """A value in a message, no longer than it has to be."""
    if isinstance(value, np.generic):
        value = value.item()
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of thousands of digits
        text = f"a {type(value).__name__} too long to write"
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 3]}..."


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
      ConfigError: if the file cannot be read, is no plain YAML (aliases, tags of its own, a key twice), or holds
        something else.
    """
    text = _read_text(path, _LARGEST_YAML)
    try:
        _check_structure(text)
        data = yaml.load(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        where = _line(error.problem_mark or error.context_mark)
        raise ConfigError(f"{path}: not valid YAML: {where}{error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        # PyYAML's constructors raise all of these, for `!!int x` or a number of thousands of digits.
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold a mapping of fields, but holds {type(data).__name__}")
    return data


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
      ConfigError: if the file cannot be read, is no JSON (NaN is none), names a field twice, or holds something
        else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{quoted(twice)} is given twice")
        return fields

    def refused(name: str) -> typing.NoReturn:
        raise ValueError(f"{name} is no number")

    text = _read_text(path, _LARGEST_JSON)
    try:
        data = json.loads(text, object_pairs_hook=unique, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold an object, but holds {type(data).__name__}")
    return data


def check_file(path: str | Path, largest: int) -> None:
    """Refuse what is no file of an ordinary size, before anything waits for it or takes memory for it.

    Raises:
      OSError: if it cannot be looked at.
      ConfigError: naming the file and what is allowed.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path}: cannot be read: no ordinary file")
    if found.st_size > largest:
        raise ConfigError(f"{path}: has {found.st_size:,} bytes; allowed are at most {largest:,}")


def _read_text(path: str | Path, largest: int) -> str:
    try:
        check_file(path, largest)
        with open(path, "rb") as file:
            return file.read(largest).decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: cannot be read: not UTF-8 text") from None
    except ConfigError:
        raise
    except ValueError:  # a zero byte in the path
        raise ConfigError(f"{quoted(str(path))}: cannot be read: no path") from None


_YAML_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")
_TAG = "tag:yaml.org,2002:"


class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Texts, numbers, lists and mappings of texts; a date is a text, a key comes once."""

    yaml_constructors: typing.ClassVar = {
        tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (None, *(_TAG + name for name in _YAML_KINDS))
    }
    yaml_implicit_resolvers: typing.ClassVar = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_TAG) in _YAML_KINDS]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            if key.tag != f"{_TAG}str":
                raise ConfigError(f"{_line(key.start_mark)}a field's name is no text")
            if key.value in names:
                raise ConfigError(f"{_line(key.start_mark)}{quoted(key.value)} is given twice")
            names.add(key.value)
        return super().construct_mapping(node, deep)


def _line(mark: Any) -> str:
    return f"line {mark.line + 1}: " if mark else ""


def _check_structure(text: str) -> None:
    """Refuse aliases, which may stand for more than memory holds, and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=_PlainLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{_line(event.start_mark)}aliases are not taken")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise ConfigError(f"{_line(event.start_mark)}lists and mappings lie more than {_DEEPEST} deep")


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it; nested mappings are merged, everything else is replaced."""
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merge(old, value)
        merged[name] = value
    return merged


def assign(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of plain data with values put at dotted paths; mappings on the way are made where missing.

    Raises:
      ConfigError: if a path leads through something that is neither a mapping nor a long enough list.
    """
    result = copy.deepcopy(dict(data))
    for path, value in changes.items():
        if not re.fullmatch(r"[^.\[\]]+(\[\d+\]|\.[^.\[\]]+)*", path):
            raise ConfigError(f"{path}: not a path; allowed are names and indices such as users[0].distance_m")
        steps = [int(index) if index else name for index, name in re.findall(r"\[(\d+)\]|([^.\[\]]+)", path)]
        place: Any = result
        for depth, (step, following) in enumerate(itertools.pairwise([*steps, None])):
            if isinstance(step, int):
                if not isinstance(place, list) or step >= len(place):
                    length = len(place) if isinstance(place, list) else 0
                    raise ConfigError(f"{path}: no item [{step}]; there are {length}")
            elif not isinstance(place, dict):
                raise ConfigError(f"{path}: step {depth + 1} leads into {quoted(place)}, which has no fields")
            if following is None:
                place[step] = list(value) if isinstance(value, tuple) else value
            else:
                if isinstance(step, str):
                    place.setdefault(step, {})
                place = place[step]
    return result


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
      data: field names to plain values, as YAML gives them; NumPy's and JAX's numbers are numbers.
      source: where the data comes from, for messages.
      field: the path of `data` inside its source, for messages.
      given: fields that the caller has made, as they are.

    Raises:
      ConfigError: on an unknown or missing field, a wrong type, or a value outside its limits.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: {field}: must be a mapping of fields, got {quoted(data)}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for name in data:
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                f"{source}: {_join(field, name)}: unknown field (value {quoted(data[name])}); "
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
            _check_limits(values[name], spec.metadata, f"{source}: {where}")
        elif _has_no_default(spec):
            raise ConfigError(f"{source}: {where}: missing; it has no default")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def check_limits(instance: Any) -> None:
    """Check the numbers of a dataclass that was not made by `build`; traced ones pass.

    Raises:
      ConfigError: naming the field, its value and what is allowed.
    """
    for spec in dataclasses.fields(instance):
        _check_limits(getattr(instance, spec.name), spec.metadata, spec.name)


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _build_kind(metadata: Mapping[str, Any], data: Any, source: str | Path, where: str) -> Any:
    """The dataclass that `process` names, of the other entries."""
    kinds: Mapping[str, type] = metadata["kinds"]
    if isinstance(data, tuple(kinds.values())):
        return data
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: {where}: must be a mapping of fields, got {quoted(data)}")
    fields = dict(data)
    name = fields.pop("process", metadata["default"])
    if not isinstance(name, str) or name not in kinds:
        raise ConfigError(
            f"{source}: {where}.process: got {quoted(name)}; allowed is one of {', '.join(map(repr, kinds))}"
        )
    return build(kinds[name], fields, source, where)


def _convert(hint: Any, value: Any, source: str | Path, where: str) -> Any:
    """`value` as the type `hint` says."""

    def fail(allowed: str) -> typing.NoReturn:
        raise ConfigError(f"{source}: {where}: got {quoted(value)}; allowed is {allowed}")

    if isinstance(value, np.generic | np.ndarray | jax.Array):
        value = value.tolist()
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_any(args, value, source, where)
    if origin is typing.Literal:
        equal = [option for option in args if option == value and not isinstance(value, bool)]
        return equal[0] if equal else fail("one of " + ", ".join(map(repr, args)))
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
        found = _finite(value)
        return fail("a finite number") if found is None else found
    if hint is int:
        found = _whole(value)
        return fail("a whole number") if found is None else found
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint):
        fail({str: "a text", bool: "true or false"}.get(hint, str(hint)))
    return value


def _convert_any(hints: Sequence[Any], value: Any, source: str | Path, where: str) -> Any:
    """`value` as the first type of a union that takes it."""
    if value is None and type(None) in hints:
        return None
    options = [hint for hint in hints if hint is not type(None)]
    for hint in options[:-1]:
        try:
            return _convert(hint, value, source, where)
        except ConfigError:
            pass
    return _convert(options[-1], value, source, where)


def _finite(value: Any) -> float | None:
    """A number as a float; None if it is none. PyYAML reads 3e-4, which has no dot, as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _whole(value: Any) -> int | None:
    """A whole number, however it is written; None if it is none or too large to be exact."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _finite(value)
    return None if found is None or not found.is_integer() or abs(found) >= _EXACT else int(found)


def _check_limits(value: Any, limits: Mapping[str, float], where: str) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_limits(item, limits, _join(where, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            _check_limits(item, limits, f"{where}[{index}]")
    elif isinstance(value, int | float | np.number) and not isinstance(value, bool):
        holds = {"above": operator.gt, "at_least": operator.ge, "at_most": operator.le}
        given = {name: limits[name] for name in holds if name in limits}
        if not all(holds[name](value, limit) for name, limit in given.items()):
            allowed = " and ".join(f"{name.replace('_', ' ')} {limit:.10g}" for name, limit in given.items())
            raise ConfigError(f"{where}: got {quoted(value)}; allowed is a number {allowed}")


def _join(field: str, name: Any) -> str:
    return f"{field}.{name}" if field else str(name)

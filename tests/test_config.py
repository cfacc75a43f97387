"""Strict configuration: what is accepted, and what the errors say."""

import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from jaxmec.config import ConfigError, build, kind, merge, number, read_yaml


@dataclasses.dataclass(frozen=True)
class Part:
    weight: float = number(1.0, above=0, at_most=2)


@dataclasses.dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...] = ()
    span: tuple[float, float] = (0.0, 1.0)
    mode: Literal["fast", "slow"] = "fast"
    shares: dict[str, float] = number(default=None, at_least=0)
    steps: int = 1
    limit: float | None = None
    folder: Path | None = None


def test_plain_data_becomes_typed_values():
    whole = build(
        Whole,
        {
            "name": "a",
            "parts": [{"weight": "3e-4"}],  # PyYAML reads 3e-4 as a text
            "span": [1, 2],
            "shares": {"x": 1},
            "steps": 2e3,
            "limit": None,
            "folder": "runs",
        },
        "here",
    )
    assert whole == Whole("a", (Part(3e-4),), (1.0, 2.0), "fast", {"x": 1.0}, 2000, None, Path("runs"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "here: name: missing"),
        ({"name": "a", "mod": "fast"}, "mod: unknown field .*did you mean 'mode'"),
        ({"name": 3}, "here: name: got 3; allowed is a text"),
        ({"name": "a", "mode": "quick"}, "mode: got 'quick'; allowed is one of 'fast', 'slow'"),
        (
            {"name": "a", "parts": [{"weight": 0}]},
            r"parts\[0\].weight: got 0.0; allowed is a number above 0 and at most 2",
        ),
        ({"name": "a", "parts": {"weight": 1}}, "parts: got .*; allowed is a list"),
        ({"name": "a", "span": [1]}, "span: got .*; allowed is a list of 2 values"),
        ({"name": "a", "span": [1, float("nan")]}, r"span\[1\]: got nan; allowed is a finite number"),
        ({"name": "a", "shares": {"x": -1}}, "shares.x: got -1.0; allowed is a number at least 0"),
        ({"name": "a", "steps": 1.5}, "steps: got 1.5; allowed is a whole number"),
        ({"name": "a", "steps": True}, "steps: got True; allowed is a whole number"),
        ({"name": "a", "limit": "much"}, "limit: got 'much'; allowed is a finite number"),
    ],
)
def test_errors_name_source_field_value_and_what_is_allowed(data, message):
    with pytest.raises(ConfigError, match=message):
        build(Whole, data, "here")


@dataclasses.dataclass(frozen=True)
class Round:
    radius: float = number(1.0, above=0)


@dataclasses.dataclass(frozen=True)
class Square:
    side: float = number(above=0)


@dataclasses.dataclass(frozen=True)
class Drawing:
    shape: Round | Square = kind({"round": Round, "square": Square}, "round")


@dataclasses.dataclass(frozen=True)
class Frame:
    shape: Square | Round = kind({"round": Round, "square": Square}, "square")


def test_a_kind_is_named_by_its_process_and_has_the_fields_of_its_dataclass():
    assert build(Drawing, {}, "here") == Drawing(Round(1.0))
    assert build(Drawing, {"shape": {"radius": 2}}, "here") == Drawing(Round(2.0))
    assert build(Drawing, {"shape": {"process": "square", "side": 3}}, "here") == Drawing(Square(3.0))
    assert build(Drawing, {"shape": Square(4.0)}, "here") == Drawing(Square(4.0))


@pytest.mark.parametrize(
    ("cls", "data", "message"),
    [
        (
            Drawing,
            {"shape": {"process": "oval"}},
            "here: shape.process: got 'oval'; allowed is one of 'round', 'sq",
        ),
        (Drawing, {"shape": {"process": ["round"]}}, r"shape.process: got \['round'\]; allowed is one of"),
        (Drawing, {"shape": {"process": "square", "radius": 1}}, "shape.radius: unknown field .*allowed are side"),
        (Drawing, {"shape": {"side": 1}}, "here: shape.side: unknown field .*allowed are radius"),
        (Drawing, {"shape": {"process": "square", "side": 0}}, "shape.side: got 0.0; allowed is a number above 0"),
        (Drawing, {"shape": "round"}, "here: shape: must be a mapping of fields, got 'round'"),
        (Frame, {"shape": {}}, "here: shape.side: missing; it has no default"),
        (Frame, {}, "here: shape: missing; it has no default"),
    ],
)
def test_errors_of_kinds_name_the_kinds_or_the_fields_of_the_one_that_is_meant(cls, data, message):
    with pytest.raises(ConfigError, match=message):
        build(cls, data, "here")


def test_merge_is_deep_for_mappings_only():
    merged = merge({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2]})
    assert merged == {"a": {"x": 1, "y": 3}, "b": [2]}


def test_read_yaml_says_which_file_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        read_yaml(tmp_path / "none.yaml")
    broken, scalar = tmp_path / "broken.yaml", tmp_path / "scalar.yaml"
    broken.write_text("a: [")
    scalar.write_text("3")
    with pytest.raises(ConfigError, match=r"broken\.yaml: not valid YAML"):
        read_yaml(broken)
    with pytest.raises(ConfigError, match=r"scalar\.yaml: must hold a mapping"):
        read_yaml(scalar)

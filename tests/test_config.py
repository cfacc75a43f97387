"""Strict configuration: what is accepted, and what the errors say."""

import dataclasses
import os
import re
import typing
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.agents import ALGORITHMS, RunConfig
from jaxmec.agents.trainer import TrainerConfig
from jaxmec.channel import CHANNELS, MOVEMENTS, PATH_LOSSES
from jaxmec.config import ConfigError, build, check_limits, kind, merge, number, read_json, read_yaml
from jaxmec.devices import Measurement
from jaxmec.evaluation import EvaluationConfig
from jaxmec.requests import REQUESTS, StudyConfig
from jaxmec.scenario import Scenario
from jaxmec.scenario.schema import Server, UserGroup
from jaxmec.sweeps.config import Evaluation, Resources, SweepConfig
from jaxmec.workload import ARRIVALS


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' is given twice"),
        ("x: {a: 1, a: 1}\n", "line 1: 'a' is given twice"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor for the tag"),
        ("a: !mine 1\n", "line 1: could not determine a constructor for the tag '!mine'"),
        ("a: &x [1]\nb: *x\n", "line 2: aliases are not taken"),
        ("a: " + "[" * 600 + "]" * 600, "lists and mappings lie more than 20 deep"),
        ("1: 2\n", "line 1: a field's name is no text"),
        ("a: " + "9" * 5000, "not valid YAML: "),
        ("a: " + "0 " * 200_000, "has 400,003 bytes; allowed are at most 200,000"),
        (b"a: \xff\xfe\n", "cannot be read: not UTF-8 text"),
        ("a: \x00\n", "not valid YAML: "),
    ],
)
def test_hostile_yaml_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "hostile.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert len(str(error.value)) <= 300
    assert str(error.value).isprintable()


def test_a_date_is_a_text(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 2020-13-45\nb: 2020-01-01\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": "2020-13-45", "b": "2020-01-01"}


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", tmp_path, Path("/dev/zero")):
        for read in (read_yaml, read_json):
            with pytest.raises(ConfigError, match="no ordinary file"):
                read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "not valid JSON: NaN is no number"),
        ('{"a": 1, "a": 2}', "not valid JSON: 'a' is given twice"),
        ("[" * 100_000, "not valid JSON: "),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON: "),
        ("[1]", "must hold an object, but holds list"),
    ],
)
def test_hostile_json_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "hostile.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_json(tmp_path / "hostile.json")


@dataclasses.dataclass(frozen=True)
class Sizes:
    count: int = number(1, at_least=0, at_most=2**31 - 1)
    share: float = number(0.5, at_least=0, at_most=1)
    wide: bool = False
    spans: tuple[float, float] = (0.0, 1.0)


def test_whole_numbers_may_be_written_in_any_way_that_is_exact():
    for written in (200, 200.0, "2e2", "200", np.int64(200), np.float32(200), np.asarray(200), jnp.asarray(200)):
        built = build(Sizes, {"count": written}, "here").count
        assert built == 200
        assert type(built) is int
    for written in (2**31, "1e30", 1e30, 10**5000, 1.5, True, "x", "nan"):
        with pytest.raises(ConfigError, match="here: count: got .*; allowed is a (whole )?number") as error:
            build(Sizes, {"count": written}, "here")
        assert len(str(error.value)) <= 300


def test_numbers_of_numpy_and_jax_are_numbers():
    data = {"share": np.float32(0.25), "wide": np.bool_(True), "spans": np.array([1, 2])}
    assert build(Sizes, data, "here") == Sizes(1, 0.25, True, (1.0, 2.0))
    with pytest.raises(ConfigError, match="share: got 2.0; allowed is a number at least 0 and at most 1"):
        check_limits(Sizes(share=np.float64(2.0)))


def test_long_messages_keep_both_ends_and_terminals_get_no_control_characters():
    message = str(ConfigError("file.yaml: " + "x" * 1000 + "\nallowed\x1b[31m is 1"))
    assert len(message) == 300
    assert message.startswith("file.yaml: xxx")
    assert message.endswith("allowed\N{REPLACEMENT CHARACTER}[31m is 1")


def every_config():
    """All dataclasses that files are read into, and those within them."""
    found = [
        Scenario,
        RunConfig,
        SweepConfig,
        Resources,
        Measurement,
        TrainerConfig,
        EvaluationConfig,
        StudyConfig,
    ]
    found += [
        *CHANNELS.values(),
        *ARRIVALS.values(),
        *REQUESTS.values(),
        *MOVEMENTS.values(),
        *PATH_LOSSES.values(),
    ]
    found += [*ALGORITHMS.values(), UserGroup, Server, Evaluation]
    return found


@pytest.mark.parametrize("cls", every_config(), ids=lambda cls: cls.__name__)
def test_every_number_of_a_file_has_a_limit_at_both_ends(cls):
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kinds = re.findall(r"\b(?:int|float)\b", str(hints[field.name]))
        if kinds and not field.name.endswith("_column"):  # a column may have any number
            assert "at_most" in field.metadata, field.name
            assert field.metadata.keys() & {"above", "at_least"}, field.name

"""What the documentation takes from the code: scenario files field by field, commands, and a page per noun."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import os
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jaxmec
from jaxmec.agents import ALGORITHMS
from jaxmec.channel import CHANNELS
from jaxmec.commands import COMMANDS, main as command
from jaxmec.devices import Measurement
from jaxmec.requests import REQUESTS
from jaxmec.runtime.__main__ import main as runtime
from jaxmec.scenario import Scenario
from jaxmec.scenario.schema import Server, UserGroup, Wire
from jaxmec.workload import ARRIVALS

ROOT = Path(__file__).parents[1]

# Endings of field names; the longer first.
UNITS = {
    "dbm_per_hz": "dBm/Hz",
    "w_per_hz": "W/Hz",
    "m_per_s": "m/s",
    "mps": "m/s",
    "bits": "bit",
    "slots": "slots",
    "ms": "ms",
    "db": "dB",
    "hz": "Hz",
    "bps": "bit/s",
    "deg": "°",
    "j": "J",
    "m": "m",
    "s": "s",
    "w": "W",
}
LIMITS = {"above": "> {:g}", "at_least": "≥ {:g}", "at_most": "≤ {:g}"}

# Rooms and modules that have a page of their own.
PAGES = tuple(
    name for name in jaxmec.__all__ if isinstance(getattr(jaxmec, name), types.ModuleType) and name != "reporting"
)
ENVIRONMENT = ("EdgeInferenceEnv", "EnvParams", "EnvState", "Decision")


def write(folder: Path) -> None:
    """Write every generated page."""
    pages = {"scenario.md": scenario_reference(), "commands.md": command_reference(), "api.md": api_index()}
    pages |= {f"api/{name}.md": api_page(name) for name in PAGES}
    pages["api/env.md"] = environment_page()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:  # unchanged pages are not built again
            path.write_text(text)


# Scenario files


def scenario_reference() -> str:
    """Every field that a scenario's file may have: unit, limits, default and meaning."""
    parts = [
        "# Fields of a scenario's file\n\nGenerated from `jaxmec/scenario/schema.py` and the settings of every "
        "process. Fields without a default must be given. `jaxmec.make(name, **fields)` overrides any of them.\n"
    ]
    for cls, title in (
        (Scenario, "The file"),
        (UserGroup, "`users`: a list of groups"),
        (Server, "`server`"),
        (Wire, "`wire`"),
        (Measurement, "`devices`: classes of one's own"),
    ):
        parts.append(f"## {title}\n\n{_summary(cls)}\n\n{_table(cls)}")
    for field, kinds in (("radio", CHANNELS), ("arrivals", ARRIVALS), ("requests", REQUESTS)):
        parts.append(f"## `{field}`\n\n`process` names one of {', '.join(f'`{kind}`' for kind in kinds)}.\n")
        parts += [_kind(f"### `process: {name}`", cls) for name, cls in kinds.items()]
    return "\n".join(parts)


def _kind(heading: str, cls: type) -> str:
    """A kind's fields, then those of its fields that come in kinds themselves."""
    parts = [f"{heading}\n\n{_summary(cls)}\n\n{_table(cls)}"]
    for field in dataclasses.fields(cls):
        for name, inner in field.metadata.get("kinds", {}).items():
            parts.append(_kind(f"#### `{field.name}: {{process: {name}}}`", inner))
    return "\n".join(parts)


def _table(cls: type) -> str:
    rows = [[f.name, _unit(f.name), _type(cls, f), _limits(f), _default(f), _meanings(cls).get(f.name, "")]
            for f in dataclasses.fields(cls)]  # fmt: skip
    if not rows:
        return "No fields.\n"
    rows = [[f"`{row[0]}`", *row[1:]] for row in rows]
    return markdown(["field", "unit", "type", "limits", "default", "meaning"], rows)


def markdown(headers: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [headers, ["---"] * len(headers), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _unit(name: str) -> str:
    return next((unit for ending, unit in UNITS.items() if name.endswith(f"_{ending}")), "")


def _type(cls: type, field: dataclasses.Field) -> str:
    if "kinds" in field.metadata:
        return "see below"
    hint = typing.get_type_hints(cls)[field.name]
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    text = re.sub(r"\b(typing|jaxmec)\.([\w]+\.)*", "", text)
    return f"`{text.replace('NoneType', 'None')}`"


def _limits(field: dataclasses.Field) -> str:
    return ", ".join(form.format(field.metadata[name]) for name, form in LIMITS.items() if name in field.metadata)


def _default(field: dataclasses.Field) -> str:
    if "kinds" in field.metadata:
        return f"`{field.metadata['default']}`"
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "–"
    if dataclasses.is_dataclass(value):
        return "see below"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value!r}`"


def _meanings(cls: type) -> dict[str, str]:
    """What is said of every field, behind it on its lines or in the text that follows it."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("jaxmec"):
            found |= dict(_said(base))
    return found


def _said(cls: type) -> Iterator[tuple[str, str]]:
    source = textwrap.dedent(inspect.getsource(cls))
    lines, body = source.splitlines(), ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for statement, following in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        text = "".join(_comment(line) for line in lines[statement.lineno - 1 : statement.end_lineno])
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = " ".join(str(following.value.value).split())
        yield statement.target.id, text


def _comment(line: str) -> str:
    _, _, text = line.partition("  # ")
    return text.split("  # ")[0].strip()


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")


# Commands


def command_reference() -> str:
    """Help of every command, as it prints it."""
    parts = [
        "# Commands\n\nGenerated from the parsers. In a checkout `python train/main.py`, `python train/sweep.py` and "
        "`python eval/main.py` are `jaxmec train`, `jaxmec sweep` and `jaxmec eval`.\n",
        _help("jaxmec", lambda: command(["--help"])),
    ]
    for name in COMMANDS:
        if name == "train":
            for kind in ALGORITHMS:
                flags = ["train", "--algorithm", kind]
                parts.append(_help(f"jaxmec {' '.join(flags)}", lambda flags=flags: command([*flags, "--help"])))
        else:
            parts.append(_help(f"jaxmec {name}", lambda name=name: command([name, "--help"])))
    for name in ("server", "device", "export", "link"):
        parts.append(_help(f"python -m jaxmec.runtime {name}", lambda name=name: runtime([name, "--help"])))
    studies = [
        [f"`python eval/{path.name}`", ast.get_docstring(ast.parse(path.read_text())).split("\n")[0]]
        for path in sorted((ROOT / "eval").glob("*.py"))
        if path.name != "main.py"
    ]
    return "\n".join([*parts, "## Studies of a checkout\n", markdown(["command", "what it does"], studies)])


def _help(title: str, run: Callable[[], Any]) -> str:
    printed, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            run()
    finally:
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue()).strip().splitlines()
    text = "\n".join(line.rstrip() for line in lines)
    return f"## `{title}`\n\n```text\n{text}\n```\n"


# Code


def api_index() -> str:
    """The list of the pages."""
    rows = [["[`jaxmec`](api/env.md)", "`make`, `scenarios`, and the environment"]]
    rows += [[f"[`jaxmec.{name}`](api/{name}.md)", _summary_of_module(name)] for name in PAGES]
    tree = "\n".join(["api/env", *(f"api/{name}" for name in PAGES)])
    return (
        "# Python API\n\nOne page per noun. Names that are not listed here may change.\n\n"
        f"{markdown(['module', 'what it is'], rows)}\n"
        f"```{{toctree}}\n:hidden:\n\n{tree}\n```\n"
    )


def _summary_of_module(name: str) -> str:
    return (inspect.getdoc(getattr(jaxmec, name)) or "").split("\n")[0]


def api_page(name: str) -> str:
    """Everything public of a module."""
    directive = f"```{{eval-rst}}\n.. automodule:: jaxmec.{name}\n   :members:\n"
    if hasattr(getattr(jaxmec, name), "__all__"):
        directive += "   :imported-members:\n"
    return f"# jaxmec.{name}\n\n{directive}```\n"


def environment_page() -> str:
    """The environment's page."""
    parts = [
        "# jaxmec\n",
        "```{eval-rst}",
        ".. autofunction:: jaxmec.make\n",
        ".. autofunction:: jaxmec.scenarios\n",
    ]
    parts += [f".. autoclass:: jaxmec.env.{name}\n   :members:\n" for name in ENVIRONMENT]
    return "\n".join([*parts, "```\n"])


def skip(app: Any, what: str, name: str, item: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out what flax adds to its dataclasses, and fields, which the class lists itself."""
    if name in ("replace", "parent") or (isinstance(item, property) and not item.__doc__):
        return True
    return None


def docstring(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Docstrings in place, as reStructuredText: lists of files and commands stay as they are, fields are listed."""
    text = "\n".join(_listings(lines))
    text = re.sub(r"\|(\S[^|\n]*)\|", r"\\|\1\\|", text)
    text = re.sub(r"(?<=\w)_(?=[\s,.;:)\]])", r"\\_", text)
    text = re.sub(r"(?<![\w*\\])\*(?=\w)", r"\\*", text)
    lines[:] = text.split("\n")
    if what == "class" and isinstance(item, type):
        lines += ["", *_fields(item)]


def _listings(lines: list[str]) -> Iterator[str]:
    """Runs of "file.py   what it is" and of commands as literal blocks."""
    inside = False
    for line in lines:
        listed = bool(re.match(r"(\S.*?\S)\s{3,}\S|(python|jaxmec|pytest) \S", line))
        if listed and not inside:
            yield from ("", "::", "")
        if inside and not listed:
            yield ""
        inside = listed
        yield f"    {line}" if listed else line


def _fields(cls: type) -> Iterator[str]:
    """A class's fields with what is said of them."""
    if not dataclasses.is_dataclass(cls) and not hasattr(cls, "_fields"):
        return
    try:
        said: Mapping[str, str] = _meanings(cls)
    except (OSError, TypeError):
        return
    names = [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else list(cls._fields)
    for name in names:
        if said.get(name) and name not in ("parent", "name_") and not name.startswith("_"):
            meaning = re.sub(r"([*|])", r"\\\1", said[name])
            yield f"* ``{name}``: {meaning}"

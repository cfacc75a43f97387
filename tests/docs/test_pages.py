"""The pages of the documentation: their Python runs, their links lead somewhere, the reference is whole."""

import dataclasses
import re
import sys
from pathlib import Path

import pytest

import jaxmec

DOCS = Path(__file__).parents[2] / "docs"
RUN = (
    "../README.md",
    "quickstart.md",
    "howto/network.md",
    "howto/device.md",
    "howto/scenario.md",
    "howto/policy.md",
    "howto/deployment.md",
    "study.md",
)
# Pages whose blocks have a test of their own, or show a part of a script that this one's reader has.
OTHERS = ("extending.md", "profiles.md", "requests.md", "runtime.md", "traces.md", "wrappers.md")
PAGES = [path for path in DOCS.rglob("*.md") if not {"_build", "generated"} & set(path.parts)]


@pytest.fixture(scope="module")
def reference():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        import reference

        yield reference
    sys.modules.pop("reference")


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", RUN)
def test_every_block_runs_after_the_ones_before(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    assert "nan" not in capsys.readouterr().out.lower()


def test_no_page_with_python_is_forgotten():
    with_python = {str(path.relative_to(DOCS)) for path in PAGES if "```python\n" in path.read_text()}
    assert with_python | {"../README.md"} == {*RUN, *OTHERS}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)", page.read_text()):
        if "generated/" not in target:
            assert (page.parent / target).exists(), target


def test_every_field_of_a_scenario_is_explained(reference):
    text = reference.scenario_reference()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert {field.name for field in dataclasses.fields(jaxmec.scenario.Scenario)} <= {
        row[0].strip("`") for row in rows
    }
    assert not [row[0] for row in rows if len(row) < 6]  # the meaning, which is last, is never empty
    (slot,) = [row for row in rows if row[0] == "`slot_s`"]
    assert (slot[1], slot[2], slot[4]) == ("s", "`float`", "`1`")
    (knee,) = [row for row in rows if row[0] == "`knee`"]
    assert knee[3] == "≥ 0.01, ≤ 0.95"
    (shares,) = [row for row in rows if row[0] == "`stay_probability`"]
    assert shares[3] == "≥ 0, ≤ 1"


def test_every_command_is_in_the_reference(reference):
    text = reference.command_reference()
    for name in ("train --algorithm evolution", "eval", "sweep", "profile"):
        assert f"usage: jaxmec {name.split()[0]} " in text.split(f"## `jaxmec {name}`")[1].split("\n## ")[0]
    assert "--bandwidth HZ" in text
    assert "\x1b" not in text


def test_every_public_name_has_a_page(reference):
    modules = {name for name in jaxmec.__all__ if hasattr(getattr(jaxmec, name), "__path__")}
    assert modules - {"reporting"} <= set(reference.PAGES)

"""A report as one HTML file that needs no network: findings, tables, figures that answer to the mouse, and versions.

The page is a template of Jinja2, and its figures are drawn by Plotly, whose script is part of the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxmec.extras import optional
from jaxmec.reporting.files import replace_file


@dataclasses.dataclass(frozen=True)
class Table:
    """Texts in rows; the first column holds names."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure, see `jaxmec.reporting.interactive`."""

    plot: Mapping[str, Any]
    caption: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A subject: what was found in words, then what it was found from."""

    name: str  # in links
    title: str
    findings: Sequence[str]
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    note: str = ""


def write_report(
    path: Path,
    title: str,
    lead: str,
    sections: Sequence[Section],
    toggles: Sequence[str],
    configuration: Mapping[str, str],
) -> None:
    """Write the page.

    Args:
      path: of the HTML file.
      title: plain text, as all that follows.
      lead: a sentence or two below the title.
      sections: in order.
      toggles: names that a box each shows or hides in all figures.
      configuration: name -> value, told at the end.

    Raises:
      ConfigError: if Jinja2 or Plotly are not installed.
      OSError: if the file cannot be written.
    """
    jinja2, offline = optional("jinja2", "report"), optional("plotly.offline", "report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        lead=lead,
        sections=sections,
        toggles=toggles,
        configuration=configuration,
        plotly=offline.get_plotlyjs(),
        libraries=", ".join(f"{name} {metadata.version(name)}" for name in ("plotly", "jinja2")),
    )
    replace_file(path, page)

"""Still pictures of a study, and its results in a page of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxmec.config import ConfigError
from jaxmec.evaluation.tables import Row
from jaxmec.reporting.figures.study import delay_and_queues, work_on_device
from jaxmec.reporting.figures.variation import policies_against_field
from jaxmec.reporting.files import replace_file, write_csv
from jaxmec.reporting.report import Table
from studies import present
from studies.study import Found, Study

BEGIN, END = "<!-- results -->", "<!-- end of results -->"  # what a page's results stand between
NEEDED = ("policies", "tradeoff", "sensitivity", "cuts")  # parts that a page's table and pictures are made of
PICTURES = {
    "tradeoff.png": "Delay and queues against V; bars are the interval of the change from the least V, pair by pair",
    "bandwidth.png": "Delay against the band, and at equal energy over the search's",
    "cuts.png": "Share of work on the device by network, device, channel, queue and arrivals",
}
COLUMNS = 8  # of the main table, for which a page and a terminal have room


def draw(folder: Path, found: Mapping[str, Found], shown: str) -> list[str]:
    """Draw those of `PICTURES` whose parts there are; returns their names.

    Args:
      folder: where they go.
      found: by part.
      shown: the policy whose cuts are drawn.
    """
    drawn = []
    if rows := _rows(found, "tradeoff"):
        delay_and_queues(folder / "tradeoff.png", rows, str(rows[0]["reference"]))
        drawn.append("tradeoff.png")
    if rows := [row for row in _rows(found, "sensitivity") if row["quantity"] == "bandwidth"]:
        field = "bandwidth, times the scenario's"
        multiples = [{**row, field: f"{present.number(row, 'factor'):g}"} for row in rows]
        policies_against_field(folder / "bandwidth.png", multiples, field, str(rows[0]["reference"]))
        drawn.append("bandwidth.png")
    if rows := [row for row in _rows(found, "cuts") if row["policy"] == shown]:
        work_on_device(folder / "cuts.png", rows)
        drawn.append("cuts.png")
    return drawn


def _rows(found: Mapping[str, Found], part: str) -> list[Row]:
    return found[part].rows if part in found else []


def main_table(study: Study, found: Found) -> Table:
    """What fits a page or a terminal of the main table."""
    (whole,) = present.policies(found, study.players, study.learned).tables
    return Table(whole.headers[:COLUMNS], [row[:COLUMNS] for row in whole.rows], whole.caption)


def write_page(docs: Path, study: Study, found: Mapping[str, Found], command: str) -> None:
    """Replace the results of `study.md`, and write the rows and pictures that they are made of into `study/`.

    Raises:
      ConfigError: if the page has no place for them, or the parts that it shows are not there.
    """
    page = docs / "study.md"
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ConfigError(f"{page}: has no {BEGIN} and {END}, between which results stand")
    missing = [part for part in NEEDED if not _rows(found, part)]
    if missing:
        raise ConfigError(f"parts: got none of {missing[0]}; allowed are at least {', '.join(NEEDED)}")
    folder = docs / "study"
    folder.mkdir(exist_ok=True)
    for part, one in found.items():
        if one.rows:
            write_csv(folder / f"{part}.csv", one.rows)
    pictures = draw(folder, found, study.learned or study.reference)
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    replace_file(page, f"{before}{BEGIN}\n{results(study, found, command, pictures)}\n{END}{after}")


def results(study: Study, found: Mapping[str, Found], command: str, pictures: Sequence[str]) -> str:
    """The results as Markdown: command, main table, findings, pictures."""
    shown = main_table(study, found["policies"])
    lines = [f"`{command}`, on `{study.env.name}`:", ""]
    lines += [f"| {' | '.join(shown.headers)} |", "|" + "---|" * len(shown.headers)]
    lines += [f"| {' | '.join(row)} |" for row in shown.rows]
    lines += ["", shown.caption, ""]
    for part, one in found.items():
        lines += [f"- {text}" for text in present.section(part, one, study.players, study.learned).findings]
    for picture in pictures:
        lines += ["", f"![{PICTURES[picture]}](study/{picture})"]
    return "\n".join(lines)

"""What a study has found, kept by content: an interrupted study goes on, and nothing that is kept is ever stale.

A file's name is a digest of everything that decides what is in it: what was asked for, the system, the source code that
computes it, and the versions of the libraries. Whatever changes asks for another file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jaxmec
from jaxmec.agents.run import versions
from jaxmec.reporting.files import replace_file

PACKAGE = Path(jaxmec.__file__).parent
STUDIES = Path(__file__).parent
SHOWING = ("commands", "reporting", "runtime", "wrappers")  # rooms that change nothing that a study finds


class Cache:
    """Findings in a folder, as JSON."""

    def __init__(self, folder: Path, foundation: Mapping[str, Any]) -> None:
        """Of everything that rests on the same foundation: source, versions, system."""
        self._folder, self.foundation = folder, dict(foundation)
        self._code = {path.stem: digest(path.read_bytes()) for path in STUDIES.glob("*.py")}  # as it runs now
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, part: str, asked: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """What was found for exactly this, computed only where no whole file has it.

        Args:
          part: of the study, whose file's content decides the result, too.
          asked: plain data that decides the result, beside the foundation.
          compute: gives plain data; numbers and arrays of NumPy will do.
        """
        wanted = plain({"part": part, "asked": asked, "foundation": self.foundation, "code": self._code[part]})
        path = self._folder / f"{part}-{digest(json.dumps(wanted, sort_keys=True).encode())}.json"
        try:
            kept = json.loads(path.read_text())
            if kept["wanted"] == wanted:
                return kept["found"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent, or damaged: it is computed anew
        found = plain(compute())
        replace_file(path, json.dumps({"wanted": wanted, "found": found}))
        return found


def plain(data: Any) -> Any:
    """The data as JSON would give it back."""
    return json.loads(json.dumps(data, default=lambda value: value.tolist()))


def digest(*contents: bytes) -> str:
    """Twenty-four hexadecimal digits of contents, in their order."""
    found = hashlib.sha256()
    for content in contents:
        found.update(len(content).to_bytes(8, "big") + content)
    return found.hexdigest()[:24]


def source_digest() -> str:
    """Of the package's source and data, but for the rooms that only show, and of what all parts share."""
    package = sorted(
        path
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".yaml", ".json", ".csv") and path.relative_to(PACKAGE).parts[0] not in SHOWING
    )
    return digest(*(path.read_bytes() for path in (*package, STUDIES / "study.py")))


def foundation(scenario_files: Mapping[str, bytes]) -> dict[str, Any]:
    """What everything that is found of a scenario rests on."""
    named = (part for name, content in sorted(scenario_files.items()) for part in (name.encode(), content))
    return {"versions": versions(), "source": source_digest(), "scenario": digest(*named)}

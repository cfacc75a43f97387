"""Optional libraries: what is said where one is missing."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

import jaxmec
from jaxmec import export
from jaxmec.agents import Evolution
from jaxmec.config import ConfigError
from jaxmec.extras import optional
from jaxmec.reporting import interactive
from jaxmec.reporting.loggers import TensorBoard
from jaxmec.reporting.report import write_report
from jaxmec.runtime import export_halves

ASKING = ("jaxmec.sweeps.on_ray", "jaxmec.wrappers.gymnax", "jaxmec.wrappers.gymnasium")  # as they are imported
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("module", "use", "extra"),
    [
        ("evosax", lambda: Evolution().check(jaxmec.make("coinfer4")[0]), "evolution"),
        ("tensorboardX", lambda: TensorBoard(Path("events"), 0), "tensorboard"),
        ("flatbuffers", lambda: export_halves(None, [1], "halves"), "runtime"),
        ("flatbuffers", lambda: export.save("policy.jaxexport", None), "runtime"),
        ("flatbuffers", lambda: export.load("policy.jaxexport"), "runtime"),
        ("plotly", lambda: interactive.panels([], []), "report"),
        ("jinja2", lambda: write_report(Path("report.html"), "", "", [], [], {}), "report"),
        ("ray", lambda: optional("jaxmec.sweeps.on_ray", "ray"), "ray"),
        ("gymnax", lambda: jaxmec.wrappers.GymnaxEnv, "gymnax"),
        ("gymnasium", lambda: jaxmec.wrappers.CoInferEnv, "gymnasium"),
    ],
)
def test_the_error_names_the_extra(module, use, extra, monkeypatch):
    for name in [one for one in sys.modules if one.split(".")[0] == module or one in ASKING]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # an import of it fails
    with pytest.raises(ConfigError, match=re.escape(f'install it: pip install "jaxmec[{extra}]"')):
        use()


def test_every_extra_that_the_package_asks_for_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    source = "\n".join(path.read_text() for path in (ROOT / "jaxmec").rglob("*.py"))
    asked = set(re.findall(r'optional\("[\w.]+", "(\w+)"\)', source))
    assert {"evolution", "ray", "report", "runtime", "tensorboard"} <= asked <= set(extras)

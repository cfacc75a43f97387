"""Nothing in a file is run, and what is in a file that is no recording is not printed."""

import ast
import os
from pathlib import Path

import pytest

import jaxmec
from jaxmec.channel import load_packet_times, load_throughput
from jaxmec.workload import load_request_times

ROOT = Path(__file__).parents[2]
RUNS_CODE = ("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib")
SECRET = "root:x:0:0:hidden:/root\ndaemon:y:1:1:hidden:/\n"


def calls_and_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call):
            yield ast.unparse(node)


def test_no_loader_can_run_code():
    found = []
    for path in (ROOT / "jaxmec").rglob("*.py"):
        for text in calls_and_imports(path):
            loads = text.startswith(("yaml.load(", "yaml.unsafe_load(", "yaml.full_load(", "yaml.load_all("))
            if (
                text.split(".")[0] in RUNS_CODE
                or text.startswith(("eval(", "exec(", "compile("))
                or (loads and "Loader=_PlainLoader" not in text)
                or (text.startswith("np.load(") and "allow_pickle=False" not in text)
            ):
                found.append(f"{path}: {text}")
    assert not found


@pytest.mark.parametrize("read", [load_request_times, lambda path: load_throughput(path, 1.0)])
def test_a_file_that_is_no_recording_stays_private(tmp_path, read):
    (tmp_path / "shadow").write_text(SECRET)
    with pytest.raises(ValueError, match="shadow") as error:
        read(tmp_path / "shadow")
    assert not [word for word in ("daemon", "hidden", "x:0") if word in str(error.value)]
    with pytest.raises(ValueError, match="no column 'time'") as error:
        load_request_times(tmp_path / "shadow", "time")
    assert "x:0" not in str(error.value)
    (tmp_path / "shadow.yaml").write_text(SECRET)
    with pytest.raises(ValueError, match="shadow.yaml") as error:
        jaxmec.make(tmp_path / "shadow.yaml")
    assert "hidden" not in str(error.value)


def test_a_recording_that_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (load_request_times, lambda path: load_packet_times(path, 1.0)):
        with pytest.raises(ValueError, match="no ordinary file"):
            read(tmp_path / "pipe")

"""The quick study as a command: its numbers as committed, a policy of one's own in it, and what it leaves behind.

The committed rows are those of `python eval/suite.py --quick`, of its policies that need no training.
"""

import itertools
from pathlib import Path

import pytest

from jaxmec.reporting.files import read_csv

pytest.importorskip("plotly", reason="an extra: pip install 'jaxmec[report]'")

COMMITTED = Path(__file__).parent / "quick/policies.csv"
PARTS = ("policies", "trajectories")
METRICS = ("delay_s", "device_energy", "server_energy", "long_run_gap", "over_reference", "device_queue")
OWN = """
import jax.numpy as jnp

def everything_sent(env):
    return lambda key, state, params: jnp.zeros(env.num_users, jnp.int32)
"""


@pytest.fixture(scope="module")
def study(command, tmp_path_factory):
    """The command and its folder, after a run."""
    suite, folder = command("suite"), tmp_path_factory.mktemp("study")
    mine = folder / "mine.py"
    mine.write_text(OWN)
    flags = suite.Flags(quick=True, parts=PARTS, seeds=0, out=folder / "out", policy=(f"{mine}:everything_sent",))
    assert suite.main(flags) == 0
    return suite, flags


def test_its_numbers_are_the_committed_ones_within_their_intervals(study):
    _, flags = study
    found, committed = (
        {row["policy"]: row for row in read_csv(path)} for path in (flags.out / "policies.csv", COMMITTED)
    )
    assert committed.keys() <= found.keys()
    for policy, metric in itertools.product(committed, METRICS):
        (new, half), (old, other) = (
            (float(rows[policy][metric]), float(rows[policy][f"{metric}_ci95"])) for rows in (found, committed)
        )
        assert abs(new - old) <= max(half, other), (policy, metric)


def test_a_policy_of_ones_own_stands_among_the_others(study):
    _, flags = study
    rows = {row["policy"]: row for row in read_csv(flags.out / "policies.csv")}
    mine, known = rows["everything_sent"], rows["edge_only"]  # the same cuts by another hand
    assert float(mine["delay_s"]) == pytest.approx(float(known["delay_s"]), rel=1e-5)
    assert "everything_sent" in (flags.out / "report.html").read_text()
    last = [row for row in read_csv(flags.out / "trajectories.csv") if row["slot"] == "60"]
    assert {"everything_sent", "best_response"} <= {row["policy"] for row in last}


def test_a_second_run_computes_nothing(study, monkeypatch):
    suite, flags = study
    for name in ("studies.study.evaluate_policies", "studies.trajectories.long_runs"):
        monkeypatch.setattr(name, None)  # whoever calls it fails
    before = (flags.out / "policies.csv").read_bytes()
    assert suite.main(flags) == 0
    assert (flags.out / "policies.csv").read_bytes() == before

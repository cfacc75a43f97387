"""The long-run study's rows, by hand."""

import numpy as np
import pytest

from jaxmec.evaluation import LongRun, mean_and_interval


@pytest.fixture(scope="module")
def study(command):
    return command("long_run")


def made(delay, equal):
    nothing = np.zeros(2)
    metrics = {
        "cost": np.array(delay),
        "equal_energy": np.array(equal),
        **dict.fromkeys(("device_energy", "server_energy", "device_energy_excess"), nothing),
    }
    return LongRun(metrics, curves={}, use={}, actions=np.zeros((2, 1, 1), int), states=None)


def test_rows_hold_means_and_paired_differences(study):
    runs = {"a": [made([1.0, 3.0], [2.0, 4.0])], "b": [made([1.0, 2.0], [1.0, 3.0]), made([3.0, 4.0], [2.0, 3.0])]}
    first, last = study.summarise(runs, bound=np.array([1.0, 2.0]), weight_s=0.5)
    assert [first["policy"], last["policy"]] == ["a", "b"]
    assert [first["seeds"], last["seeds"]] == [1, 2]
    assert first["over_first"] == first["over_first_ci95"] == 0
    # Of b, the seeds' means are delays 2, 3 and 1.5, 3 at equal energy; those of a are 2, 4; the bound is 1, 2.
    assert last["delay_s"] == 2.5
    np.testing.assert_allclose(last["over_first"], (1.5 - 2.0 + 3.0 - 4.0) / 2 / 3.0)
    np.testing.assert_allclose(last["over_bound"], (0.5 + 1.0) / 2 / 1.5)
    np.testing.assert_allclose(last["over_bound_ci95"], mean_and_interval(np.array([0.5, 1.0]) / 1.5)[1])
    np.testing.assert_allclose(last["priced_energy"], 1.0 + (2.25 - 2.5) / 0.5)

"""eval/latency.py: its models by hand, and that the errors on public measurements are what the docs tell."""

import os
from pathlib import Path

import numpy as np
import pytest

TRACES = Path(os.environ.get("JAXMEC_TRACES", Path(__file__).parents[3] / "shared/data/traces"))
WORK = np.array([[1.0, 0, 0, 0, 2, 1], [0, 2.0, 0, 0, 1, 3], [0, 0, 3.0, 1, 5, 2], [1, 1, 1, 1, 9, 4]])


@pytest.fixture(scope="module")
def study(command):
    return command("latency")


def test_rivals_recover_the_constants_that_made_the_times(study):
    flop = WORK[:, :4].sum(axis=1)
    np.testing.assert_allclose(study.flops_alone(WORK, 0.3 * flop), [0.3, 0.3, 0.3, 0.3, 0, 0])
    times_s = 0.3 * flop + 0.2 * WORK[:, 4] + 0.1 * WORK[:, 5]
    np.testing.assert_allclose(study.three_constants(WORK, times_s), [0.3, 0.3, 0.3, 0.3, 0.2, 0.1])
    # Of times 1 and 2 for equal work the relative errors are least at 1.2: (c - 1)² + (c / 2 - 1)².
    assert np.isclose(study.flops_alone(np.eye(6)[:2], np.array([1.0, 2.0]))[0], 1.2)


@pytest.mark.skipif(not TRACES.exists(), reason="public measurements are not here")
def test_networks_held_out_of_public_measurements(study):
    measured = study.read(TRACES / "device/ncnn_latency.csv")
    assert measured.times_s.shape == (222, len(study.NETWORKS))
    flops = np.abs(study.held_out(measured, study.flops_alone))
    assert 0.6 < np.nanmedian(flops) < 0.7
    fewer = study.Measured(measured.devices[::3], measured.times_s[::3], measured.work)
    googlenet = list(study.NETWORKS).index("googlenet")
    assert np.nanmedian(np.abs(study.cross_validated(fewer, True, [googlenet]))) < 0.15
    assert np.nanmedian(np.abs(study.held_out(fewer, study.three_constants))) > 0.17

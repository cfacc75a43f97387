"""The best cut against the uplink's rate, by hand."""

import numpy as np
import pytest

from jaxmec import profiles
from jaxmec.profiles import Costs, Stages, choose

TABLE = profiles.load("alexnet").rows(np.array([0, 5, 8]))
STAGES = Stages(
    device_work_s=np.array([0.0, 1.0, 4.0]),
    uplink_bits=np.array([8e6, 2e6, 0.0]),
    server_work_s=np.array([0.5, 0.25, 0.0]),
    downlink_bits=np.array([1e6, 1e6, 0.0]),
)
RATES = np.array([1e5, 1e6, 1e7])
COSTS = Costs(device_power_w=2.0, tx_power_w=0.5)


def test_latency_by_hand():
    # 80.5, 21.25, 4; then 8.5, 3.25, 4; then 1.3, 1.45, 4.
    choice = choose(TABLE, STAGES, RATES, COSTS)
    assert choice.best.tolist() == [2, 1, 0]
    np.testing.assert_allclose(choice.cost, [4, 3.25, 1.3])
    np.testing.assert_allclose(choice.end_loss, [0, 4 / 3.25 - 1, 0])
    assert choice.is_middle.tolist() == [False, True, False]
    assert choice.error_loss.tolist() == [0, 0, 0]
    back = Costs(2.0, 0.5, downlink_bps=1e6, round_trip_s=0.5)  # 1.5 s more wherever the server takes part
    assert choose(TABLE, STAGES, RATES, back).best.tolist() == [2, 2, 0]


def test_energy_and_throughput_by_hand():
    # Joules: 40, 12, 8; then 4, 3, 8; then 0.4, 2.1, 8.
    energy = choose(TABLE, STAGES, RATES, COSTS, "energy")
    assert energy.best.tolist() == [2, 1, 0]
    np.testing.assert_allclose(energy.cost, [8, 3, 0.4])
    # Seconds of the slowest stage: 80, 20, 4; then 8, 2, 4; then 0.8, 1, 4.
    throughput = choose(TABLE, STAGES, RATES, COSTS, "throughput")
    assert throughput.best.tolist() == [2, 1, 0]
    np.testing.assert_allclose(throughput.cost, [4, 2, 0.8])
    slow = choose(TABLE, STAGES, RATES, Costs(2.0, 0.5, downlink_bps=2e5), "throughput")  # 5 s for what returns
    assert slow.best.tolist() == [2, 2, 2]
    memory = choose(TABLE, STAGES, RATES, COSTS, "memory")
    assert memory.best.tolist() == [0, 0, 0]
    assert memory.cost[0] == 4 * 224 * 224 * 3


def test_a_wrong_model_costs_what_the_chosen_cut_loses_then():
    # At 1 Mbit/s the middle is chosen: 3.25 against 4. If the device is twice as fast: 2.75 against 2.
    choice = choose(TABLE, STAGES, RATES, COSTS, device_error=1.0)
    np.testing.assert_allclose(choice.error_loss[1], 2.75 / 2 - 1)
    assert choice.is_middle[1]
    assert not choice.is_worth_it[1]
    # A server that errs by half changes nothing there: 3.375 or 3.17 against 4.
    assert choose(TABLE, STAGES, RATES, COSTS, server_error=0.5).error_loss[1] == 0


def test_verdicts():
    verdict = choose(TABLE, STAGES, RATES, COSTS).verdict()
    assert verdict == (
        "latency: a cut inside is best from 1 Mbit/s to 1 Mbit/s, by at most 23.1% (cut 1 at 1 Mbit/s)"
    )
    assert choose(TABLE, STAGES, RATES, COSTS, device_error=1.0).verdict().endswith("cutting is not worth it")
    many = choose(TABLE, STAGES, np.array([1e6, 1e5, 1e6, 2e9]), COSTS).verdict()
    assert many.startswith("latency: a cut inside is best from 1 Mbit/s to 1 Mbit/s and 1 Mbit/s to 1 Mbit/s, by")
    assert choose(TABLE, STAGES, RATES[[0, 2]], COSTS).verdict() == (
        "latency: cutting is not worth it: all on the server from 10 Mbit/s to 10 Mbit/s, all on the device from "
        "0.1 Mbit/s to 0.1 Mbit/s"
    )


def test_unknown_objectives_are_told():
    with pytest.raises(ValueError, match="objective: got 'beauty'; allowed are latency, energy"):
        choose(TABLE, STAGES, RATES, COSTS, "beauty")

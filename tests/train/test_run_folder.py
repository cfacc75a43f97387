"""What a run's folder survives and refuses: two commands, foreign folders, other runs, damage."""

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec.agents import PPO, RunConfig
from jaxmec.agents.run import (
    check_new,
    check_same,
    locked,
    restore_checkpoint,
    save_checkpoint,
    scenario_of,
    write_config,
)
from jaxmec.config import ConfigError
from jaxmec.reporting.loggers import MetricsFile

CONFIG = RunConfig("coinfer4", 3, PPO(num_envs=8, num_steps=2, num_minibatches=2, width=8))


@pytest.fixture(scope="module")
def learner():
    env, params = jaxmec.make("coinfer4")
    return jax.jit(lambda key: CONFIG.algorithm.init(env, key, params))(jax.random.key(0))


def test_one_command_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(ConfigError, match="is in use by process"), locked(tmp_path):
        pass
    with locked(tmp_path):  # let go
        pass


def test_new_runs_go_into_new_or_empty_folders(tmp_path):
    check_new(tmp_path / "new")
    check_new(tmp_path)
    write_config(tmp_path, CONFIG)
    with pytest.raises(ConfigError, match="holds a run; continue it with --resume"):
        check_new(tmp_path)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "000.msgpack").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and holds no run"):
        check_new(foreign)


def test_another_run_is_not_continued_as_this_one(tmp_path):
    write_config(tmp_path, CONFIG)
    check_same(tmp_path, {"seed": 3, "algorithm": "ppo", "ppo": {"width": 8}})
    with pytest.raises(ConfigError, match=r"seed is 3, not 4; ppo.learning_rate is 0.003, not 1.0"):
        check_same(tmp_path, {"seed": 4, "ppo": {"learning_rate": 1.0}})


def test_the_scenario_is_kept_as_it_was(tmp_path):
    file = tmp_path / "mine.yaml"
    jaxmec.profiles.load("alexnet").save(tmp_path / "own.json")
    text = (
        "users: [{networks: {own.json: 1}, devices: {jetson_nano: 1}, energy_budget_j: {jetson_nano: 1}, count: 2}]\n"
        "server: {device: epyc_7742, energy_budget_j: 5}\nradio: {bandwidth_hz: 5e6}\n"
    )
    file.write_text(text)
    write_config(tmp_path / "run", RunConfig(str(file), 0, CONFIG.algorithm))
    file.write_text(text.replace("5e6", "6e6"))
    (tmp_path / "own.json").unlink()
    _, params = jaxmec.make(scenario_of(tmp_path / "run"))
    assert float(params.bandwidth_hz) == 5e6


def test_damage_everywhere_is_refused_and_nothing_is_changed(tmp_path, learner):
    assert restore_checkpoint(tmp_path, learner) is None
    for updates in (1, 2):
        save_checkpoint(tmp_path, learner.replace(updates=learner.updates + updates))
    (tmp_path / "checkpoints/notes.msgpack").write_text("not ours")
    for path in (tmp_path / "checkpoints").glob("0*.msgpack"):
        path.write_bytes(path.read_bytes()[:-1])
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="no checkpoint .* can be used"),
    ):
        restore_checkpoint(tmp_path, learner)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3


def test_a_checkpoint_of_other_shapes_is_told_in_one_line(tmp_path, learner):
    save_checkpoint(tmp_path, learner)
    other = learner.replace(updates=np.zeros(2, np.int32))
    message = r"\.updates is int32\[\], but int32\[2\] is needed here"
    with pytest.warns(UserWarning, match=message), pytest.raises(ValueError, match=message):
        restore_checkpoint(tmp_path, other)


def test_metrics_are_replaced_whole_and_missing_rows_are_counted(tmp_path):
    path = tmp_path / "metrics.csv"
    log = MetricsFile(path, 0)
    for update in range(1, 6):
        log.write({"update": update, "x": 0.5 * update})
    log.close()
    assert MetricsFile(path, 3).missing == 0  # opened and killed: the rows up to the checkpoint are there
    assert path.read_text().splitlines() == ["update,x", "1,0.5", "2,1.0", "3,1.5"]
    assert MetricsFile(path, 5).missing == 2
    np.testing.assert_array_equal([line.split(",")[0] for line in path.read_text().splitlines()[1:]], list("123"))

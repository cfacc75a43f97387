"""The training command: a run's folder, resuming, and errors."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec.agents import PPO, Evolution, Imitation, RunConfig, WhiteBox, load_config, load_policy
from jaxmec.agents.run import build_run, check_space, plain_run, restore_checkpoint, save_checkpoint, write_config
from jaxmec.commands import train
from jaxmec.config import ConfigError
from jaxmec.evaluation import objectives_at

ROOT = Path(__file__).parents[2]
SMALL = (
    *("--scenario", "coinfer4", "--num-envs", "16", "--num-steps", "2"),
    *("--num-minibatches", "2", "--width", "8", "--checkpoint-every", "1"),
)
UPDATES = 300  # of most runs here, which have one compilation then


def start(*flags, devices=1):
    command = [sys.executable, str(ROOT / "train/main.py"), *map(str, flags)]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(process):
    output = process.communicate(timeout=600)[0]
    return process.returncode, output


def run(*flags, devices=1):
    return finish(start(*flags, devices=devices))


def wait_for_checkpoint(folder, process):
    while not list((folder / "checkpoints").glob("*.msgpack")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(folder):
    return np.array([[float(value) for value in row.values()] for row in rows(folder)])


STEPS = ("--total-steps", 16 * 2 * UPDATES, "--no-evaluate")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    status, output = run(*SMALL, *STEPS, "--tensorboard", "--out", folder)
    assert status == 0, output
    assert np.isfinite(numbers(folder)).all()
    return folder


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(tmp_path, sig):
    folder = tmp_path / "run"
    process = start(*SMALL, *STEPS, "--out", folder)
    wait_for_checkpoint(folder, process)
    process.send_signal(sig)
    status, output = finish(process)
    assert status == 130
    assert f"--out {folder} --resume" in output
    newest = max((folder / "checkpoints").glob("*.msgpack"))
    assert int(newest.stem) == len(rows(folder))


def test_eight_devices_and_two_processes_give_the_metrics_of_one_device(tmp_path):
    flags = (*SMALL, "--total-steps", 16 * 2 * 2, "--no-evaluate")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    pair = [
        start(*flags, "--out", tmp_path / "two", "--coordinator", address, "--num-processes", 2, "--process-id", i)
        for i in range(2)
    ]
    for process in pair:
        status, output = finish(process)
        assert status == 0, output
    status, output = run(*flags, "--out", tmp_path / "eight", devices=8)
    assert status == 0, output
    assert train.main([*map(str, (*flags, "--out", tmp_path / "one"))]) == 0
    one, eight, two = (numbers(tmp_path / name) for name in ("one", "eight", "two"))
    np.testing.assert_allclose(eight, one, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(two, one, rtol=2e-4, atol=1e-5)


def test_tensorboard_holds_the_metrics(uninterrupted):
    loader = pytest.importorskip("tensorboardX.event_file_writer")
    del loader
    (events,) = (uninterrupted / "tensorboard").glob("events*")
    content = events.read_bytes()
    assert content.count(b"objective") >= 2 * len(rows(uninterrupted))  # objective and log_objective


def fresh(algorithm, env, params):
    return jax.jit(lambda key: algorithm.init(env, key, params))(jax.random.key(0))


def test_a_white_box_run_has_its_own_flags_and_names_its_algorithm(tmp_path):
    folder = tmp_path / "run"
    flags = ("--algorithm", "white_box", *SMALL, "--total-steps", 16 * 2 * 2, "--no-evaluate")
    assert train.main([*map(str, (*flags, "--out", folder))]) == 0
    config = load_config(folder)
    assert config.algorithm == WhiteBox(num_envs=16, num_steps=2, num_minibatches=2, width=8, total_steps=64)
    assert "policy_loss" in rows(folder)[0]
    assert "value_loss" not in rows(folder)[0]  # there is no critic


@pytest.mark.parametrize(
    "algorithm", [PPO(width=8), WhiteBox(learning_rate=0.1), Imitation(expert="greedy"), Evolution(population=8)]
)
def test_a_runs_file_survives_and_is_told_apart(algorithm):
    config = RunConfig("coinfer4", 3, algorithm)
    assert build_run(plain_run(config), "here") == config
    assert type(build_run(plain_run(config), "here").algorithm) is type(algorithm)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"algorithm": "sarsa"}, "here: algorithm: got 'sarsa'; allowed are ppo, white_box, imitation, evolution"),
        ({"algorithm": "ppo", "white_box": {}}, "here: white_box: got a section of another algorithm"),
        ({"white_box": {"clip": 0.1}}, "here: white_box.clip: unknown field"),
        ({"scenari": "coinfer4"}, "here: scenari: unknown field"),
        ({"scenario": "coinfer"}, "here: scenario: got 'coinfer'; allowed are"),
        ({"ppo": {"discount": 5}}, "here: ppo.discount: got 5.0; allowed is a number at least 0 and at most 1"),
        ({"ppo": {"clip": -1}}, "here: ppo.clip: got -1.0; allowed is a number above 0"),
        ({"ppo": {"learning_rate": -1}}, "here: ppo.learning_rate: got -1.0; allowed is a number above 0"),
        ({"ppo": {"num_envs": 2**31}}, "here: ppo.num_envs: got 2147483648; allowed is a number at least 1 and"),
        ({"evolution": {"population": 1e30}}, "here: evolution.population: got 1e.30; allowed is a whole number"),
        ({"seed": 2**32}, "here: seed: got 4294967296; allowed is a number at least 0 and at most 4294967295"),
    ],
)
def test_wrong_run_files_are_told_by_field_and_value(data, message):
    with pytest.raises(ConfigError, match=message):
        build_run(data, "here")


def test_a_folder_holds_the_run_and_a_policy(tmp_path):
    env, params = jaxmec.make("coinfer4")
    config = RunConfig("coinfer4", 3, PPO(num_envs=8, num_steps=2, num_minibatches=2, width=8))
    write_config(tmp_path, config)
    assert load_config(tmp_path) == config
    learner = fresh(config.algorithm, env, params)
    save_checkpoint(tmp_path, learner)
    policy = load_policy(tmp_path, env)
    _, state = env.reset(jax.random.key(1), params)
    cuts = policy(jax.random.key(2), state, params)
    assert np.take_along_axis(np.asarray(env.action_mask(state, params)), np.asarray(cuts)[:, None], axis=-1).all()
    larger, larger_params = jaxmec.make("coinfer10")
    _, state = larger.reset(jax.random.key(1), larger_params)
    assert load_policy(tmp_path, larger)(jax.random.key(2), state, larger_params).shape == (10,)
    params = params.replace(bandwidth_hz=params.bandwidth_hz / 4)  # where cuts differ widely
    states = jax.jit(jax.vmap(lambda key: env.reset(key, params)[1]))(jax.random.split(jax.random.key(3), 64))
    policies = {number: load_policy(tmp_path, env, number) for number in (1, 8)}
    single, several = objectives_at(env, policies, jax.random.key(4), params, states).values()
    assert (several <= single * (1 + 1e-5)).all()  # the most probable cuts are among the candidates
    assert several.mean() < 0.9 * single.mean()  # and an untrained policy's are far from the best
    with pytest.raises(ValueError, match="candidates: got 0; allowed is at least 1"):
        load_policy(tmp_path, env, 0)


def test_a_policy_over_all_users_is_refused_by_a_system_of_another_shape(tmp_path):
    env, params = jaxmec.make("coinfer4")
    config = RunConfig("coinfer4", 0, PPO(num_envs=2, num_minibatches=1, network="mlp", width=8))
    write_config(tmp_path, config)
    save_checkpoint(tmp_path, fresh(config.algorithm, env, params))
    load_policy(tmp_path, env)
    with pytest.raises(ValueError, match="only 'set' networks serve other numbers of users or cuts"):
        load_policy(tmp_path, jaxmec.make("coinfer10")[0])


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    env, params = jaxmec.make("coinfer4")
    first = fresh(PPO(num_envs=8, num_steps=2, num_minibatches=2, width=8), env, params)
    for updates in (1, 2):
        save_checkpoint(tmp_path, first.replace(updates=first.updates + updates))
    newest = tmp_path / "checkpoints/00000002.msgpack"
    data = bytearray(newest.read_bytes())
    if damage == "truncate":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    newest.write_bytes(bytes(data))
    with pytest.warns(UserWarning, match="00000002.msgpack: damaged"):
        restored = restore_checkpoint(tmp_path, first)
    assert int(restored.updates) == 1
    np.testing.assert_array_equal(jax.random.key_data(restored.key), jax.random.key_data(first.key))


def test_hyperparameters_out_of_range_are_refused_by_the_learner_itself():
    env, _ = jaxmec.make("coinfer4")
    for algorithm, message in (
        (PPO(discount=5.0), "discount: got 5.0; allowed is a number at least 0 and at most 1"),
        (WhiteBox(learning_rate=float("nan")), "learning_rate: got nan"),
        (Evolution(deviation=np.float32(-1)), "deviation: got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            algorithm.check(env)


def interrupt(process, said):
    """Ctrl-C as soon as a command says that; returns what it said before."""
    before = []
    for line in process.stdout:
        before.append(line)
        if line.startswith(said):
            break
    process.send_signal(signal.SIGINT)
    status, output = finish(process)
    assert status == 130
    assert output.splitlines()[-1].startswith("stopped; continue with: python train/main.py --out")
    assert "Traceback" not in output
    return "".join(before)


def test_ctrl_c_while_a_run_is_compiled_ends_the_command_with_one_line(tmp_path):
    folder = tmp_path / "run"
    interrupt(start(*SMALL, "--total-steps", 16 * 2, "--out", folder), "compiling for")
    status, output = run("--out", folder, "--resume", "--no-evaluate")
    assert status == 0, output
    assert len(rows(folder)) == 1
    assert (folder / "learning_curve.png").stat().st_size > 0


def test_ctrl_c_while_a_run_is_evaluated_ends_the_command_with_one_line(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    before = interrupt(start("--out", folder, "--resume"), "making static")
    assert f"resuming after update {UPDATES} of {UPDATES}" in before
    assert rows(folder) == rows(uninterrupted)


def test_errors_come_before_training(tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text("ppo: {num_env: 4}\n")
    status, output = run("--config", tmp_path / "wrong.yaml")
    assert status == 2
    assert "ppo.num_env: unknown field (value 4)" in output.replace("\n", " ")
    (tmp_path / "file").write_text("")
    for flags, message in (
        (("--out", tmp_path / "file" / "run"), "Not a directory"),
        (("--num-envs", 10), "num_minibatches: got 32; allowed is a divisor of num_envs = 10"),
        (
            ("--algorithm", "evolution", "--population", 7),
            "population: got 7; allowed is an even divisor of num_envs = 4096",
        ),
        (("--algorithm", "sarsa"), "--algorithm: algorithm: got 'sarsa'; allowed are ppo"),
        (("--resume", "--out", tmp_path / "nothing"), "cannot be read: No such file or directory"),
    ):
        assert train.main([*map(str, ("--out", tmp_path / "run", *flags))]) == 2
        assert message in capsys.readouterr().err


def test_a_full_disk_is_told_before_training(tmp_path, monkeypatch):
    env, params = jaxmec.make("coinfer4")
    config = RunConfig(algorithm=PPO(num_envs=8, num_minibatches=2, width=8, total_steps=80))
    learner = fresh(config.algorithm, env, params)
    check_space(tmp_path, config, learner)
    leaves = jax.tree.leaves(learner.replace(key=None))
    checkpoints = 5 * sum(leaf.nbytes for leaf in leaves)  # three that stay, one that comes, and the policy
    metrics = 1500 * 10  # of ten updates
    for free, fits in ((checkpoints + metrics, True), (checkpoints + metrics - 1, False), (checkpoints, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if fits:
            check_space(tmp_path, config, learner)
        else:
            with pytest.raises(OSError, match="MB free; the run's files need"):
                check_space(tmp_path, config, learner)

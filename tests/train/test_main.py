"""The training command: a run's folder, resuming, and errors."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec.agents import PPOConfig, load_config, load_policy, ppo
from jaxmec.agents.run import RunConfig, restore_checkpoint, save_checkpoint, write_config

ROOT = Path(__file__).parents[2]
SMALL = (
    *("--scenario", "coinfer4", "--num-envs", "16", "--num-steps", "2"),
    *("--num-minibatches", "2", "--width", "8", "--checkpoint-every", "1"),
)


def start(*flags):
    command = [sys.executable, str(ROOT / "train/main.py"), *map(str, flags)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
    )


def run(*flags):
    process = start(*flags)
    output = process.communicate(timeout=300)[0]
    return process.returncode, output


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_and_resumed_run_has_the_metrics_of_an_uninterrupted_one(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    steps = ("--total-steps", 32 * 60, "--no-evaluate")
    status, output = run(*SMALL, *steps, "--out", whole)
    assert status == 0, output
    process = start(*SMALL, *steps, "--out", broken)
    for _ in range(1200):  # killed as soon as there is something to resume from
        if len(list((broken / "checkpoints").glob("*.msgpack"))) > 1:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert 0 < len(rows(broken)) <= 60
    status, output = run("--out", broken, "--resume", "--no-evaluate")
    assert status == 0, output
    assert "resuming after update" in output
    assert rows(broken) == rows(whole)
    assert (broken / "learning_curve.png").stat().st_size > 0


def test_a_folder_holds_the_run_and_a_policy(tmp_path):
    env, params = jaxmec.make("coinfer4")
    config = RunConfig("coinfer4", seed=3, ppo=PPOConfig(num_envs=8, num_steps=2, num_minibatches=2, width=8))
    write_config(tmp_path, config)
    assert load_config(tmp_path) == config
    learner = ppo.init(env, config.ppo, jax.random.key(0), params)
    save_checkpoint(tmp_path, learner)
    policy = load_policy(tmp_path, env)
    _, state = env.reset(jax.random.key(1), params)
    cuts = policy(jax.random.key(2), state, params)
    assert np.take_along_axis(np.asarray(env.action_mask(state, params)), np.asarray(cuts)[:, None], axis=-1).all()
    larger, larger_params = jaxmec.make("coinfer10")
    _, state = larger.reset(jax.random.key(1), larger_params)
    assert load_policy(tmp_path, larger)(jax.random.key(2), state, larger_params).shape == (10,)


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    env, params = jaxmec.make("coinfer4")
    config = PPOConfig(num_envs=8, num_steps=2, num_minibatches=2, width=8)
    first = ppo.init(env, config, jax.random.key(0), params)
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


def test_errors_come_before_training(tmp_path):
    (tmp_path / "wrong.yaml").write_text("ppo: {num_env: 4}\n")
    status, output = run("--config", tmp_path / "wrong.yaml")
    assert status == 2
    assert "ppo.num_env: unknown field (value 4)" in output.replace("\n", " ")
    (tmp_path / "file").write_text("")
    status, output = run("--out", tmp_path / "file" / "run")
    assert status == 2
    assert "error:" in output

"""Gymnasium's and Stable-Baselines3's views against the environment itself, by their own checkers, and in pictures."""

import io
import re
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.wrappers import Joint, Rounded, picture

gym = pytest.importorskip("gymnasium")

from jaxmec.wrappers.gymnasium import ID, CoInferEnv, CoInferVectorEnv  # noqa: E402


def followed(dials, seed, actions):
    """The environment itself with a seed's key, split at reset and at every slot."""
    key, own = jax.random.split(jax.random.key(seed))
    params, step = dials.default_params, jax.jit(dials.step)
    obs, state = dials.reset(own, params)
    slots = []
    for action in actions:
        key, own = jax.random.split(key)
        mask = np.asarray(dials.action_mask(state, params)).reshape(-1)
        next_obs, state, reward, _, truncated, info = step(own, state, action, params)
        slots.append((mask, next_obs, reward, truncated, info))
    return obs, slots


ACTIONS = np.array([[0, 1], [1, 1], [1, 0], [0, 0], [1, 1]])


def test_one_system_is_the_environment_of_the_seed(dials):
    env = CoInferEnv(dials)
    obs, slots = followed(dials, 11, ACTIONS)
    seen, start = env.reset(seed=11)
    np.testing.assert_array_equal(seen, obs.reshape(-1))
    for action, (mask, _, reward, truncated, info) in zip(ACTIONS[:4], slots, strict=False):
        np.testing.assert_array_equal(env.action_masks(), mask)
        seen, got, terminated, cut, told = env.step(action)
        np.testing.assert_array_equal(seen, info["final_observation"].reshape(-1))
        assert (got, terminated, cut) == (float(reward), False, bool(truncated))
        assert told.keys() == start.keys()
        np.testing.assert_array_equal(told["paid"], info["paid"])
    assert cut
    again, _ = env.reset(seed=11)
    other, _ = env.reset()
    np.testing.assert_array_equal(again, obs.reshape(-1))
    assert (other != again).any()


def test_many_systems_are_the_single_ones_and_reset_in_the_same_step(dials):
    envs = CoInferVectorEnv(3, dials)
    assert envs.metadata["autoreset_mode"] == gym.vector.AutoresetMode.SAME_STEP
    single = [followed(dials, 5 + number, ACTIONS) for number in range(3)]
    seen, _ = envs.reset(seed=5)
    np.testing.assert_array_equal(seen, np.stack([obs.reshape(-1) for obs, _ in single]))
    for slot, action in enumerate(ACTIONS):
        np.testing.assert_array_equal(envs.action_masks(), np.stack([slots[slot][0] for _, slots in single]))
        seen, rewards, terminated, truncated, told = envs.step(np.tile(action, (3, 1)))
        for number, (_, slots) in enumerate(single):
            _, obs, reward, ended, info = slots[slot]
            np.testing.assert_array_equal(seen[number], obs.reshape(-1))
            assert (rewards[number], truncated[number]) == (reward, ended)
            if ended:
                np.testing.assert_array_equal(told["final_obs"][number], info["final_observation"].reshape(-1))
        assert not terminated.any()
        assert ("final_obs" in told) == (slot == 3)
    first, _ = envs.reset(seed=[7, 7, 8])
    assert (first[0] == first[1]).all()
    assert (first[0] != first[2]).any()


def test_checkers_find_nothing(dials):
    from gymnasium.utils.env_checker import check_env

    for actions in (Rounded(), Joint()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_env(CoInferEnv(dials, actions=actions), skip_render_check=True)
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    sb3.check_env(CoInferEnv(dials))


def test_bad_input_is_refused_by_name(dials):
    env = CoInferEnv(dials)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action: got float64\[2\]; allowed are whole numbers of shape \[2\]"):
        env.step(np.zeros(2))
    for value in (0, True, 2.0):
        with pytest.raises(ValueError, match=f"num_envs: got {value}; allowed is a whole number, at least 1"):
            CoInferVectorEnv(value, dials)
    with pytest.raises(ValueError, match="seed: got 2 seeds; allowed are one, or one for each of 3 systems"):
        CoInferVectorEnv(3, dials).reset(seed=[1, 2])
    with pytest.raises(ValueError, match="render_mode: got 'human' for TwoDials; allowed is None"):
        CoInferEnv(dials, render_mode="human")
    with pytest.raises(ValueError, match="render_mode: got 'film'; allowed are rgb_array, human, ansi"):
        CoInferEnv("coinfer4", render_mode="film")
    with pytest.raises(ValueError, match="num_users: got a value; allowed where scenario is a name or a file"):
        CoInferEnv(dials, num_users=3)


def test_stable_baselines3_sees_time_outs_and_masks(dials):
    pytest.importorskip("stable_baselines3")
    from jaxmec.wrappers.stable_baselines3 import CoInferVecEnv

    envs, same = CoInferVecEnv(3, dials), CoInferVectorEnv(3, dials)
    envs.seed(5)
    np.testing.assert_array_equal(envs.reset(), same.reset(seed=5)[0])
    for slot, action in enumerate(ACTIONS):
        assert envs.has_attr("action_masks")
        np.testing.assert_array_equal(np.stack(envs.env_method("action_masks")), same.action_masks())
        seen, rewards, done, infos = envs.step(np.tile(action, (3, 1)))
        wanted, wanted_rewards, _, truncated, told = same.step(np.tile(action, (3, 1)))
        np.testing.assert_array_equal(seen, wanted)
        np.testing.assert_array_equal(rewards, wanted_rewards)
        np.testing.assert_array_equal(done, truncated)
        for number in range(3):
            if slot == 3:
                assert infos[number]["TimeLimit.truncated"] is True
                np.testing.assert_array_equal(infos[number]["terminal_observation"], told["final_obs"][number])
            else:
                assert infos[number] == {}
    with pytest.raises(AttributeError, match="method_name: got 'close'; allowed is 'action_masks'"):
        envs.env_method("close")


@pytest.fixture(scope="module")
def played():
    """Two slots of the registered environment."""
    env = gym.make(ID, scenario="coinfer4", num_users=2, render_mode="rgb_array", disable_env_checker=True)
    env.reset(seed=3)
    first = env.render()
    env.step(np.array([0, 1]))
    before = env.unwrapped._state
    _, reward, *_, info = env.step(np.array([2, 99]))
    return env, first, before, reward, info


def test_the_registered_environment_draws_the_system(played):
    env, first, _, _, info = played
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.shape == first.shape
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert (picture != first).any()
    env.unwrapped.render_mode = "ansi"
    text = env.render()
    env.unwrapped.render_mode = "rgb_array"
    last = env.unwrapped._shown.last_cut
    for number, cut in enumerate(info["cut"]):
        assert f"{cut} of {last[number]}" in text
        assert f"{info['delay_s'][number]:.3f}" in text
    assert info["cut"][1] == last[1]  # 99 is beyond its network


class Terminal(io.StringIO):
    """What is written to a terminal, and what it then shows."""

    def isatty(self):
        return True

    def screen(self):
        """Its lines without colours, once cursor movements and erasures have been followed."""
        lines, row = [""], 0
        for up, erase, command, text in re.findall(
            r"\x1b\[(\d*)A|\x1b\[(2K)|(\x1b\[[\d;?]*[a-zA-Z]|\r)|(\n|[^\x1b\r\n]+)", self.getvalue()
        ):
            if up:
                row -= int(up)
            elif erase:
                lines[row] = ""
            elif text == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif not command:
                lines[row] += text
        return lines


def test_the_live_table_shows_the_last_slot_in_place_and_gives_the_cursor_back(played, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    for name, size in (("COLUMNS", "120"), ("LINES", "40")):
        monkeypatch.setenv(name, size)
    env = CoInferEnv("coinfer4", num_users=2, render_mode="human")
    env.reset(seed=3)
    assert any("slot 0," in line for line in terminal.screen())
    env.step(np.array([0, 1]))
    env.step(np.array([2, 99]))
    assert env.render() is None  # it is shown already
    screen = terminal.screen()
    env.close()
    assert sum("slot " in line for line in screen) == 1  # the slots before were drawn over
    *_, info = played
    rows = [line for line in screen if " of " in line]
    assert [row.split() for row in rows] == [
        row.split() for row in picture.text(env._shown).splitlines() if " of " in row
    ]
    for row, cut, delay_s in zip(rows, info["cut"], info["delay_s"], strict=True):
        assert f" {cut} of " in row
        assert f" {delay_s:.3f} " in row
    written = terminal.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # shown after it was hidden
    env.close()
    assert terminal.getvalue() == written  # once is enough


def test_own_rewards_of_agents_have_the_reward_as_their_mean(played):
    pytest.importorskip("jaxmarl")
    from jaxmec.wrappers.jaxmarl import JaxMARLEnv, own_rewards

    _, _, state, reward, info = played
    system, params = jaxmec.make("coinfer4", num_users=2)
    assert JaxMARLEnv(system, own_reward=True).num_agents == 2
    own = own_rewards(system, state, {name: jnp.asarray(value) for name, value in info.items()}, params)
    assert float(own.mean()) == pytest.approx(reward, rel=1e-4)
    budget = system.device_budget_j(state, params)
    server = float(state.server_queue) * (float(info["server_energy_j"] / params.server_budget_j) - 1) / 2
    v = float(params.tradeoff)
    expected = -(
        np.asarray(params.delay_weight) * info["delay_s"]
        + (np.asarray(state.device_queue) * (info["device_energy_j"] / np.asarray(budget) - 1) + server) / v
    )
    np.testing.assert_allclose(own, expected, rtol=1e-4)
    assert own[0] != own[1]

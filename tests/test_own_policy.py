"""Policies of one's own: a file's function decides as written, and what is wrong with one is told in one line."""

import jax
import numpy as np
import pytest

import jaxmec
from jaxmec.commands.eval import main
from jaxmec.config import ConfigError
from jaxmec.long_run import populations
from jaxmec.policies import make_policies, make_policy

GOOD = """
import dataclasses
import jax.numpy as jnp

@dataclasses.dataclass(frozen=True)
class Middle:
    env: object

    def __call__(self, key, state, params):
        return jnp.sum(self.env.action_mask(state, params), axis=-1, dtype=jnp.int32) // 2

def middle(env):
    return Middle(env)

NUMBER = 3
"""

POLICY = """
import jax.numpy as jnp

def mine(env):
    def policy({arguments}):
        {body}
    return policy
"""


@pytest.fixture(scope="module")
def env():
    return jaxmec.make("coinfer4")[0]


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "own.py").write_text(text)
        return f"{tmp_path}/own.py"

    return write


def test_what_may_be_refused_is_made_before_what_takes_long(env, write):
    told = []
    file = write(POLICY.format(arguments="key, state, params", body="return state.nothing"))
    with pytest.raises(ConfigError, match="cannot be traced"):
        make_policies(["static", f"{file}:mine"], env, told.append)
    assert told == []


def test_a_function_of_a_file_is_a_policy_and_is_called_by_its_name(env, write):
    file = write(GOOD)
    policies = make_policies(["edge_only", f"{file}:middle"], env)
    assert list(policies) == ["edge_only", "middle"]
    params = env.default_params
    states = populations(env, jax.random.split(jax.random.key(3), 16), params)
    cuts = jax.vmap(policies["middle"], (None, 0, None))(jax.random.key(4), states, params)
    valid = np.asarray(params.valid_cut).sum(axis=-1)
    np.testing.assert_array_equal(cuts, valid[np.asarray(states.network)] // 2)


@pytest.mark.parametrize(
    ("arguments", "body", "message"),
    [
        (
            "key, state",
            "return state.network",
            r"its policy takes \(key, state\); allowed is FUNCTION\(env\) that",
        ),
        ("key, state, params", "return jnp.zeros(3, jnp.int32)", r"returns int32\[3\]; allowed is int32\[4\]"),
        (
            "key, state, params",
            "return jnp.zeros(env.num_users)",
            r"returns float(32|64)\[4\]; allowed is int32\[4\]",
        ),
        ("key, state, params", "return [0] * 4", r"returns list; allowed is int32\[4\]"),
        ("key, state, params", "return 1 if state.slot > 0 else 0", "cannot be traced: TracerBoolConversionError"),
        ("key, state, params", "return state.nothing", "cannot be traced: AttributeError: .* 'nothing'"),
    ],
)
def test_a_wrong_policy_is_told_without_a_compilation(env, write, compilations, arguments, body, message):
    with compilations() as compiled, pytest.raises(ConfigError, match=f"own.py:mine: {message}") as told:
        make_policy(write(POLICY.format(arguments=arguments, body=body)) + ":mine", env)
    assert "\n" not in str(told.value)
    assert not compiled


@pytest.mark.parametrize(
    ("cuts", "wrong"), [("[0, -1, 0, 0]", "-1 of user 1"), ("[0, 0, 0, env.num_cuts]", "{} of user 3")]
)
def test_invalid_cuts_are_told_with_those_that_exist(env, write, cuts, wrong):
    body = f"return jnp.array({cuts}, jnp.int32)"
    wrong = wrong.format(env.num_cuts)
    with pytest.raises(
        ConfigError, match=f"own.py:mine: invalid cut {wrong}; allowed are 0, 1, 2, [0-9, ]*$"
    ) as told:
        make_policy(write(POLICY.format(arguments="key, state, params", body=body)) + ":mine", env)
    lengths = np.asarray(env.default_params.valid_cut).sum(axis=-1)
    assert int(str(told.value).rpartition(", ")[2]) + 1 in lengths


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        (GOOD, "midle", "own.py: no function 'midle'; allowed are Middle, middle"),
        (GOOD, "NUMBER", "own.py: no function 'NUMBER'"),
        ("def mine(key, state, params): ...", "mine", r"takes \(key, state, params\); allowed is FUNCTION\(env\)"),
        ("def mine(env): ...", "mine", r"returned None; allowed is FUNCTION\(env\)"),
        ("def mine(env): return env.nothing", "mine", "own.py:mine: AttributeError: .* 'nothing'"),
        ("import no_such_module", "mine", "own.py: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)", "mine", "own.py: SystemExit: 3"),
        ("def mine(:", "mine", "own.py: SyntaxError: "),
    ],
)
def test_a_wrong_file_is_told(env, write, text, function, message):
    with pytest.raises(ConfigError, match=message):
        make_policy(f"{write(text)}:{function}", env)


def test_files_without_a_function_missing_files_and_names_that_are_taken_are_refused(env, write, tmp_path):
    with pytest.raises(ConfigError, match="own.py'; allowed is .*own.py:FUNCTION"):
        make_policy(write(GOOD), env)
    with pytest.raises(ConfigError, match="no.py: cannot be read: no such file"):
        make_policy(f"{tmp_path}/no.py:mine", env)
    for name in ("greedy", "learned"):
        with pytest.raises(ConfigError, match=f"got '{name}'; allowed is a name that no other policy has"):
            make_policies([f"{write(GOOD)}:{name}"], env)
    with pytest.raises(ConfigError, match="b.py:middle: got 'middle'"):
        make_policies([f"{write(GOOD)}:middle", "b.py:middle"], env)


def test_the_command_refuses_it_in_one_line_before_anything_runs(write, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxmec.commands.eval.keep_compiled", lambda: None)
    monkeypatch.setattr("jaxmec.commands.eval.evaluate_policies", lambda *_, **__: pytest.fail("computed"))
    file = write(POLICY.format(arguments="key, state, params", body="return jnp.zeros(4)"))
    assert main(["--scenario", "coinfer4", "--policies", "edge_only", "--policy", f"{file}:mine"]) == 2
    shown = capsys.readouterr().err
    got = jax.numpy.zeros(4).dtype
    assert shown == f"error: {file}:mine: returns {got}[4]; allowed is int32[4], a cut for every user\n"
    assert not (tmp_path / "runs").exists()

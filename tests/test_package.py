"""`import jaxmec`: what it offers, and that it stays light."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import jaxmec

LIGHT = """
import sys, jaxmec
assert jaxmec.__version__
assert "jaxmec" in repr(jaxmec)
print(*sorted(name for name in ("jax", "flax", "matplotlib", "jaxmec.env") if name in sys.modules))
"""
ROOMS = """
import jaxmec
assert "stage_times" in dir(jaxmec.allocation)
assert "make_policy" in dir(jaxmec.policies)
assert "load" in dir(jaxmec.profiles)
assert "make_train" in dir(jaxmec.agents)
print("all there")
"""


def run(script):
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300
    ).stdout.strip()


def test_import_alone_loads_no_room_and_no_jax():
    assert run(LIGHT) == ""


def test_rooms_resolve_without_an_import_of_their_own():
    assert run(ROOMS) == "all there"


def test_dir_lists_the_public_names_and_each_resolves():
    assert dir(jaxmec) == sorted(jaxmec.__all__)
    assert {"make", "scenarios", "EdgeInferenceEnv", "policies", "allocation", "profiles", "agents"} <= set(
        dir(jaxmec)
    )
    for name in jaxmec.__all__:
        assert getattr(jaxmec, name) is not None
    assert jaxmec.__version__ == version("jaxmec")
    with pytest.raises(AttributeError, match="module 'jaxmec' has no attribute 'polices'"):
        _ = jaxmec.polices

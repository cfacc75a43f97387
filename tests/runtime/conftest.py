"""A small network, and the two commands as processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_network import small

ROOT = Path(__file__).parents[2]
MODULE = """
import jax.numpy as jnp
import numpy as np

WEIGHTS = [np.random.default_rng(i).normal(0, 0.5, (16, 16)).astype("float32") for i in range(4)]
X = np.random.default_rng(9).normal(0, 1, (1, 16)).astype("float32")

def network(weights, x):
    for w in weights:
        x = jnp.tanh(x @ w)
    return x

def small():
    return network, WEIGHTS, X

def shapes():
    import jax
    return network, [jax.ShapeDtypeStruct((16, 16), "float32")] * 4, X

def broken():
    raise RuntimeError("no weights [here]")

def wrong():
    return 3
"""


@pytest.fixture
def model():
    return small()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the module `runtime_models`."""
    path = tmp_path_factory.mktemp("runtime")
    (path / "runtime_models.py").write_text(MODULE)
    return path


@pytest.fixture(scope="module")
def start(folder):
    """Starts `python -m jaxmec.runtime ...` in the folder; whatever still runs at the end is killed."""
    processes = []

    def command(*flags):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PYTHONUNBUFFERED": "1",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxmec.runtime", *map(str, flags)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=folder,
        )
        processes.append(process)
        return process

    yield command
    for process in processes:
        process.kill()
        process.wait()

"""Settings every test runs under.

Silent broadcasting is an error. A programme is compiled once per session, however small, and quickly: most tests run
what they compile once or twice, so that optimising costs more than it saves. A module that runs its programmes for
long, or compares them to the last bit, says `OPTIMISED = True`.
"""

import atexit
import contextlib
import gc
import importlib
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

# Before JAX is imported; workers and the commands that tests start inherit it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxmec-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for the commands that tests start
# Of what is optimised: more would cost more than it saves, here too.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=1"
os.environ["XLA_FLAGS"] += " --xla_llvm_disable_expensive_passes=true"
if version("jaxlib").startswith("0.10."):
    # The emitters that it had before compile twice as fast; their kernels are slower, and later versions have none.
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
# Programmes are hundreds of thousands of objects that stay: looking for garbage among them took 8 % of the time.
gc.set_threshold(100_000)


@pytest.fixture(scope="module", autouse=True)
def _optimised(request):
    jax.config.update("jax_disable_most_optimizations", not getattr(request.module, "OPTIMISED", False))


@contextlib.contextmanager
def _compilations():
    seconds = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="session")
def compilations():
    """A context whose list has an item for every programme that is compiled in it."""
    return _compilations


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="module")
def command():
    """Import a command of eval/ by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "eval"))
        yield importlib.import_module

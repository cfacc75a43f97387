"""What is compiled: in one piece, and kept between commands, so that a second run starts at once."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")

LARGEST_BYTES = 1 << 30  # of all that is kept; the least recently used goes first
SHORTEST_S = 1.0  # compilations that took less are not worth a file


def one_programme(*static: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator of pure functions: one compiled programme wherever they are called outside of another.

    Operation by operation, a first call would compile each of hundreds by itself. Inside `jax.jit` a function's
    operations stand among its caller's, as ever, and what was traced for the same shapes is not traced again.

    Args:
      *static: places of hashable arguments that are no arrays; a method's own is 0.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        compiled = jax.jit(function, static_argnums=static, inline=True)

        @functools.wraps(function)  # still a function, as a method and for whoever reads its signature
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return compiled(*args, **kwargs)

        return call

    return decorate


def keep_compiled() -> None:
    """Use JAX's persistent compilation cache, in the user's cache folder.

    A folder belongs to one version of JAX and one kind of processor, since programmes compiled for another may not run
    here. JAX_COMPILATION_CACHE_DIR, if set, says where instead; JAX_ENABLE_COMPILATION_CACHE=0 keeps nothing. A damaged
    file is compiled anew, with a warning.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "jaxmec" / f"jax-{jax.__version__}-{_processor()}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST_S)
    jax.config.update("jax_compilation_cache_max_size", LARGEST_BYTES)


def _processor() -> str:
    """A digest of the processor's kind and instruction sets."""
    text = platform.machine() + platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        kept = ("model name", "flags", "Features", "CPU part")
        text += "".join(sorted({line for line in info.read_text().splitlines() if line.startswith(kept)}))
    return hashlib.sha256(text.encode()).hexdigest()[:12]

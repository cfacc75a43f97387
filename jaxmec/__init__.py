"""jaxmec: cooperative edge inference in JAX.

    env, params = jaxmec.make("coinfer10")
    obs, state = env.reset(key, params)
    obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)

Names and rooms are loaded on first use, so that `import jaxmec` is fast and `jaxmec.allocation` alone stays light.
They are listed in __init__.pyi.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any


def _modules() -> dict[str, str]:
    """Public name -> the module from which __init__.pyi imports it."""
    statements = ast.parse(Path(__file__).with_suffix(".pyi").read_text()).body
    imports = [one for one in statements if isinstance(one, ast.ImportFrom)]
    return {alias.name: str(one.module) for one in imports for alias in one.names}


_MODULES = _modules()
__all__ = [*sorted(_MODULES), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("jaxmec")
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'jaxmec' has no attribute {name!r}")
    if module == __name__:
        return importlib.import_module(f"jaxmec.{name}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)

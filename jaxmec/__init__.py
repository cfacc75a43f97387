"""jaxmec: cooperative edge inference in JAX.

    env, params = jaxmec.make("coinfer10")
    obs, state = env.reset(key, params)
    obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)

The names below are loaded on first use, so that `jaxmec.allocation` or `jaxmec.profiles` alone stay light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
    from jaxmec.scenario import make, scenarios

__all__ = ["EdgeInferenceEnv", "EnvParams", "EnvState", "make", "scenarios"]

_HOMES = {
    "EdgeInferenceEnv": "jaxmec.env",
    "EnvParams": "jaxmec.env",
    "EnvState": "jaxmec.env",
    "make": "jaxmec.scenario",
    "scenarios": "jaxmec.scenario",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxmec' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

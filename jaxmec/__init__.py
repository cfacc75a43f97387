"""jaxmec: cooperative edge inference in JAX.

    env, params = jaxmec.make("coinfer10")
    obs, state = env.reset(key, params)
    obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)

Names and rooms are loaded on first use, so that `import jaxmec` is fast and `jaxmec.allocation` alone stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmec import (
        agents,
        allocation,
        channel,
        delay,
        devices,
        evaluation,
        lyapunov,
        policies,
        profiles,
        reporting,
        requests,
        rollout,
        scenario,
        sweeps,
        workload,
    )
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
    from jaxmec.scenario import make, scenarios

_NAMES = {
    "EdgeInferenceEnv": "jaxmec.env",
    "EnvParams": "jaxmec.env",
    "EnvState": "jaxmec.env",
    "make": "jaxmec.scenario",
    "scenarios": "jaxmec.scenario",
}
_ROOMS = (
    "agents",
    "allocation",
    "channel",
    "delay",
    "devices",
    "evaluation",
    "lyapunov",
    "policies",
    "profiles",
    "reporting",
    "requests",
    "rollout",
    "scenario",
    "sweeps",
    "workload",
)

__all__ = [
    "EdgeInferenceEnv",
    "EnvParams",
    "EnvState",
    "__version__",
    "agents",
    "allocation",
    "channel",
    "delay",
    "devices",
    "evaluation",
    "lyapunov",
    "make",
    "policies",
    "profiles",
    "reporting",
    "requests",
    "rollout",
    "scenario",
    "scenarios",
    "sweeps",
    "workload",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"jaxmec.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("jaxmec")
    raise AttributeError(f"module 'jaxmec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

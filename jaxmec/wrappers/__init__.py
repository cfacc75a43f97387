"""Views of an environment for other people's stacks. Each is a frozen value: hashable, copyable, picklable.

view.py               what they share: which numbers, which actions, flat observations or not
actions.py            cuts as one action per user, as one box, or as one number
gymnax.py             gymnax 1.x, and the five-tuple of gymnax before it (rejax, purejaxrl)
stoa.py, dm.py        time steps in which a time-out is a truncation with discount 1
jumanji.py            specs and time steps
jaxmarl.py            every user an agent
gymnasium.py          jaxmec/CoInfer-v0, one system or thousands
stable_baselines3.py  a VecEnv without a copy per environment
picture.py            a system in one slot as an image or as a table

A file of a stack imports that stack, and an ImportError names the extra that brings it. docs/wrappers.md has each
mapping in a table.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmec.wrappers.actions import Joint, PerUser, Rounded
    from jaxmec.wrappers.dm import DmEnv
    from jaxmec.wrappers.gymnasium import CoInferEnv, CoInferVectorEnv
    from jaxmec.wrappers.gymnax import FiveTupleEnv, GymnaxEnv
    from jaxmec.wrappers.jaxmarl import JaxMARLEnv
    from jaxmec.wrappers.jumanji import JumanjiEnv
    from jaxmec.wrappers.stable_baselines3 import CoInferVecEnv
    from jaxmec.wrappers.stoa import StoaEnv
    from jaxmec.wrappers.view import View

_FILES = {
    "Joint": "actions",
    "PerUser": "actions",
    "Rounded": "actions",
    "DmEnv": "dm",
    "CoInferEnv": "gymnasium",
    "CoInferVectorEnv": "gymnasium",
    "FiveTupleEnv": "gymnax",
    "GymnaxEnv": "gymnax",
    "JaxMARLEnv": "jaxmarl",
    "JumanjiEnv": "jumanji",
    "CoInferVecEnv": "stable_baselines3",
    "StoaEnv": "stoa",
    "View": "view",
}

__all__ = [
    "CoInferEnv",
    "CoInferVecEnv",
    "CoInferVectorEnv",
    "DmEnv",
    "FiveTupleEnv",
    "GymnaxEnv",
    "JaxMARLEnv",
    "Joint",
    "JumanjiEnv",
    "PerUser",
    "Rounded",
    "StoaEnv",
    "View",
]


def __getattr__(name: str) -> Any:
    if name in _FILES:
        return getattr(importlib.import_module(f"jaxmec.wrappers.{_FILES[name]}"), name)
    raise AttributeError(f"module 'jaxmec.wrappers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

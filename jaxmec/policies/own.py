"""A policy of one's own from a file: FILE.py:FUNCTION, a function from an environment to a policy.

It is tried before anything long is compiled: its signature, what it returns by abstract evaluation, and its cuts at the
start of some episodes.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmec import long_run
from jaxmec.config import ConfigError, quoted
from jaxmec.environment import Environment, Policy

EPISODES = 16  # at whose start cuts are checked, so that most networks and devices have a user
FORM = "FUNCTION(env) that returns policy(key, state, params)"


def split_own(name: str) -> tuple[Path, str] | None:
    """File and function of a name, or None if it names no file of Python.

    Raises:
      ConfigError: if it names a file without a function.
    """
    path, _, function = name.rpartition(":")
    if name.endswith(".py"):
        raise ConfigError(f"policy: got {name!r}; allowed is {name}:FUNCTION")
    return (Path(path), function) if path.endswith(".py") else None


def load_own(path: Path, function: str, env: Environment) -> Policy:
    """The policy that a file's function makes for an environment.

    Args:
      path: of the file, which is run: it is code, as trusted as any other.
      function: its name; it takes the environment and returns policy(key, state, params) -> int32[N].
      env: the environment.

    Raises:
      ConfigError: naming file and function, what is wrong and what is allowed.
    """
    name = f"{path}:{function}"
    make = _function(path, function)
    if not _takes(make, 1):
        raise ConfigError(f"{name}: takes {inspect.signature(make)}; allowed is {FORM}")
    try:
        policy = make(env)
    except Exception as error:
        raise ConfigError(f"{name}: {_told(error)}") from error
    if not callable(policy):
        raise ConfigError(f"{name}: returned {quoted(policy)}; allowed is {FORM}")
    if not _takes(policy, 3):
        raise ConfigError(f"{name}: its policy takes {inspect.signature(policy)}; allowed is {FORM}")
    check_policy(name, policy, env)
    return policy


def check_policy(name: str, policy: Policy, env: Environment) -> None:
    """Refuse a policy of wrong shape, type or cuts, by its abstract values and at the start of some episodes.

    Raises:
      ConfigError: naming the policy, what it returned and what is allowed.
    """
    params = env.default_params
    keys = jax.random.split(jax.random.key(0), EPISODES)
    allowed = jax.ShapeDtypeStruct((env.num_users,), jnp.int32)
    try:
        _, state = jax.eval_shape(env.reset, keys[0], params)
        found = jax.eval_shape(policy, keys[0], state, params)
    except Exception as error:
        raise ConfigError(f"{name}: cannot be traced: {_told(error)}") from error
    if not isinstance(found, jax.ShapeDtypeStruct) or (found.shape, found.dtype) != (allowed.shape, allowed.dtype):
        raise ConfigError(f"{name}: returns {_type(found)}; allowed is {_type(allowed)}, a cut for every user")

    states = long_run.populations(env, keys, params)
    cuts, mask = jax.tree.map(
        np.asarray,
        (
            jax.jit(jax.vmap(policy, (0, 0, None)))(keys, states, params),
            jax.jit(jax.vmap(env.action_mask, (0, None)))(states, params),
        ),
    )
    number = mask.shape[-1]
    exists = np.take_along_axis(mask, np.clip(cuts, 0, number - 1)[..., None], axis=-1)[..., 0]
    for episode, user in np.argwhere(~exists | (cuts < 0) | (cuts >= number))[:1]:
        valid = ", ".join(map(str, np.flatnonzero(mask[episode, user])))
        raise ConfigError(f"{name}: invalid cut {cuts[episode, user]} of user {user}; allowed are {valid}")


def _function(path: Path, function: str) -> Callable[..., Any]:
    """A function of a file, which is run as a module of its own."""
    if not path.is_file():
        raise ConfigError(f"{path}: cannot be read: no such file")
    spec = importlib.util.spec_from_file_location(str(path.resolve()), path)
    assert spec is not None  # of every name that ends with .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise ConfigError(f"{path}: {_told(error)}") from error
    found = getattr(module, function, None)
    if not callable(found):
        there = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == spec.name]
        raise ConfigError(f"{path}: no function {function!r}; allowed are {', '.join(there) or 'none'}")
    return found


def _takes(call: Callable[..., Any], number: int) -> bool:
    """Whether it can be called with so many arguments by position."""
    try:
        inspect.signature(call).bind(*range(number))
    except TypeError:
        return False
    except ValueError:  # a builtin that does not tell
        return True
    return True


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _type(value: Any) -> str:
    """An array's type as JAX writes it, int32[4]; of anything else, its Python type."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype.name}[{','.join(map(str, value.shape))}]"
    return type(value).__name__

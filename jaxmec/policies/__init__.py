"""Rules and searches that choose cuts, all of one signature: policy(key, state, params) -> int32[N].

Every policy is a pure function that works under jit and vmap, and every one is followed by the same exact
allocation of the slot's resources.
"""

from __future__ import annotations

from collections.abc import Callable

from jax import Array

from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.policies.best_response import best_response
from jaxmec.policies.exhaustive import exhaustive
from jaxmec.policies.price import price
from jaxmec.policies.rules import closed_form, edge_only, greedy, local_only, random_cuts

Policy = Callable[[Array, EnvState, EnvParams], Array]

_MAKERS: dict[str, Callable[[EdgeInferenceEnv], Policy]] = {
    "local_only": local_only,
    "edge_only": edge_only,
    "random": random_cuts,
    "greedy": greedy,
    "closed_form": closed_form,
    "best_response": best_response,
    "price": price,
    "exhaustive": exhaustive,
}

BASELINES = (
    "local_only",
    "edge_only",
    "random",
    "greedy",
    "closed_form",
    "best_response",
)  # what a learned policy stands beside

__all__ = ["BASELINES", "Policy", "make_policy", "policy_names"]


def policy_names() -> tuple[str, ...]:
    """Names that `make_policy` knows."""
    return tuple(_MAKERS)


def make_policy(name: str, env: EdgeInferenceEnv) -> Policy:
    """A policy for an environment.

    Args:
      name: one of `policy_names()`; learned policies come from `jaxmec.agents.load_policy`.
      env: the environment whose shapes the policy serves.

    Returns:
      policy(key, state, params) -> int32[N], valid cuts.

    Raises:
      ValueError: for an unknown name, or a system too large for `exhaustive`.
    """
    if name not in _MAKERS:
        raise ValueError(f"policy: got {name!r}; allowed are {', '.join(_MAKERS)}")
    return _MAKERS[name](env)

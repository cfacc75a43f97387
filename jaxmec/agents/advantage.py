"""Generalised advantage estimation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def gae(
    reward_t: Array,
    value_t: Array,
    value_tp1: Array,
    terminated_t: Array,
    truncated_t: Array,
    discount: Array | float,
    trace_decay: Array | float,
) -> Array:
    """Advantages [T, ...] of a stretch of T steps.

    A truncated episode is cut off, not over: its last step bootstraps from the value of the state it reached,
    which `value_tp1` must hold (not that of the fresh episode's first state), and no trace crosses it.
    Source: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
    arXiv 1506.02438 (2015), eq. 16.

    Args:
      reward_t: [T, ...].
      value_t: [T, ...], of the states in which the steps were taken.
      value_tp1: [T, ...], of the states that the steps reached, before any reset.
      terminated_t: bool[T, ...].
      truncated_t: bool[T, ...].
      discount: γ in [0, 1].
      trace_decay: λ in [0, 1].
    """
    delta_t = reward_t + discount * jnp.where(terminated_t, 0.0, value_tp1) - value_t
    carries_on = ~(terminated_t | truncated_t)

    def step(advantage: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, goes_on = inputs
        advantage = delta + discount * trace_decay * jnp.where(goes_on, advantage, 0.0)
        return advantage, advantage

    return jax.lax.scan(step, jnp.zeros_like(delta_t[0]), (delta_t, carries_on), reverse=True)[1]

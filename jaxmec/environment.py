"""What learners, policies and evaluation need from an environment, and nothing else that they may use.

`jaxmec.env.EdgeInferenceEnv` has all of it; docs/extending.md shows a small environment of somebody else's that is
trained and evaluated by the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jax import Array

from jaxmec.allocation import SlotProblem
from jaxmec.observation import Views

State = Any  # a pytree of arrays that only the environment reads
Params = Any  # every number of a system, a pytree of arrays
Policy = Callable[[Array, State, Params], Array]  # (key, state, params) -> options int32[N], one per user


class Environment(Protocol):
    """A system of N users, each of whom picks one of K options in every slot.

    Frozen and hashable: shapes and kinds lie in it, numbers in its params. Every method works under jit and vmap.
    """

    @property
    def num_users(self) -> int:
        """N."""
        ...

    @property
    def num_options(self) -> int:
        """K, of the user with the most options."""
        ...

    @property
    def default_params(self) -> Params:
        """The numbers that it was made with."""
        ...

    @property
    def reward_signals(self) -> tuple[str, ...]:
        """Names that `reward_signal` takes; the first is the default."""
        ...

    def reset(self, key: Array, params: Params) -> tuple[Array, State]:
        """Start an episode: observation float32[N, F] and state."""
        ...

    def reset_staggered(self, key: Array, params: Params) -> tuple[Array, State]:
        """As `reset`, at a random slot of an episode, so that many episodes do not end all at once."""
        ...

    def step(
        self, key: Array, state: State, action: Array, params: Params
    ) -> tuple[Array, State, Array, Array, Array, dict[str, Array]]:
        """One slot, with options int32[N]: (obs, state, reward [], terminated bool[], truncated bool[], info).

        An episode that has ended is followed by a fresh one; `info["final_observation"]` [N, F] is what was
        observed at its end. Info has one structure at every step.
        """
        ...

    def step_env(
        self, key: Array, state: State, action: Array, params: Params
    ) -> tuple[Array, State, Array, Array, dict[str, Array]]:
        """As `step`, without a reset: (obs, state, reward, terminated, info)."""
        ...

    def observe(self, state: State, params: Params) -> Array:
        """The observation of a state: float32[N, F]."""
        ...

    def unpack(self, observation: Array) -> Views:
        """Observations [..., N, F] as user features, option features and mask."""
        ...

    def action_mask(self, state: State, params: Params) -> Array:
        """bool[N, K]: the options that exist."""
        ...

    def observation_space(self, params: Params) -> Any:
        """Shape [N, F], dtype and limits of observations, see `jaxmec.spaces`."""
        ...

    def reward_signal(self, name: str, observation: Array, reward: Array, info: dict[str, Array]) -> Array:
        """What a learner learns from in a slot, the same for all users: [].

        Args:
          name: of `reward_signals`.
          observation: [N, F] in which the options were chosen.
          reward: [] of the step.
          info: of the step.
        """
        ...

    def objective(self, state: State, action: Array, params: Params) -> Array:
        """What the slot costs with options int32[N]: []."""
        ...

    def lower_bound(self, state: State, params: Params) -> Array:
        """What the slot costs at least, whatever the options: []."""
        ...

    def metrics(self, state: State, reward: Array, info: dict[str, Array], params: Params) -> dict[str, Array]:
        """What is measured per slot, name -> [], with the `objective` among it; `state` is that before the step."""
        ...

    def budget_use(self, state: State, info: dict[str, Array], params: Params) -> dict[str, Array]:
        """What a slot used of every long-term budget, over the budget: name -> [any number]; may be empty."""
        ...


@runtime_checkable
class WhiteBoxEnvironment(Protocol):
    """What the white-box learner needs of an environment beside `Environment`: the costs of single options."""

    def regret(self, state: State, info: dict[str, Array], params: Params) -> Array:
        """What each option costs its user more than the user's best, others as they were: [N, K].

        Relative to the mean user's cost, and zero where an option does not exist.

        Args:
          state: before the step.
          info: of the step.
          params: of the system.
        """
        ...


@runtime_checkable
class LongRunEnvironment(Protocol):
    """What the long-run problem needs of an environment beside `Environment`: budgets with virtual queues."""

    @property
    def num_users(self) -> int:
        """N."""
        ...

    def reset(self, key: Array, params: Params) -> tuple[Array, State]:
        """See `Environment`."""
        ...

    def action_mask(self, state: State, params: Params) -> Array:
        """See `Environment`."""
        ...

    def lower_bound(self, state: State, params: Params) -> Array:
        """See `Environment`."""
        ...

    def cut_problems(self, state: State, params: Params) -> SlotProblem:
        """The slot problem of every option, whose work leaves are [N, K]."""
        ...

    def decide(self, state: State, cuts: Array, params: Params) -> Any:
        """A slot's first half, with options int32[N]."""
        ...

    def advance(self, key: Array, state: State, decision: Any, params: Params) -> State:
        """Its second half: the next slot's state."""
        ...

    def queues(self, state: State) -> dict[str, Array]:
        """The virtual queue of every budget: name -> [n]."""
        ...

    def priced(self, state: State, multipliers: dict[str, Array], params: Params) -> State:
        """The state whose queues stand for multipliers of the budgets, in seconds of mean delay per budget."""
        ...

    def multipliers(self, queues: dict[str, Array], params: Params) -> dict[str, Array]:
        """The multipliers that queues stand for."""
        ...

    def long_run_cost(self, info: dict[str, Array], params: Params) -> Array:
        """What the long-run problem minimises the mean of, s: []."""
        ...

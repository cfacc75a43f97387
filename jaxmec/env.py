"""The environment: cuts are chosen, the slot's resources allocated, queues, channel and arrivals move on."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from jaxmec import channel, sampling, spaces
from jaxmec.allocation import (
    Allocation,
    Outcome,
    SlotProblem,
    SolverConfig,
    allocate,
    cut_costs,
    evaluate,
    lower_bound,
    stage_times,
)
from jaxmec.batching import only_where
from jaxmec.channel import CapacityChannel, Channel
from jaxmec.compilation import one_programme
from jaxmec.fidelity import Fidelity, Stationary
from jaxmec.lyapunov import Constraints, SlotPrices, VirtualQueues
from jaxmec.observation import Observation, Views, log_expected_cost
from jaxmec.requests.protocol import RequestArrivals
from jaxmec.reward import DriftPlusPenalty, Reward
from jaxmec.workload import Arrivals

REGRET_SOLVER = SolverConfig(iterations=10)  # costs within 1e-5 on coinfer10, far below what cuts differ by


class EnvParams(struct.PyTreeNode):
    """Everything about a system that is a number. M networks, D device classes, K cuts, N users."""

    device_work_s: Array  # [M, D, K] device's work at full speed, per request
    uplink_bits: Array  # [M, K] bits that cross, per request
    server_work_s: Array  # [M, K] server's work at full capacity, per request
    valid_cut: Array  # bool[M, K]
    device_power_w: Array  # [D] at full speed
    network_probability: Array  # [N, M] of each user's network, drawn per episode
    device_probability: Array  # [N, D] of each user's device class, drawn per episode
    device_budget_j: Array  # [N, D] energy per slot, of the device and its radio
    initial_device_queue: Array  # [N, D] that an episode starts with
    distance_m: Array  # [N, 2] inner and outer radius of the ring in which each user starts
    delay_weight: Array  # [N] ω
    deadline_s: Array  # [N] of a request; read at request fidelity
    tx_power_w: Array  # [N]
    workload: Arrivals
    requests: RequestArrivals  # within a slot; read at request fidelity
    channel: Channel | CapacityChannel
    bandwidth_hz: Array  # []
    noise_w_per_hz: Array  # [] density at the receiver, its noise figure included
    server_power_w: Array  # [] at full capacity
    server_budget_j: Array  # [] energy per slot
    initial_server_queue: Array  # []
    tradeoff: Array  # [] V of drift-plus-penalty
    slot_s: Array  # []
    knee: Array  # [] utilisation past which the waiting time continues along its tangent
    episode_slots: Array  # int32[]
    waiting_scale: Array | None = None  # [N] factor on the formula's waiting time; None: 1, Poisson requests
    backlog_weight: Array | None = None  # [N] of unfinished work in the slot problem, at request fidelity; None: 0
    return_s: Array | None = None  # [M, K] delay behind the last stage: the way back and a round trip; None: 0


def _replace(params: EnvParams, **updates: Any) -> EnvParams:
    """New numbers in place of some leaves, in the dtypes of the old: a changed number is no reason to compile anew.

    Raises:
      ValueError: if what is no whole number is to replace one.
    """
    for name, new in updates.items():
        old: Any = getattr(params, name, None)
        if not hasattr(old, "dtype") or not isinstance(new, int | float | np.generic | np.ndarray | Array):
            continue
        if jnp.issubdtype(old.dtype, jnp.integer) and not jnp.issubdtype(jnp.result_type(new), jnp.integer):
            raise ValueError(f"EnvParams.{name}: got {jnp.result_type(new)} {new}; allowed are whole numbers")
        updates[name] = jnp.asarray(new, old.dtype)
    return dataclasses.replace(params, **updates)


EnvParams.replace = _replace  # type: ignore[assignment, method-assign]  # flax writes its own over one in the class


class EnvState(struct.PyTreeNode):
    """One system at the start of a slot."""

    slot: Array  # int32[] slots since the episode began
    network: Array  # int32[N]
    device: Array  # int32[N]
    channel: Any  # of the channel process
    workload: Any  # of the arrival process
    fidelity: Any  # what the slot before left to this one
    cuts: Array  # int32[N] that ran in the slot before; -1 in an episode's first
    device_queue: Array  # [N] Z, dimensionless
    server_queue: Array  # [] Y, dimensionless


class Decision(struct.PyTreeNode):
    """A slot's first half: what was decided, and what comes of it."""

    cuts: Array  # int32[N] that run
    problem: SlotProblem
    allocation: Allocation
    outcome: Outcome
    stage_times: Array  # [N, 3] s, of device, uplink and server; zero where a stage is skipped


@dataclasses.dataclass(frozen=True)
class EdgeInferenceEnv:
    """Cooperative edge inference of N users and one server.

    - Observation: float32[N, F], see `jaxmec.observation`: what the slot problem of every cut looks like.
    - Action: int32[N], the cut of every user. Cut 0 sends the raw input, a network's last cut runs all of it on
      the device. A cut that does not exist is replaced by the nearest that does and flagged.
    - Reward: float[], by default -(drift-plus-penalty) / (V N), in seconds per user; V times N of it is the negative
      slot objective plus terms that the action cannot change.
    - Termination: never. Truncation: after `params.episode_slots` slots; a new episode draws a new population.

    The static fields are shapes and kinds; every number is in `EnvParams`, so environments of equal shape are
    equal, hash alike and share one compilation. `fidelity`, `reward`, `constraints` and `observation` are parts
    that a study may replace by others of the same protocol.
    """

    num_users: int
    num_cuts: int
    solver: SolverConfig = SolverConfig()
    fidelity: Fidelity = Stationary()
    reward: Reward = DriftPlusPenalty()
    constraints: Constraints = VirtualQueues()
    observation: Observation = Observation()
    redraw_population: bool = True  # whether a new episode draws new users; else the old ones go on
    name: str = dataclasses.field(default="", compare=False)  # of the system, with its version: "district10-v1"
    defaults: EnvParams | None = dataclasses.field(default=None, compare=False, repr=False)
    network_names: tuple[str, ...] = dataclasses.field(default=(), compare=False)  # M, for figures and tables
    device_names: tuple[str, ...] = dataclasses.field(default=(), compare=False)  # D

    @property
    def default_params(self) -> EnvParams:
        """The numbers that the environment was made with.

        Raises:
          RuntimeError: inside `jax.jit`. Equal environments share a compilation, so it would keep the numbers of
            the one that was traced.
          ValueError: if it was made without any.
        """
        if isinstance(jnp.zeros(()), jax.core.Tracer):
            raise RuntimeError(
                "default_params: read while tracing; allowed is to read it outside jax.jit and to pass params as an "
                "argument, for a compilation serves every environment of the same shapes"
            )
        if self.defaults is None:
            raise ValueError("default_params: this environment was made without; pass params of your own")
        return self.defaults

    @property
    def num_options(self) -> int:
        """K, what `num_cuts` says."""
        return self.num_cuts

    @one_programme(0)
    def reset(self, key: Array, params: EnvParams) -> tuple[Array, EnvState]:
        """Draw a population. Returns the observation float32[N, F] and the state."""
        return self.reset_env(key, params)

    @one_programme(0)
    def step(
        self, key: Array, state: EnvState, action: Array, params: EnvParams
    ) -> tuple[Array, EnvState, Array, Array, Array, dict[str, Array]]:
        """One slot; a truncated episode is followed by a fresh one.

        Returns:
          obs float32[N, F] and state: of the fresh episode if this one has ended;
          reward float[], terminated bool[], truncated bool[];
          info: see `step_env`, and `final_observation` float32[N, F], the observation at the end of the slot
          whether or not the episode has ended.
        """
        key_step, key_reset = jax.random.split(key)
        ended, reward, info = self._play(key_step, state, action, params)
        truncated = ended.slot >= params.episode_slots
        if self.redraw_population:
            dtypes = jax.tree.map(lambda leaf: leaf.dtype, ended)

            def draw(key: Array, params: EnvParams) -> EnvState:
                return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), self._draw_state(key, params), dtypes)

            next_state = only_where(truncated, draw, ended, key_reset, params)
        else:
            next_state = ended.replace(slot=jnp.where(truncated, 0, ended.slot))
        obs = self.observe(next_state, params)
        info["final_observation"] = only_where(truncated, self.observe, obs, ended, params)
        return obs, next_state, reward, jnp.asarray(False), truncated, info

    @one_programme(0)
    def reset_env(self, key: Array, params: EnvParams) -> tuple[Array, EnvState]:
        """The same as `reset`."""
        state = self._draw_state(key, params)
        return self.observe(state, params), state

    @one_programme(0)
    def reset_staggered(self, key: Array, params: EnvParams) -> tuple[Array, EnvState]:
        """As `reset`, at a random slot of an episode, so that many episodes do not end all at once."""
        key_reset, key_slot = jax.random.split(key)
        obs, state = self.reset(key_reset, params)
        slot = jax.random.randint(key_slot, (), 0, params.episode_slots, jnp.int32)
        return obs, state.replace(slot=slot)

    @one_programme(0)
    def step_env(
        self, key: Array, state: EnvState, action: Array, params: EnvParams
    ) -> tuple[Array, EnvState, Array, Array, dict[str, Array]]:
        """One slot, without a reset.

        Returns:
          obs float32[N, F], state, reward float[], terminated bool[] (always false), and info:
            delay_s [N] mean end-to-end delay of a request; stable bool[N] whether every stage keeps up;
            stage_times_s [N, 3] of device, uplink and server;
            device_share, bandwidth_share, server_share [N], zero where a stage is skipped;
            device_energy_j [N] device and radio, in this slot; server_energy_j [];
            objective [] of the slot problem; duality_gap [] certified relative suboptimality of the shares;
            status int32[], see `jaxmec.allocation.Status`;
            bandwidth_price, server_price [] of the two shared budgets;
            cut int32[N] the cuts that ran; invalid_action bool[N] where they differ from `action`;
            and what the fidelity adds, see `jaxmec.requests.RequestFidelity.play`.
        """
        next_state, reward, info = self._play(key, state, action, params)
        return self.observe(next_state, params), next_state, reward, jnp.asarray(False), info

    @one_programme(0)
    def decide(self, state: EnvState, cuts: Array, params: EnvParams) -> Decision:
        """A slot's first half: the resources that cuts int32[N] get, exactly, and what comes of them.

        A cut that does not exist is replaced by the nearest that does.

        Raises:
          ValueError: before anything is compiled, if the cuts are no whole numbers or their shape is not [N].
        """
        cuts = self._nearest_valid_cut(state, cuts, params)
        problem = self._problem(state, params, (cuts,))
        allocation = allocate(problem, self.solver)
        shares = allocation.device_share, allocation.bandwidth_share, allocation.server_share
        return Decision(
            cuts=cuts,
            problem=problem,
            allocation=allocation,
            outcome=evaluate(problem, *shares),
            stage_times=stage_times(problem, *shares),
        )

    @one_programme(0)
    def advance(self, key: Array, state: EnvState, decision: Decision, params: EnvParams) -> EnvState:
        """A slot's second half: queues, channel and arrivals one slot later."""
        return self._advance(key, state, decision, params)[0]

    def _advance(
        self, key: Array, state: EnvState, decision: Decision, params: EnvParams
    ) -> tuple[EnvState, dict[str, Array]]:
        """As `advance`, with what the fidelity adds to the step's info."""
        key_channel, key_workload, key_fidelity = jax.random.split(key, 3)
        carried, added = self.fidelity.play(key_fidelity, state, decision, params)
        outcome, step_queue = decision.outcome, self.constraints.step
        budget_j = self.device_budget_j(state, params)
        moved = state.replace(
            slot=state.slot + 1,
            cuts=decision.cuts,
            channel=params.channel.step(key_channel, state.channel),
            workload=params.workload.step(key_workload, state.workload),
            fidelity=carried,
            device_queue=step_queue(state.device_queue, outcome.device_energy_j, budget_j),
            server_queue=step_queue(state.server_queue, outcome.server_energy_j, params.server_budget_j),
        )
        return jax.tree.map(lambda new, old: new.astype(old.dtype), moved, state), added

    @one_programme(0)
    def objective(self, state: EnvState, cuts: Array, params: EnvParams) -> Array:
        """The slot objective [] of cuts int32[N], with the exact allocation."""
        return self.decide(state, cuts, params).allocation.objective

    @one_programme(0)
    def lower_bound(self, state: EnvState, params: EnvParams) -> Array:
        """Certified lower bound [] of the slot objective over all cuts and shares."""
        return lower_bound(self.cut_problems(state, params), self.action_mask(state, params), self.solver).value

    @one_programme(0)
    def slot_problem(self, state: EnvState, action: Array, params: EnvParams) -> SlotProblem:
        """The slot problem that `step` would solve for cuts int32[N]: every leaf of a user is [N]."""
        return self._problem(state, params, (self._nearest_valid_cut(state, action, params),))

    @one_programme(0)
    def cut_problems(self, state: EnvState, params: EnvParams) -> SlotProblem:
        """The slot problem of every cut at once: its `CUT_LEAVES` are [N, K], the others as ever."""
        return self._problem(state, params, ())

    def slot_prices(self, state: EnvState, params: EnvParams) -> SlotPrices:
        """What a second of delay, a joule of a device and a joule of the server cost in this slot."""
        return self.constraints.prices(
            params.tradeoff,
            params.delay_weight,
            state.device_queue,
            self.device_budget_j(state, params),
            state.server_queue,
            params.server_budget_j,
        )

    @one_programme(0)
    def action_mask(self, state: EnvState, params: EnvParams) -> Array:
        """bool[N, K]: the cuts that each user's network has."""
        return params.valid_cut[state.network]

    def observation_space(self, params: EnvParams) -> spaces.Box:
        """float32[N, F] without bounds."""
        return spaces.Box(-float("inf"), float("inf"), (self.num_users, self._observation_size))

    def action_space(self, params: EnvParams) -> spaces.MultiDiscrete:
        """int32[N], each 0..K-1."""
        return spaces.MultiDiscrete(self.num_users, self.num_cuts)

    def device_budget_j(self, state: EnvState, params: EnvParams) -> Array:
        """[N] energy budget of every user's device and radio, J per slot."""
        return _of_class(params.device_budget_j, state.device)

    @one_programme(0)
    def observe(self, state: EnvState, params: EnvParams) -> Array:
        """The observation of a state: float32[N, F]."""
        added = self.fidelity.features(state, params)
        return self.observation.observe(self.cut_problems(state, params), self.action_mask(state, params), added)

    def unpack(self, observation: Array) -> Views:
        """Observations [..., N, F] as user features, cut features and mask."""
        return self.observation.unpack(observation, self.num_cuts)

    @property
    def reward_signals(self) -> tuple[str, ...]:
        """What a learner may learn from; see `reward_signal`."""
        return self.fidelity.reward_signals

    def reward_signal(self, name: str, observation: Array, reward: Array, info: dict[str, Array]) -> Array:
        """What a learner learns from in a slot: [].

        "environment" is the environment's own reward; the others are the fidelity's, "objective" by default -log of
        the slot objective over what the closed form expected, a baseline that knows the state but not the cuts.
        """
        if name == "environment":
            return reward
        return self.fidelity.signal(name, info, jax.nn.logsumexp(log_expected_cost(observation), axis=-1))

    @one_programme(0)
    def regret(self, state: EnvState, info: dict[str, Array], params: EnvParams) -> Array:
        """What each cut costs its user more than the user's best at the slot's own prices: [N, K].

        Relative to the mean user's cost, and zero where a cut does not exist.
        """
        mask = self.action_mask(state, params)
        prices = info["bandwidth_price"], info["server_price"]
        costs = cut_costs(self.cut_problems(state, params), *prices, REGRET_SOLVER)
        best = jnp.min(jnp.where(mask, costs, jnp.inf), axis=-1, keepdims=True)
        return jnp.where(mask, costs - best, 0.0) / jnp.mean(best)

    @one_programme(0)
    def metrics(
        self, state: EnvState, reward: Array, info: dict[str, Array], params: EnvParams
    ) -> dict[str, Array]:
        """Means over users of what a slot brought, each [].

        reward (s per user), objective, log_objective, delay_s; device_energy and server_energy over their budgets;
        device_queue and server_queue at the slot's start; stable, the share of users whose stages all keep up; edge,
        middle and local, the shares of users that send the raw input, cut inside and run all on the device; and what
        the fidelity adds.
        """
        use = self.budget_use(state, info, params)
        cut, last_cut = info["cut"], jnp.sum(self.action_mask(state, params), axis=-1) - 1
        return {
            "reward": reward,
            "objective": info["objective"],
            "log_objective": jnp.log(info["objective"]),
            "delay_s": jnp.mean(info["delay_s"]),
            "device_energy": jnp.mean(use["device_energy"]),
            "server_energy": use["server_energy"][0],
            "device_queue": jnp.mean(state.device_queue),
            "server_queue": state.server_queue,
            "stable": jnp.mean(info["stable"]),
            "edge": jnp.mean((cut == 0) & (last_cut > 0)),
            "middle": jnp.mean((cut > 0) & (cut < last_cut)),
            "local": jnp.mean(cut == last_cut),
            **self.fidelity.metrics(info),
        }

    def budget_use(self, state: EnvState, info: dict[str, Array], params: EnvParams) -> dict[str, Array]:
        """Energy over budget in the slot: device_energy [N] and server_energy [1]."""
        return {
            "device_energy": info["device_energy_j"] / self.device_budget_j(state, params),
            "server_energy": info["server_energy_j"][None] / params.server_budget_j,
        }

    def queues(self, state: EnvState) -> dict[str, Array]:
        """The virtual queues by the budget that each stands for: device_energy [N] and server_energy [1]."""
        return {"device_energy": state.device_queue, "server_energy": state.server_queue[None]}

    def priced(self, state: EnvState, multipliers: dict[str, Array], params: EnvParams) -> EnvState:
        """The state whose queues stand for multipliers of the budgets, in seconds of mean delay per budget.

        Its slot objective is V N times the slot's part of the long-run problem's Lagrangian.
        """
        scale = params.tradeoff * self.num_users
        return state.replace(
            device_queue=scale * multipliers["device_energy"],
            server_queue=scale * multipliers["server_energy"][0],
        )

    def multipliers(self, queues: dict[str, Array], params: EnvParams) -> dict[str, Array]:
        """The multipliers, in seconds, that queues stand for: the inverse of `priced`."""
        scale = params.tradeoff * self.num_users
        return {name: queue / scale for name, queue in queues.items()}

    def long_run_cost(self, info: dict[str, Array], params: EnvParams) -> Array:
        """What the long-run problem minimises the mean of: weighted mean delay over users, s: []."""
        return jnp.mean(params.delay_weight * info["delay_s"])

    def _play(
        self, key: Array, state: EnvState, action: Array, params: EnvParams
    ) -> tuple[EnvState, Array, dict[str, Array]]:
        """Both halves of a slot, unobserved: next state, reward, info."""
        decision = self.decide(state, action, params)
        next_state, added = self._advance(key, state, decision, params)
        allocation, outcome = decision.allocation, decision.outcome
        info = {
            "delay_s": outcome.delay_s,
            "stable": outcome.stable,
            "stage_times_s": decision.stage_times,
            "device_share": allocation.device_share,
            "bandwidth_share": allocation.bandwidth_share,
            "server_share": allocation.server_share,
            "device_energy_j": outcome.device_energy_j,
            "server_energy_j": outcome.server_energy_j,
            "objective": allocation.objective,
            "duality_gap": allocation.duality_gap,
            "status": allocation.status,
            "bandwidth_price": allocation.bandwidth_price,
            "server_price": allocation.server_price,
            "cut": decision.cuts,
            "invalid_action": decision.cuts != jnp.asarray(action),
            **added,
        }
        return next_state, self.reward(state, decision, info, params), info

    @property
    def _observation_size(self) -> int:
        return self.observation.size(self.num_cuts) + len(self.fidelity.user_features)

    def _problem(self, state: EnvState, params: EnvParams, cut: tuple[Array, ...]) -> SlotProblem:
        """The slot problem of one cut per user, or of every cut where there is none."""
        prices = self.slot_prices(state, params)
        radio = params.tx_power_w, params.bandwidth_hz, params.noise_w_per_hz
        snr, capacity_bps = channel.quality(params.channel, state.channel, *radio)
        return SlotProblem(
            device_work_s=params.device_work_s[state.network, state.device, *cut],
            uplink_bits=params.uplink_bits[state.network, *cut],
            server_work_s=params.server_work_s[state.network, *cut],
            arrival_rate_hz=params.workload.rate_hz(state.workload),
            device_power_w=params.device_power_w[state.device],
            tx_power_w=params.tx_power_w,
            snr=snr,
            delay_price=prices.delay,
            energy_price=prices.energy,
            bandwidth_hz=params.bandwidth_hz,
            server_power_w=params.server_power_w,
            server_energy_price=prices.server_energy,
            slot_s=params.slot_s,
            knee=params.knee,
            waiting_scale=params.waiting_scale,
            backlog_price=self.fidelity.backlog_price(state, prices.delay, params),
            capacity_bps=capacity_bps,
            return_s=None if params.return_s is None else params.return_s[state.network, *cut],
        )

    def _draw_state(self, key: Array, params: EnvParams) -> EnvState:
        key_network, key_device, key_channel, key_workload, key_fidelity = jax.random.split(key, 5)
        device = sampling.categorical(key_device, params.device_probability)
        return EnvState(
            slot=jnp.zeros((), jnp.int32),
            network=sampling.categorical(key_network, params.network_probability),
            device=device,
            channel=params.channel.init(key_channel, params.distance_m),
            workload=params.workload.init(key_workload),
            fidelity=self.fidelity.init(key_fidelity, params),
            cuts=jnp.full((self.num_users,), -1, jnp.int32),
            device_queue=_of_class(params.initial_device_queue, device).astype(float),
            server_queue=jnp.asarray(params.initial_server_queue, float),
        )

    def _nearest_valid_cut(self, state: EnvState, action: Array, params: EnvParams) -> Array:
        action = self._checked(action)
        cuts = jnp.arange(self.num_cuts, dtype=jnp.int32)
        steps = jnp.abs(cuts[None, :] - cuts[:, None])
        distance = jnp.where(params.valid_cut[:, None, :], steps[None], self.num_cuts)
        nearest = jnp.argmin(distance, axis=-1)  # [M, K], once for a batch that shares params
        highest = min(self.num_cuts - 1, jnp.iinfo(action.dtype).max)
        return nearest[state.network, jnp.clip(action, 0, highest)].astype(jnp.int32)

    def _checked(self, action: ArrayLike) -> Array:
        """An action as an array of whole numbers [N]; anything else is told before it is traced."""
        action = jnp.asarray(action)
        if action.shape != (self.num_users,) or not jnp.issubdtype(action.dtype, jnp.integer):
            shape = ", ".join(map(str, action.shape))
            raise ValueError(
                f"action: got {action.dtype}[{shape}]; allowed is int32[{self.num_users}], whole numbers of any width, "
                "one cut per user (batches go through jax.vmap)"
            )
        return action


def _of_class(table: Array, device: Array) -> Array:
    """What a table [N, D] says of every user's device class: [N]."""
    return jnp.take_along_axis(table, device[:, None], axis=-1)[:, 0]

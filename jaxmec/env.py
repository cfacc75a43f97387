"""The environment: cuts are chosen, the slot's resources allocated, queues, channel and arrivals move on."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxmec import channel, features, lyapunov, sampling, spaces, workload
from jaxmec.allocation import SlotProblem, SolverConfig, allocate, evaluate
from jaxmec.batching import only_where


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
    distance_m: Array  # [N, 2] inner and outer radius of the ring in which each user is placed
    delay_weight: Array  # [N] ω
    tx_power_w: Array  # [N]
    workload: workload.WorkloadParams
    channel: channel.ChannelParams
    bandwidth_hz: Array  # []
    server_power_w: Array  # [] at full capacity
    server_budget_j: Array  # [] energy per slot
    tradeoff: Array  # [] V of drift-plus-penalty
    slot_s: Array  # []
    knee: Array  # [] utilisation past which the waiting time continues along its tangent
    episode_slots: Array  # int32[]


class EnvState(struct.PyTreeNode):
    """One system at the start of a slot."""

    slot: Array  # int32[] slots since the episode began
    network: Array  # int32[N]
    device: Array  # int32[N]
    mean_gain: Array  # [N] power gain of path loss and shadowing
    fading: Array  # [2 * diversity * N] see `jaxmec.channel.draw_fading`
    workload: workload.WorkloadState
    device_queue: Array  # [N] Z, dimensionless
    server_queue: Array  # [] Y, dimensionless


@dataclasses.dataclass(frozen=True)
class EdgeInferenceEnv:
    """Cooperative edge inference of N users and one server.

    Observation: float32[N, F], see `jaxmec.features`: what the slot problem of every cut looks like.
    Action: int32[N], the cut of every user. Cut 0 sends the raw input, a network's last cut runs all of it on
      the device. A cut that does not exist is replaced by the nearest that does and flagged.
    Reward: float[], -(drift-plus-penalty) / (V N), in seconds per user; V times N of it is the negative slot
      objective plus terms that the action cannot change.
    Termination: never. Truncation: after `params.episode_slots` slots; a new episode draws a new population.

    The static fields are shapes and kinds; every number is in `EnvParams`, so environments of equal shape are
    equal, hash alike and share one compilation.
    """

    num_users: int
    num_cuts: int
    fading_diversity: int = 4
    arrivals: str = "uniform"
    solver: SolverConfig = dataclasses.field(default_factory=SolverConfig)
    default_params: EnvParams | None = dataclasses.field(default=None, compare=False, repr=False)
    network_names: tuple[str, ...] = dataclasses.field(default=(), compare=False)  # M, for figures and tables
    device_names: tuple[str, ...] = dataclasses.field(default=(), compare=False)  # D

    def reset(self, key: Array, params: EnvParams) -> tuple[Array, EnvState]:
        """Draw a population. Returns the observation float32[N, F] and the state."""
        return self.reset_env(key, params)

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
        ended, reward, terminated, info = self._play(key_step, state, action, params)
        truncated = ended.slot >= params.episode_slots
        next_state = only_where(truncated, self._draw_state, ended, key_reset, params)
        obs = self.observe(next_state, params)
        info["final_observation"] = only_where(truncated, self.observe, obs, ended, params)
        return obs, next_state, reward, terminated, truncated, info

    def reset_env(self, key: Array, params: EnvParams) -> tuple[Array, EnvState]:
        """The same as `reset`."""
        state = self._draw_state(key, params)
        return self.observe(state, params), state

    def step_env(
        self, key: Array, state: EnvState, action: Array, params: EnvParams
    ) -> tuple[Array, EnvState, Array, Array, dict[str, Array]]:
        """One slot, without a reset.

        Returns:
          obs float32[N, F], state, reward float[], terminated bool[] (always false), and info:
            delay_s [N] mean end-to-end delay of a request; stable bool[N] whether every stage keeps up;
            device_energy_j [N] device and radio, in this slot; server_energy_j [];
            objective [] of the slot problem; duality_gap [] certified relative suboptimality of the shares;
            bandwidth_price, server_price [] of the two shared budgets;
            cut int32[N] the cuts that ran; invalid_action bool[N] where they differ from `action`.
        """
        next_state, reward, terminated, info = self._play(key, state, action, params)
        return self.observe(next_state, params), next_state, reward, terminated, info

    def _play(
        self, key: Array, state: EnvState, action: Array, params: EnvParams
    ) -> tuple[EnvState, Array, Array, dict[str, Array]]:
        """One slot, unobserved. `step` and `step_env` both pass here, so a variant of the system overrides it."""
        cut = self._nearest_valid_cut(state, action, params)
        problem = self.slot_problem(state, cut, params)
        allocation = allocate(problem, self.solver)
        outcome = evaluate(problem, allocation.device_share, allocation.bandwidth_share, allocation.server_share)
        budget_j = self.device_budget_j(state, params)

        prices = lyapunov.SlotPrices(problem.delay_price, problem.energy_price, problem.server_energy_price)
        cost = lyapunov.drift_plus_penalty(
            prices,
            outcome.delay_s,
            outcome.device_energy_j,
            state.device_queue,
            outcome.server_energy_j,
            state.server_queue,
        )
        reward = -cost / (params.tradeoff * self.num_users)

        key_fading, key_workload = jax.random.split(key)
        innovation = channel.draw_fading(key_fading, self.num_users, self.fading_diversity)
        moved = state.replace(
            slot=state.slot + 1,
            fading=channel.step_fading(state.fading, innovation, params.channel),
            workload=workload.step(key_workload, self.arrivals, state.workload, params.workload),
            device_queue=lyapunov.step_queue(state.device_queue, outcome.device_energy_j, budget_j),
            server_queue=lyapunov.step_queue(state.server_queue, outcome.server_energy_j, params.server_budget_j),
        )
        next_state = jax.tree.map(lambda new, old: new.astype(old.dtype), moved, state)
        info = {
            "delay_s": outcome.delay_s,
            "stable": outcome.stable,
            "device_energy_j": outcome.device_energy_j,
            "server_energy_j": outcome.server_energy_j,
            "objective": allocation.objective,
            "duality_gap": allocation.duality_gap,
            "bandwidth_price": allocation.bandwidth_price,
            "server_price": allocation.server_price,
            "cut": cut,
            "invalid_action": cut != action,
        }
        return next_state, reward, jnp.asarray(False), info

    def slot_problem(self, state: EnvState, action: Array, params: EnvParams) -> SlotProblem:
        """The slot problem of the given valid cuts int32[N]: every leaf of a user is [N]."""
        return self._problem(state, params, (action,))

    def cut_problems(self, state: EnvState, params: EnvParams) -> SlotProblem:
        """The slot problem of every cut at once: the three work leaves are [N, K], the others as ever."""
        return self._problem(state, params, ())

    def _problem(self, state: EnvState, params: EnvParams, cut: tuple[Array, ...]) -> SlotProblem:
        """The slot problem of one cut per user, or of every cut where there is none."""
        prices = self.slot_prices(state, params)
        gain = state.mean_gain * channel.fading_gain(state.fading, self.num_users, params.channel)
        return SlotProblem(
            device_work_s=params.device_work_s[state.network, state.device, *cut],
            uplink_bits=params.uplink_bits[state.network, *cut],
            server_work_s=params.server_work_s[state.network, *cut],
            arrival_rate_hz=workload.rate_hz(self.arrivals, state.workload, state.slot, params.workload),
            device_power_w=params.device_power_w[state.device],
            tx_power_w=params.tx_power_w,
            snr=channel.snr(gain, params.tx_power_w, params.bandwidth_hz, params.channel),
            delay_price=prices.delay,
            energy_price=prices.energy,
            bandwidth_hz=params.bandwidth_hz,
            server_power_w=params.server_power_w,
            server_energy_price=prices.server_energy,
            slot_s=params.slot_s,
            knee=params.knee,
        )

    def slot_prices(self, state: EnvState, params: EnvParams) -> lyapunov.SlotPrices:
        """What a second of delay, a joule of a device and a joule of the server cost in this slot.

        Both `slot_problem` and `cut_problems` ask here, so a system that is priced otherwise overrides it.
        """
        return lyapunov.slot_prices(
            params.tradeoff,
            params.delay_weight,
            state.device_queue,
            self.device_budget_j(state, params),
            state.server_queue,
            params.server_budget_j,
        )

    def action_mask(self, state: EnvState, params: EnvParams) -> Array:
        """bool[N, K]: the cuts that each user's network has."""
        return params.valid_cut[state.network]

    def observation_space(self, params: EnvParams) -> spaces.Box:
        """float32[N, F] without bounds."""
        shape = (self.num_users, features.observation_size(self.num_cuts))
        return spaces.Box(-float("inf"), float("inf"), shape)

    def action_space(self, params: EnvParams) -> spaces.MultiDiscrete:
        """int32[N], each 0..K-1."""
        return spaces.MultiDiscrete(self.num_users, self.num_cuts)

    def device_budget_j(self, state: EnvState, params: EnvParams) -> Array:
        """[N] energy budget of every user's device and radio, J per slot."""
        return jnp.take_along_axis(params.device_budget_j, state.device[:, None], axis=-1)[:, 0]

    def observe(self, state: EnvState, params: EnvParams) -> Array:
        """The observation of a state: float32[N, F]."""
        return features.observe(self.cut_problems(state, params), self.action_mask(state, params))

    def _draw_state(self, key: Array, params: EnvParams) -> EnvState:
        keys = jax.random.split(key, 6)
        shape = (self.num_users,)
        area = jax.random.uniform(keys[2], shape)
        inner, outer = params.distance_m[:, 0], params.distance_m[:, 1]
        distance_m = jnp.sqrt(inner**2 + area * (outer**2 - inner**2))  # uniform over the ring's area
        return EnvState(
            slot=jnp.zeros((), jnp.int32),
            network=sampling.categorical(keys[0], params.network_probability),
            device=sampling.categorical(keys[1], params.device_probability),
            mean_gain=channel.mean_gain(distance_m, jax.random.normal(keys[3], shape), params.channel),
            fading=channel.draw_fading(keys[4], self.num_users, self.fading_diversity),
            workload=workload.reset(keys[5], self.arrivals, params.workload),
            device_queue=jnp.zeros(shape),
            server_queue=jnp.zeros(()),
        )

    def _nearest_valid_cut(self, state: EnvState, action: Array, params: EnvParams) -> Array:
        cuts = jnp.arange(self.num_cuts)
        steps = jnp.abs(cuts[None, :] - cuts[:, None])
        distance = jnp.where(params.valid_cut[:, None, :], steps[None], self.num_cuts)
        nearest = jnp.argmin(distance, axis=-1)  # [M, K], once for a batch that shares params
        return nearest[state.network, jnp.clip(action, 0, self.num_cuts - 1)].astype(action.dtype)

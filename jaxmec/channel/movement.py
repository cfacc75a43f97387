"""How users move in a disc around the antenna: random waypoint and Gauss-Markov mobility.

Both start in their stationary distribution, so statistics need no warm-up.

Sources: D. B. Johnson and D. A. Maltz, "Dynamic Source Routing in Ad Hoc Wireless Networks", in Mobile Computing
(1996) (random waypoint); W. Navidi and T. Camp, "Stationary Distributions for the Random Waypoint Mobility Model",
IEEE Trans. Mobile Computing 3 (2004); B. Liang and Z. J. Haas, "Predictive Distance-Based Mobility Management for PCS
Networks", INFOCOM 1999 (Gauss-Markov).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from jaxmec.channel.fading import safe_sqrt
from jaxmec.config import ConfigError, default_float, number

MEAN_WAY = 128.0 / (45.0 * math.pi)  # between two uniform points of a disc, in radii
CANDIDATES = 32  # ways that a stationary one is chosen from; none of them fits with probability 4e-9
ARRIVALS_PER_SLOT = 2  # what a slot has left after the last of them is spent standing
REFLECTIONS_PER_SLOT = 4


class Movement(Protocol):
    """How positions move. A frozen pytree; every method works under jit, vmap and grad.

    The state is any pytree whose `position_m` [2, N], east and north, is relative to the antenna. Users come last, for
    operations then run along them.
    """

    def init(self, key: Array, radius_m: Array) -> Any:
        """The state in the first slot, stationary, of users in discs of radius_m [N]."""
        ...

    def step(self, key: Array, state: Any, radius_m: Array) -> Any:
        """The state one slot later."""
        ...


@dataclasses.dataclass(frozen=True)
class MovementSettings:
    """What a scenario says of its users' movement."""

    def movement(self, slot_s: float, radius_m: np.ndarray) -> Movement:
        """The movement that these settings describe.

        Args:
          slot_s: length of a slot, s.
          radius_m: [N] radius of every user's disc.

        Raises:
          ConfigError: naming the field, its value and what is allowed.
        """
        raise NotImplementedError


class RandomWaypointState(struct.PyTreeNode):
    """Where users are and what they are about to do."""

    position_m: Array  # [2, N]
    waypoint_m: Array  # [2, N]
    speed_m_s: Array  # [N] on the way there
    pause_s: Array  # [N] left before they set out


class RandomWaypoint(struct.PyTreeNode):
    """Walk straight to a uniform point of the disc at a uniform speed, pause for a uniform time, and again."""

    speed_m_s: Array  # [2] lowest and highest
    pause_s: Array  # [2] shortest and longest
    slot_s: Array  # []

    def init(self, key: Array, radius_m: Array) -> RandomWaypointState:
        """See `Movement`. The longer a way, a time to walk it or a pause, the likelier one is met inside it."""
        key_way, key_rest = jax.random.split(key)
        start, end = self._stationary_way(key_way, radius_m)
        slow, fast = self.speed_m_s
        shortest, longest = self.pause_s
        place, (along, speed, pause, passed, met) = jnp.split(_draws(key_rest, 7, radius_m.size), [2])
        walk_s = MEAN_WAY * radius_m * self._mean_slowness()
        mean_pause_s = 0.5 * (shortest + longest)
        pausing = met * (walk_s + mean_pause_s) < mean_pause_s
        walking = start + along[None, :] * (end - start)
        pause_s = safe_sqrt(shortest**2 + pause * (longest**2 - shortest**2)) * passed
        return RandomWaypointState(
            position_m=jnp.where(pausing[None, :], _in_disc(place, radius_m), walking),
            waypoint_m=end,
            # Who pauses will walk at a fresh speed; slow walkers are on their way for longer.
            speed_m_s=jnp.where(pausing, slow + (fast - slow) * speed, slow * (fast / slow) ** speed),
            pause_s=jnp.where(pausing, pause_s, 0.0),
        )

    def step(self, key: Array, state: RandomWaypointState, radius_m: Array) -> RandomWaypointState:
        """See `Movement`."""
        left_s = jnp.broadcast_to(self.slot_s, radius_m.shape)
        for key_leg in jax.random.split(key, ARRIVALS_PER_SLOT):
            state, left_s = self._leg(key_leg, state, left_s, radius_m)
        return state

    def _leg(
        self, key: Array, state: RandomWaypointState, left_s: Array, radius_m: Array
    ) -> tuple[RandomWaypointState, Array]:
        """Finish pause and way as far as left_s [N] allows, and choose anew on arrival. Returns the time left, too."""
        waited_s = jnp.minimum(state.pause_s, left_s)
        left_s = left_s - waited_s
        way = state.waypoint_m - state.position_m
        way_m = _length(way)
        walk_s = way_m / state.speed_m_s
        part = jnp.where(walk_s > left_s, left_s / jnp.where(walk_s > 0, walk_s, 1.0), 1.0)
        arrived = walk_s <= left_s
        slow, fast = self.speed_m_s
        shortest, longest = self.pause_s
        place, (speed, pause) = jnp.split(_draws(key, 4, radius_m.size), [2])
        moved = RandomWaypointState(
            position_m=jnp.where(arrived[None, :], state.waypoint_m, state.position_m + part[None, :] * way),
            waypoint_m=jnp.where(arrived[None, :], _in_disc(place, radius_m), state.waypoint_m),
            speed_m_s=jnp.where(arrived, slow + (fast - slow) * speed, state.speed_m_s),
            pause_s=jnp.where(arrived, shortest + (longest - shortest) * pause, state.pause_s - waited_s),
        )
        return moved, jnp.where(arrived, left_s - walk_s, 0.0)

    def _mean_slowness(self) -> Array:
        """Mean of 1 / speed, s/m."""
        slow, fast = self.speed_m_s
        differ = fast > slow
        spread = jnp.where(differ, fast - slow, 1.0)
        return jnp.where(differ, jnp.log(jnp.where(differ, fast / slow, 1.0)) / spread, 1.0 / slow)

    def _stationary_way(self, key: Array, radius_m: Array) -> tuple[Array, Array]:
        """Both ends [2, N] of a way that is met in proportion to its length, by rejection."""
        ends, level = jnp.split(jax.random.uniform(key, (5, CANDIDATES, *radius_m.shape)), [4])
        start, end = (_in_disc(draws, jnp.ones(level.shape[1:])) for draws in (ends[:2], ends[2:]))
        first = jnp.argmax(_length(end - start) > 2.0 * level[0], axis=0)
        start, end = (jnp.take_along_axis(ends, first[None, None, :], axis=1)[:, 0] for ends in (start, end))
        return radius_m[None, :] * start, radius_m[None, :] * end


@dataclasses.dataclass(frozen=True)
class RandomWaypointSettings(MovementSettings):
    """Pedestrians, if nothing else is said."""

    speed_m_s: tuple[float, float] = number((0.5, 1.5), at_least=1e-3, at_most=1e3)
    """At zero everybody would slow down for ever."""
    pause_s: tuple[float, float] = number((0.0, 60.0), at_least=0, at_most=1e6)  # between two walks

    def __post_init__(self) -> None:
        for name in ("speed_m_s", "pause_s"):
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(
                    f"movement: {name}: got [{low}, {high}]; allowed is [low, high] with low <= high"
                )

    def movement(self, slot_s: float, radius_m: np.ndarray) -> RandomWaypoint:
        """See `MovementSettings`."""
        _check_speed(self.speed_m_s[1], slot_s, radius_m)
        return RandomWaypoint(default_float(self.speed_m_s), default_float(self.pause_s), default_float(slot_s))


class GaussMarkovMovementState(struct.PyTreeNode):
    """Where users are and where they are going."""

    position_m: Array  # [2, N]
    velocity_m_s: Array  # [2, N]


class GaussMarkovMovement(struct.PyTreeNode):
    """Velocities that are Gauss-Markov processes of mean zero, reflected at the edge of the disc.

    A reflection changes neither speeds nor areas, so positions are uniform over the disc and velocities normal.
    """

    speed_m_s: Array  # [] mean
    memory: Array  # [] correlation of the velocity from one slot to the next
    slot_s: Array  # []

    def init(self, key: Array, radius_m: Array) -> GaussMarkovMovementState:
        """See `Movement`."""
        key_position, key_velocity = jax.random.split(key)
        return GaussMarkovMovementState(
            _in_disc(_draws(key_position, 2, radius_m.size), radius_m),
            self._draw_velocity(key_velocity, radius_m.size),
        )

    def step(self, key: Array, state: GaussMarkovMovementState, radius_m: Array) -> GaussMarkovMovementState:
        """See `Movement`."""
        fresh = self._draw_velocity(key, radius_m.size)
        velocity = self.memory * state.velocity_m_s + safe_sqrt(1.0 - self.memory**2) * fresh
        position, left_s = state.position_m, jnp.broadcast_to(self.slot_s, radius_m.shape)
        for _ in range(REFLECTIONS_PER_SLOT):
            position, velocity, left_s = _fly(position, velocity, left_s, radius_m)
        return GaussMarkovMovementState(position, velocity)

    def _draw_velocity(self, key: Array, num_users: int) -> Array:
        """[2, N]; the speed is Rayleigh distributed, sqrt(pi / 2) deviations on average."""
        return (
            self.speed_m_s
            * math.sqrt(2.0 / math.pi)
            * jax.random.normal(key, (2 * num_users,)).reshape(2, num_users)
        )


@dataclasses.dataclass(frozen=True)
class GaussMarkovMovementSettings(MovementSettings):
    """Mean speed, and for how long a course is kept."""

    speed_m_s: float = number(1.0, at_least=1e-3, at_most=1e3)  # mean
    memory_s: float = number(30.0, at_least=1e-3, at_most=1e9)
    """The velocity's correlation falls to 1/e over this time."""

    def movement(self, slot_s: float, radius_m: np.ndarray) -> GaussMarkovMovement:
        """See `MovementSettings`."""
        _check_speed(self.speed_m_s, slot_s, radius_m)
        memory = math.exp(-slot_s / self.memory_s)
        return GaussMarkovMovement(default_float(self.speed_m_s), default_float(memory), default_float(slot_s))


MOVEMENTS: dict[str, type[MovementSettings]] = {
    "random_waypoint": RandomWaypointSettings,
    "gauss_markov": GaussMarkovMovementSettings,
}


def _check_speed(speed_m_s: float, slot_s: float, radius_m: np.ndarray) -> None:
    """Nobody may cross a disc within a slot: the channel would not be one of that slot."""
    narrowest_m = float(np.min(radius_m))
    if speed_m_s * slot_s > narrowest_m:
        raise ConfigError(
            f"radio.movement.speed_m_s: got {speed_m_s:g}, {speed_m_s * slot_s:g} m in a slot of {slot_s:g} s; "
            f"allowed is the smallest outer radius of users.distance_m, {narrowest_m:g} m"
        )


def _fly(position: Array, velocity: Array, left_s: Array, radius_m: Array) -> tuple[Array, Array, Array]:
    """Straight on for left_s [N], or to the circle and off it as a billiard ball. Returns the time left, too."""
    speed2 = jnp.sum(velocity**2, axis=0)
    outward = jnp.sum(position * velocity, axis=0)
    room_m2 = jnp.maximum(radius_m**2 - jnp.sum(position**2, axis=0), 0.0)
    safe_speed2 = jnp.where(speed2 > 0, speed2, 1.0)
    hit_s = (safe_sqrt(outward**2 + speed2 * room_m2) - outward) / safe_speed2
    hits = (speed2 > 0) & (hit_s < left_s)
    flown_s = jnp.where(hits, hit_s, left_s)
    position = position + flown_s[None, :] * velocity
    normal = position / radius_m[None, :]
    reflected = velocity - 2.0 * jnp.sum(velocity * normal, axis=0, keepdims=True) * normal
    return position, jnp.where(hits[None, :], reflected, velocity), left_s - flown_s


def _draws(key: Array, rows: int, num_users: int) -> Array:
    """Uniform draws [rows, N], drawn in one row: see `Fading.init`."""
    return jax.random.uniform(key, (rows * num_users,)).reshape(rows, num_users)


def _in_disc(draws: Array, radius_m: Array) -> Array:
    """Positions [2, ...], uniform over discs of radius_m [...], of uniform draws [2, ...]."""
    distance, angle = radius_m * safe_sqrt(draws[0]), 2.0 * math.pi * draws[1]
    return jnp.stack([distance * jnp.cos(angle), distance * jnp.sin(angle)], axis=0)


def _length(vector: Array) -> Array:
    """Euclidean length [...] of vectors [2, ...]; its gradient at zero is zero."""
    return safe_sqrt(jnp.sum(vector**2, axis=0))

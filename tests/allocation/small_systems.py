"""Systems of every kind: any network, device and load, scarce resources and not, queues empty and not."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import jaxmec
from jaxmec.allocation import allocate, cut_costs

DEVICES = ("raspberry_pi_4", "raspberry_pi_5", "jetson_nano", "snapdragon_855")
NETWORKS = ("alexnet", "resnet18", "mobilenet_v2", "resnet50", "vgg16")


def random_systems(num_users, count, networks=NETWORKS, seed=0):
    """Slot problems of every cut [count, N, K] and the masks of the cuts."""
    group = {
        "networks": dict.fromkeys(networks, 1),
        "devices": dict.fromkeys(DEVICES, 1),
        "energy_budget_j": dict.fromkeys(DEVICES, 1.0),
        "count": num_users,
        "distance_m": [20, 300],
    }
    env, params = jaxmec.make("coinfer10", users=[group])
    rng = np.random.default_rng(seed)

    def log_uniform(low, high, *shape):
        return np.exp(rng.uniform(np.log(low), np.log(high), (count, *shape))).astype(np.float32)

    def draw(key, bandwidth_hz, server_budget_j, device_budget_j, rate_hz, tradeoff, device_queue, server_queue):
        system = params.replace(
            bandwidth_hz=bandwidth_hz,
            server_budget_j=server_budget_j,
            device_budget_j=params.device_budget_j * device_budget_j,
            tradeoff=tradeoff,
            workload=params.workload.replace(low_hz=rate_hz, high_hz=1.5 * rate_hz),
        )
        _, state = env.reset(key, system)
        state = state.replace(device_queue=device_queue, server_queue=server_queue)
        return env.cut_problems(state, system), env.action_mask(state, system)

    filled = rng.random(count) < 0.6
    queues = (5.0 * rng.exponential(size=(count, num_users + 1)) * filled[:, None]).astype(np.float32)
    return jax.jit(jax.vmap(draw))(
        jax.random.split(jax.random.key(seed), count),
        log_uniform(1e6, 1e8),
        log_uniform(0.1, 10.0),
        log_uniform(0.01, 1.0),
        log_uniform(0.1, 10.0, num_users),
        log_uniform(1.0, 300.0),
        queues[:, :-1],
        queues[:, -1],
    )


def at_cuts(cut_problem, cuts):
    """The slot problem of given cuts."""
    rows = jnp.arange(len(cuts))
    work = ("device_work_s", "uplink_bits", "server_work_s")
    return cut_problem.replace(**{name: getattr(cut_problem, name)[rows, cuts] for name in work})


def exhaustive_optima(cut_problems, masks):
    """Least objective over every combination of cuts, with the exact allocation: [count]."""
    _, num_users, num_cuts = masks.shape
    combinations = jnp.asarray(list(itertools.product(range(num_cuts), repeat=num_users)), jnp.int32)

    def best(problem, mask):
        def value(cuts):
            return jnp.where(
                mask[jnp.arange(num_users), cuts].all(), allocate(at_cuts(problem, cuts)).objective, jnp.inf
            )

        return jax.vmap(value)(combinations).min()

    return np.asarray(jax.jit(lambda *systems: jax.lax.map(lambda one: best(*one), systems))(cut_problems, masks))


def as_float64(problems):
    """The same numbers in float64, under `jax.enable_x64`."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), problems)


def dual_maxima(problems, masks):
    """The dual's maxima [count], in float64; below zero it is no bound, and zero is."""
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(_dual_maxima)(as_float64(problems), jnp.asarray(np.asarray(masks))))
    return np.maximum(found, 0.0)


def _dual_maxima(problems, masks, zooms=14, width=9):
    """Grids over the roots of both prices, each half as wide as the last."""
    count = masks.shape[0]
    offsets = jnp.stack(jnp.meshgrid(*[jnp.linspace(-1.0, 1.0, width)] * 2, indexing="ij")).reshape(2, -1).T

    def dual(problem, mask, roots):
        costs = cut_costs(problem, *roots**2)
        return jnp.sum(jnp.min(jnp.where(mask, costs, jnp.inf), axis=-1)) - jnp.sum(roots**2)

    duals = jax.vmap(dual)

    def zoom(number, best):
        def look(offset, best):
            value, centre, found = best
            roots = jnp.maximum(centre + offset[None] * half, 0.0)
            here = duals(problems, masks, roots)
            better = here > value
            return jnp.where(better, here, value), centre, jnp.where(better[:, None], roots, found)

        half = top * 0.5 ** (number + 1)
        value, centre, _ = best
        value, _, found = jax.lax.fori_loop(
            0, len(offsets), lambda i, best: look(offsets[i], best), (value, centre, centre)
        )
        return value, found, found

    # Beyond the cost of everything at the cheapest prices no price can help.
    free = jax.vmap(lambda problem, mask: dual(problem, mask, jnp.full(2, 1.0)) + 2.0)(problems, masks)
    top = 2.0 * jnp.sqrt(free)[:, None] * jnp.ones((1, 2))
    start = (jnp.full(count, -jnp.inf), 0.5 * top, 0.5 * top)
    return jax.lax.fori_loop(0, zooms, zoom, start)[0]

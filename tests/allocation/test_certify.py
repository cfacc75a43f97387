"""Branch and bound against every combination; limits; and the rounding it starts from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_systems import at_cuts, exhaustive_optima, random_systems

from jaxmec.allocation import CertifyStatus, allocate, certify, lower_bound, round_bound

COUNT = 24


@pytest.fixture(scope="module")
def systems():
    """Systems of three users, their bounds and their optima."""
    problems, masks = random_systems(3, COUNT, ("alexnet", "mobilenet_v2", "vgg16"), seed=7)
    bounds = jax.jit(jax.vmap(lower_bound))(problems, masks)
    return problems, masks, bounds, exhaustive_optima(problems, masks)


def pick(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def test_proven_optima_are_those_of_exhaustive_search(systems):
    problems, masks, _, best = systems
    branched = 0
    for i in range(COUNT):
        certificate = certify(pick(problems, i), masks[i], gap=1e-4)
        assert certificate.status is CertifyStatus.PROVEN
        assert certificate.gap <= 1e-4
        assert certificate.bound <= best[i]
        np.testing.assert_allclose(certificate.objective, best[i], rtol=1e-4)
        reached = jax.jit(allocate)(at_cuts(pick(problems, i), jnp.asarray(certificate.cuts))).objective
        np.testing.assert_allclose(certificate.objective, reached, rtol=1e-6)
        branched += certificate.nodes > 1
    assert branched > 0  # or this tests the bound alone


def test_a_limit_is_told_with_the_gap_that_was_reached(systems):
    problems, masks, bounds, best = systems
    widest = int(np.argmax(1.0 - np.asarray(bounds.value) / best))
    certificate = certify(pick(problems, widest), masks[widest], gap=2e-5, max_nodes=1)
    assert certificate.status is CertifyStatus.NODE_LIMIT
    assert certificate.nodes == 1
    np.testing.assert_allclose(certificate.bound, bounds.value[widest], rtol=1e-5)
    assert certificate.gap > 2e-5
    assert certificate.objective >= best[widest] * (1.0 - 1e-5)


def test_cuts_rounded_from_the_bound_are_nearly_optimal(systems):
    problems, masks, bounds, best = systems
    rounding = jax.jit(jax.vmap(round_bound))(problems, bounds)
    assert jnp.take_along_axis(masks, rounding.cuts[..., None], axis=-1).all()
    above = np.asarray(rounding.objective) / best - 1.0
    assert above.min() >= -1e-5
    assert above.mean() <= 1e-3


@pytest.mark.parametrize("limit", [{"gap": 0.0}, {"max_nodes": 0}, {"max_seconds": -1.0}])
def test_bad_limits_are_told(systems, limit):
    problems, masks, _, _ = systems
    name, value = next(iter(limit.items()))
    with pytest.raises(ValueError, match=f"{name}: got {value}; allowed is above 0"):
        certify(pick(problems, 0), masks[0], **limit)

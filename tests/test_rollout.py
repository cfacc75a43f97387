"""The loop: slot by slot by hand, and common random numbers. The system is a walk that anybody can follow."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxmec.rollout import rollout


@dataclasses.dataclass(frozen=True)
class Walk:
    """Moves by the option and by noise."""

    def step_env(self, key, state, action, params):
        noise = jax.random.normal(key)
        after = state + params * action[0] + noise
        return after[None, None], after, -after, jnp.asarray(False), {"noise": noise}


def test_the_loop_is_the_slots_one_after_the_other(key):
    def policy(key, state, params):
        return jax.random.randint(key, (1,), 0, 5)

    end, (states, actions, rewards, noise) = rollout(
        Walk(), policy, key, jnp.asarray(3.0), 2.0, 6, lambda s: (s.state, s.action, s.reward, s.info["noise"])
    )
    state = 3.0
    for slot, slot_key in enumerate(jax.random.split(key, 6)):
        key_policy, key_step = jax.random.split(slot_key)
        action = int(policy(key_policy, None, None)[0])
        assert np.isclose(states[slot], state, atol=1e-5)
        assert actions[slot, 0] == action
        state = state + 2.0 * action + float(jax.random.normal(key_step))
        assert np.isclose(rewards[slot], -state, atol=1e-5)
    assert np.isclose(end, state, atol=1e-5)
    assert np.unique(noise).size == 6


def test_policies_meet_the_same_random_numbers(key):
    found = [
        rollout(Walk(), policy, key, jnp.asarray(0.0), 1.0, 5, lambda s: s.info["noise"])[1]
        for policy in (lambda k, s, p: jnp.ones(1, jnp.int32), lambda k, s, p: jax.random.randint(k, (1,), 0, 9))
    ]
    np.testing.assert_array_equal(*found)

"""Stable-Baselines3's PPO and sb3-contrib's MaskablePPO on one VecEnv.

python docs/examples/stacks/sb3_learners.py
"""

from __future__ import annotations

import numpy as np
from common import STATES, arguments, judge, make_system
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from jaxmec.wrappers import CoInferVecEnv

NUM_ENVS = 64
SETTINGS = {
    "n_steps": 16,
    "batch_size": 256,
    "n_epochs": 4,
    "learning_rate": 1e-3,
    "gamma": 0.0,  # prices carry the future
}


def main() -> None:
    """Train both, and judge them."""
    options = arguments(slots=100_000)
    env, params = make_system()
    learned = {}
    for kind in (PPO, MaskablePPO):
        envs = CoInferVecEnv(NUM_ENVS, env, params)
        learner = kind("MlpPolicy", envs, **SETTINGS, seed=0, device="cpu")
        learner.learn(options.slots)

        def cuts(observations, learner=learner):
            flat, mask = (
                np.array(part).reshape(STATES, -1) for part in (observations, env.unpack(observations).mask)
            )
            masks = {"action_masks": mask} if isinstance(learner, MaskablePPO) else {}
            return learner.predict(flat, deterministic=True, **masks)[0]

        learned[f"Stable-Baselines3 {kind.__name__}"] = cuts
    judge("stable-baselines3", learned, options.built_in)


if __name__ == "__main__":
    main()

"""Train with many settings and seeds: `jaxmec sweep`, from a checkout.

python train/sweep.py --config configs/sweeps/learning_rate.yaml
"""

import sys

from jaxmec.commands.sweep import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python train/sweep.py"))

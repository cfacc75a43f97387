"""Train a policy: `jaxmec train`, from a checkout.

python train/main.py --num-envs 4096
"""

import sys

from jaxmec.commands.train import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python train/main.py"))

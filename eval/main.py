"""Compare policies: `jaxmec eval`, from a checkout.

python eval/main.py --run runs/district10-seed0 --candidates 1 4 16
"""

import sys

from jaxmec.commands.eval import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python eval/main.py"))

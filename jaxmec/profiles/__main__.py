"""`python -m jaxmec.profiles` is `jaxmec profile`: where should this network be cut?"""

import sys

from jaxmec.commands.profile import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python -m jaxmec.profiles"))

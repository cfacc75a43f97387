"""Make the cut tables of the well-known networks.

python -m jaxmec.profiles.zoo
"""

from pathlib import Path

import numpy as np

from jaxmec.profiles import profile
from jaxmec.profiles.zoo import networks

SOURCE = "traced by jaxmec.profiles from jaxmec/profiles/zoo/networks.py; input is a 224 x 224 uint8 image"


def main() -> None:
    """Write one JSON file per network beside this one."""
    for name in networks.NETWORKS:
        fn, params, image = networks.abstract(name)
        pixels = int(np.prod(image.shape))
        table = profile(fn, params, image, name=name, local_outputs=True, input_bits=8 * pixels, source=SOURCE)
        table.save(Path(__file__).parent / f"{name}.json")
        print(table, end="\n\n")


if __name__ == "__main__":
    main()

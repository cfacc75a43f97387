"""Make the cut tables of the well-known networks.

python -m jaxmec.profiles.zoo
"""

from pathlib import Path

import numpy as np

from jaxmec.profiles import PartitionProfile, profile
from jaxmec.profiles.zoo import decoder, networks

SOURCE = "traced by jaxmec.profiles from jaxmec/profiles/zoo/networks.py; its input is a {0} x {0} uint8 image"


def table(name: str) -> PartitionProfile:
    """The cut table of an image network; the class that returns from the server is neglected."""
    fn, params, image = networks.abstract(name)
    source = SOURCE.format(networks.image_size(name))
    return profile(
        fn, params, image, name=name, local_outputs=True, input_bits=8 * int(np.prod(image.shape)), source=source
    )


def main() -> None:
    """Write one JSON file per network beside this one."""
    for made in (*map(table, networks.NETWORKS), *decoder.tables()):
        made.save(Path(__file__).parent / f"{made.name}.json")
        print(made, end="\n\n")


if __name__ == "__main__":
    main()

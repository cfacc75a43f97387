"""Optional libraries, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from jaxmec.config import ConfigError


def optional(module: str, extra: str) -> Any:
    """A module of a library that comes with an extra of this package.

    Raises:
      ConfigError: if it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f'{error}; install it: pip install "jaxmec[{extra}]"') from None

"""The product's version, read once from the installed distribution."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version


@lru_cache(maxsize=1)
def product_version() -> str:
    """Return the version of the installed product."""
    return version("intramuros-appliance")

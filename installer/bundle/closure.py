"""Proves that a bundle's Debian packages are complete: apt, on an empty machine, with the bundle as its only source."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from installer.bundle.apt import PrivateApt, flat_source
from installer.bundle.layout import APT, PUBLISHER


def prove_closure(bundle: Path, packages: Sequence[str]) -> int:
    """Return how many packages apt would install for `packages`. Raises Unavailable with apt's words.

    apt also verifies the archive's signature on the way, with the publisher's key alone.
    """
    with tempfile.TemporaryDirectory(prefix="intramuros-closure-") as folder:
        apt = PrivateApt(Path(folder), flat_source(bundle / APT, bundle / PUBLISHER))
        apt.update()
        return len(apt.closure(packages))

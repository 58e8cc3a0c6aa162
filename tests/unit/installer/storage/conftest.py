from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.storage.keyfiles import key_files
from installer.storage.volume import Volume, places_below
from tests.unit.installer.storage.luks_image import CHEAP, SIZE, Image


@pytest.fixture
def blank(tmp_path: Path, memory: Path) -> Iterator[Image]:
    """An empty disk of 64 MiB."""
    device = tmp_path / "disk"
    with device.open("wb") as stream:
        stream.truncate(SIZE)
    places = places_below(memory)
    with key_files(places.run) as keys:
        yield Image(volume=Volume(device=device, mount=tmp_path / "data", cost=CHEAP), places=places, keys=keys)


@pytest.fixture
def ready(blank: Image) -> Image:
    """A volume whose set-up has ended: a passphrase in one slot, the recovery key in another."""
    blank.format()
    blank.fill()
    return blank

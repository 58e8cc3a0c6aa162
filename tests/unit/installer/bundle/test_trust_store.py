"""What a machine remembers: cut off anywhere, it forbids more, never less."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.errors import NotFound
from installer.bundle import layout
from installer.bundle.manifest import decode_manifest
from installer.bundle.trust_store import TrustStore
from tests.factories.bundle import BUILT


def test_empty(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    assert (store.accepted(), store.timestamp(), store.signed_times()) == (None, None, [])
    with pytest.raises(NotFound):
        store.root()


@pytest.mark.parametrize("obstacle", ["accepted.json", "root.json", "timestamp.json"])
def test_cut_off_at_each_write(obstacle: str, pristine: Path, tmp_path: Path) -> None:
    """A folder in the place of a file makes that write fail, as a full disk would."""
    manifest = decode_manifest((pristine / layout.MANIFEST).read_bytes())
    store = TrustStore(tmp_path)
    (tmp_path / obstacle).mkdir()
    with pytest.raises(OSError, match=r"accepted|root|timestamp"):
        store.remember(manifest, "0" * 64, root=b"root", timestamp=b"timestamp")
    (tmp_path / obstacle).rmdir()
    accepted = store.accepted()
    assert (accepted is None) == (obstacle == "accepted.json")  # what forbids is written first
    if accepted is not None:
        assert (accepted.sequence, store.signed_times()) == (5, [BUILT])
    store.remember(manifest, "0" * 64, root=b"root", timestamp=b"timestamp")
    assert (store.root(), store.timestamp()) == (b"root", b"timestamp")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["accepted.json", "root.json", "timestamp.json"]

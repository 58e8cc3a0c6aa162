from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.cli.doctor import _certificate
from appliance.kernel.paths import StatePaths


def test_certificate_that_this_user_may_not_read_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a box, where an administrator without sudo asks: the folder belongs to another user."""
    paths = StatePaths(tmp_path)
    assert list(_certificate(paths)) == []
    paths.tls.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != paths.tls)
    (found,) = _certificate(paths)
    assert (found.level, found.what, found.found) == ("WARN", "certificate", "not readable by this user")

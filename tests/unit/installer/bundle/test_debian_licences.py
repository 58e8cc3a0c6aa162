"""The licences of a package: from its machine-readable copyright file, otherwise where to read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.errors import IntegrityFailure
from installer.bundle.debian_licences import licences_of
from tests.factories.bundle import make_package

_DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: GPL-2+

Files: lib/*
Copyright: somebody
License:   MIT

License: GPL-2+
 The text.
"""


def test_short_names_of_a_machine_readable_file(tmp_path: Path) -> None:
    package = make_package(tmp_path, "named", copyright_text=_DEP5)
    assert licences_of(package, "named") == "GPL-2+, MIT"


@pytest.mark.parametrize("text", ["", "License: whatever, in prose\n", "Format: copyright-format\n"])
def test_otherwise_where_the_text_lies(text: str, tmp_path: Path) -> None:
    package = make_package(tmp_path, "prose", copyright_text=text)
    assert licences_of(package, "prose") == "usr/share/doc/prose/copyright in the package"


def test_no_package(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(b"x")
    with pytest.raises(IntegrityFailure):
        licences_of(tmp_path / "x.deb", "x")

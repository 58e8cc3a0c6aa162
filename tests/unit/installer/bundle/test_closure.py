"""apt itself says whether the archive is complete and whether it believes the signature."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, Unavailable
from installer.bundle.apt import PrivateApt, flat_source, own_sources, sources_of_suite
from installer.bundle.closure import prove_closure
from installer.bundle.layout import PUBLISHER
from tests.factories.bundle import Publisher

MIRROR = "http://mirror.example.invalid/debian"


def test_complete(pristine: Path) -> None:
    assert prove_closure(pristine, ["wanted"]) == 2


def test_a_dependency_is_missing(pristine: Path, publisher: Publisher, inputs: Path, tmp_path: Path) -> None:
    lacking = Path(shutil.copytree(inputs, tmp_path / "inputs"))
    description = lacking / "inputs.json"
    (lacking / "tree" / "apt" / "needed_1.0-1_all.deb").unlink()
    document = json.loads(description.read_bytes())
    del document["files"]["apt/needed_1.0-1_all.deb"]
    description.write_text(json.dumps(document))
    medium = publisher.build(lacking, tmp_path / "medium")
    with pytest.raises(Unavailable, match="fits together"):
        prove_closure(medium, ["wanted"])


def test_apt_refuses_another_key(pristine: Path, stranger: Publisher, tmp_path: Path) -> None:
    apt = PrivateApt(tmp_path, flat_source(pristine / "apt", stranger.keys.publisher_public))
    with pytest.raises(Unavailable, match=r"NO_PUBKEY|not signed"):
        apt.update()


def test_apt_refuses_an_altered_index(medium: Path, tmp_path: Path) -> None:
    with (medium / "apt" / "Packages").open("a") as stream:
        stream.write("\n")
    (medium / "apt" / "Packages.gz").unlink()
    apt = PrivateApt(tmp_path, flat_source(medium / "apt", medium / PUBLISHER))
    with pytest.raises(Unavailable):
        apt.update()


def test_closure_from_an_empty_machine_is_downloaded(pristine: Path, tmp_path: Path) -> None:
    source = flat_source(pristine / "apt", pristine / PUBLISHER).replace("file:", "copy:")  # apt fetches it then
    apt = PrivateApt(tmp_path, source)
    apt.update()
    assert [found.file.name for found in apt.fetch_closure(["wanted"])] == [
        "needed_1%3a1.0-1_all.deb",
        "wanted_1%3a1.0-1_all.deb",
    ]
    assert [found.file.name for found in apt.fetch_exactly(["needed=1:1.0-1"])] == ["needed_1%3a1.0-1_all.deb"]


def test_own_sources(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    with pytest.raises(BadInput):
        own_sources(tmp_path)
    (parts / "debian.sources").write_text(
        f"Types: deb\nURIs: {MIRROR}\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n"
        f"Types: deb\nURIs: {MIRROR}\nSuites: trixie\nComponents: main\n"
    )
    (parts / "other.list").write_text("deb https://elsewhere.example.invalid/apt bookworm main\n")
    (tmp_path / "sources.list").write_text(f"# a comment\ndeb [arch=amd64] {MIRROR}-security bookworm-security main\n")
    found = own_sources(tmp_path)
    assert found.count("Types: deb") == 2
    assert "trixie" not in found
    assert "elsewhere" not in found
    newer = sources_of_suite(found, "sid")
    assert newer == f"Types: deb\nURIs: {MIRROR}\nSuites: sid\nComponents: main\nSigned-By: /k.gpg\n"

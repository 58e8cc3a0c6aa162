"""Media that are not what the publisher signed: each is refused by name, and the box is as it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boxes.conftest import Rig
from tests.boxes.rig.box import write
from tests.boxes.rig.commands import run
from tests.boxes.rig.installation import ANSWERS, MEDIUM, Bundle, Wishes, answers, install_script

pytestmark = pytest.mark.timeout(900)
_NOT_OURS = ("/root", "/var/log", "/var/lib/systemd", "/run", "/tmp")
"""Places that a running box writes to by itself, and the answers."""


def _alter(medium: Path) -> None:
    file = sorted((medium / "wheels").glob("*.whl"))[0]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    _replace(file, bytes(data))


def _truncate(medium: Path) -> None:
    file = sorted((medium / "apt").rglob("*.deb"))[0]
    _replace(file, file.read_bytes()[:-1])


def _swap(medium: Path) -> None:
    first, second = sorted((medium / "apt").rglob("*.deb"))[:2]
    one, two = first.read_bytes(), second.read_bytes()
    _replace(first, two)
    _replace(second, one)


def _lose(medium: Path) -> None:
    sorted((medium / "wheels").glob("*.whl"))[-1].unlink()


def _add(medium: Path) -> None:
    (medium / "playbooks" / "more.yml").write_text("[]\n")


def _link(medium: Path) -> None:
    file = medium / "playbooks" / "site.yml"
    file.unlink()
    file.symlink_to("/etc/passwd")


def _add_twin(medium: Path) -> None:
    shutil.copyfile(medium / "playbooks" / "site.yml", medium / "playbooks" / "SITE.yml")


def _unsign(medium: Path) -> None:
    (medium / "bootstrap" / "SHA256SUMS.gpg").unlink()


def _replace(file: Path, data: bytes) -> None:
    """Give a file other content without touching the one it shares its blocks with."""
    file.unlink()
    file.write_bytes(data)


_MEDIA: dict[str, Callable[[Path], None]] = {
    "bundle.altered": _alter,
    "bundle.altered (truncated)": _truncate,
    "bundle.altered (swapped)": _swap,
    "bundle.missing": _lose,
    "bundle.unlisted": _add,
    "bundle.symlink": _link,
    "bundle.unlisted (twin)": _add_twin,
    "bundle.unsigned": _unsign,
}


def test_bad_media_are_refused_and_nothing_is_written(rig: Rig, bundle: Bundle) -> None:
    media = rig.folder / "media"
    media.mkdir()
    box = rig.box(shared=((media, "/media/all"),))
    write(box, ANSWERS, answers(Wishes(address=box.address, public_key=rig.public_key)), mode="0600")
    before = _written(box.layer)
    for wanted, spoil in _MEDIA.items():
        copy = media / "stick"
        run(["cp", "--archive", "--link", bundle.medium, copy])
        spoil(copy)
        said = box.sh(install_script(bundle).replace(MEDIUM, "/media/all/stick"), check=False, timeout=300)
        shutil.rmtree(copy)
        assert not said.ok, wanted
        assert f"REFUSED [{wanted.split()[0]}]" in said.err, (wanted, said.err)
        assert _written(box.layer) == before, wanted


def test_medium_of_another_publisher_is_refused(rig: Rig, bundle: Bundle) -> None:
    box = rig.box(shared=((bundle.medium, MEDIUM),))
    before = _written(box.layer)
    other = "0" * 40
    said = box.sh(f"sh {MEDIUM}/bootstrap/install.sh --fingerprint {other} -- --answers {ANSWERS} --yes", check=False)
    assert "REFUSED [bundle.unknown_publisher]" in said.err
    assert _written(box.layer) == before


def _written(layer: Path) -> set[str]:
    """List what a box has written, apart from what every running system writes."""
    found = {f"/{file.relative_to(layer)}" for file in layer.rglob("*")}
    return {name for name in found if not name.startswith(_NOT_OURS)}

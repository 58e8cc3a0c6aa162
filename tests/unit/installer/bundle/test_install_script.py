"""`install.sh` on its own, as on a machine without Python: what it refuses, by name, before it does anything.

What it does after that is proven on a box (tests/boxes).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from installer.bundle import layout
from installer.bundle.openpgp import Signer
from installer.bundle.signed_metadata import VALID
from tests.factories.bundle import BUILT, PASSPHRASE, Publisher
from tests.quality.sources import ROOT

DEB = "apt/wanted_1.0-1_all.deb"
Attack = Callable[[Path], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    code: str
    said: str


@dataclass(frozen=True, slots=True)
class Box:
    """A machine's folders of trust and state."""

    folder: Path

    def run(self, medium: Path, *words: str) -> Answer:
        """Run the script of the medium, only to verify."""
        outcome = subprocess.run(
            ["/bin/sh", str(medium / layout.INSTALL), "--verify-only", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={
                "INTRAMUROS_TRUST": str(self.folder / "trust"),
                "INTRAMUROS_STATE_FOLDER": str(self.folder / "state"),
            },
        )
        found = re.search(r"REFUSED \[([a-z_.]+)\]", outcome.stderr)
        return Answer(status=outcome.returncode, code=found[1] if found else "", said=outcome.stderr)

    def put(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (tmp_path / "box").mkdir()
    return Box(tmp_path / "box")


def test_accepts_a_whole_medium(pristine: Path, box: Box, publisher: Publisher) -> None:
    spaced = " ".join(re.findall("....", publisher.fingerprint)).lower()
    for fingerprint in (publisher.fingerprint, spaced):
        answer = box.run(pristine, "--fingerprint", fingerprint)
        assert (answer.status, answer.code) == (0, ""), answer.said
    assert "version 0.1.0, number 5" in answer.said
    assert list(box.folder.iterdir()) == []  # a look leaves no trace


def test_accepts_parts(in_parts: Path, box: Box, publisher: Publisher) -> None:
    assert box.run(in_parts, "--fingerprint", publisher.fingerprint).status == 0


def _write(path: str, data: bytes = b"x") -> Attack:
    def attack(medium: Path) -> None:
        (medium / path).parent.mkdir(parents=True, exist_ok=True)
        (medium / path).write_bytes(data)

    return attack


def _flip(path: str) -> Attack:
    def attack(medium: Path) -> None:
        data = bytearray((medium / path).read_bytes())
        data[len(data) // 2] ^= 1
        (medium / path).write_bytes(data)

    return attack


def _swap(medium: Path) -> None:
    one, two = medium / DEB, medium / "apt/needed_1.0-1_all.deb"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def _link(medium: Path) -> None:
    (medium / DEB).rename(medium.parent / "outside")
    (medium / DEB).symlink_to(medium.parent / "outside")


def _pipe(medium: Path) -> None:
    (medium / DEB).unlink()
    os.mkfifo(medium / DEB)


ATTACKS: dict[str, tuple[Attack, str]] = {
    "altered": (_flip(DEB), "bundle.altered"),
    "manifest altered": (_flip(layout.MANIFEST), "bundle.altered"),
    "cut off": (lambda medium: os.truncate(medium / DEB, 50), "bundle.altered"),
    "swapped": (_swap, "bundle.altered"),
    "missing": (lambda medium: (medium / DEB).unlink(), "bundle.missing"),
    "unlisted": (_write("apt/extra.deb"), "bundle.unlisted"),
    "unlisted and named almost as the signature": (_write("bootstrap/SHA256SUMS-gpg"), "bundle.unlisted"),
    "unlisted and hidden": (_write("playbooks/.hidden"), "bundle.unlisted"),
    "unlisted with a line break": (_write("apt/wanted_1.0-1_all.deb\nextra"), "bundle.unlisted"),
    "unlisted with a blank": (_write("apt/a b"), "bundle.unlisted"),
    "case-fold twin": (_write("apt/WANTED_1.0-1_all.deb"), "bundle.unlisted"),
    "link": (_link, "bundle.symlink"),
    "pipe": (_pipe, "bundle.symlink"),
    "list altered": (_flip(layout.SUMS), "bundle.unsigned"),
    "list unsigned": (lambda medium: (medium / layout.SUMS_SIGNATURE).unlink(), "bundle.unsigned"),
    "signature cut off": (lambda medium: os.truncate(medium / layout.SUMS_SIGNATURE, 20), "bundle.unsigned"),
    "list gone": (lambda medium: (medium / layout.SUMS).unlink(), "bundle.unsigned"),
    "key gone": (lambda medium: (medium / layout.PUBLISHER).unlink(), "bundle.unsigned"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_by_name(name: str, medium: Path, box: Box, publisher: Publisher) -> None:
    attack, code = ATTACKS[name]
    attack(medium)
    answer = box.run(medium, "--fingerprint", publisher.fingerprint)
    assert (answer.status, answer.code) == (7, code), answer.said
    assert "Nothing was installed" in answer.said
    assert list(box.folder.iterdir()) == []


def test_a_key_nobody_vouched_for(pristine: Path, box: Box, stranger: Publisher) -> None:
    assert box.run(pristine).code == "bundle.unknown_publisher"  # nobody is there to ask
    assert box.run(pristine, "--fingerprint", stranger.fingerprint).code == "bundle.unknown_publisher"
    assert box.run(pristine, "--fingerprint", "").code == "bundle.unknown_publisher"


def test_a_pinned_key_beats_a_given_one(pristine: Path, box: Box, publisher: Publisher, stranger: Publisher) -> None:
    box.put("trust/publisher.fingerprint", stranger.fingerprint + "\n")
    assert box.run(pristine, "--fingerprint", publisher.fingerprint).code == "bundle.unknown_publisher"
    box.put("trust/publisher.fingerprint", publisher.fingerprint + "\n")
    assert box.run(pristine).status == 0


def test_a_list_with_a_second_signature_of_somebody_else(
    medium: Path, box: Box, publisher: Publisher, stranger: Publisher
) -> None:
    data = (medium / layout.SUMS).read_bytes()
    both = (medium / layout.SUMS_SIGNATURE).read_bytes() + Signer(stranger.keys, PASSPHRASE, at=BUILT).detach_sign(data)
    (medium / layout.SUMS_SIGNATURE).write_bytes(both)
    assert box.run(medium, "--fingerprint", publisher.fingerprint).code == "bundle.unsigned"


def test_older_than_what_was_accepted(pristine: Path, box: Box, publisher: Publisher) -> None:
    box.put("trust/publisher.fingerprint", publisher.fingerprint)
    box.put("state/bootstrap/sequence", "5\n")
    assert box.run(pristine).status == 0
    box.put("state/bootstrap/sequence", "6\n")
    assert box.run(pristine).code == "bundle.older"
    box.put("state/bootstrap/sequence", "1\n")
    record = '{"built":"2026-11-25T12:00:00Z","manifest_digest":"00","sequence":6,"version":"1"}'
    box.put("trust/accepted.json", record)
    assert box.run(pristine).code == "bundle.older"


def test_expired(inputs: Path, box: Box, publisher: Publisher, tmp_path: Path) -> None:
    expired = publisher.build(inputs, tmp_path / "expired", built=BUILT - VALID - timedelta(days=900))
    assert box.run(expired, "--fingerprint", publisher.fingerprint).code == "bundle.expired"


def test_expired_by_what_was_accepted_before(pristine: Path, box: Box, publisher: Publisher) -> None:
    late = (BUILT + VALID + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    box.put("state/bootstrap/built", late)
    assert box.run(pristine, "--fingerprint", publisher.fingerprint).code == "bundle.expired"


@pytest.mark.parametrize("name", ["../outside", "/etc/shadow", "apt/../../outside", "-rf", "a b", "a$(id)"])
def test_names_that_lead_elsewhere_although_signed(name: str, medium: Path, box: Box, publisher: Publisher) -> None:
    data = (medium / layout.SUMS).read_bytes() + f"{'0' * 64}  {name}\n".encode()
    _sign(medium, data, publisher)
    assert box.run(medium, "--fingerprint", publisher.fingerprint).code == "bundle.path"


def test_twins_although_signed(medium: Path, box: Box, publisher: Publisher) -> None:
    data = (medium / layout.SUMS).read_bytes() + f"{'0' * 64}  APT/inrelease\n".encode()
    _sign(medium, data, publisher)
    assert box.run(medium, "--fingerprint", publisher.fingerprint).code == "bundle.case_twin"


def test_another_format_although_signed(medium: Path, box: Box, publisher: Publisher) -> None:
    data = (medium / layout.SUMS).read_bytes().replace(b"intramuros-bundle 1", b"intramuros-bundle 2")
    _sign(medium, data, publisher)
    assert box.run(medium, "--fingerprint", publisher.fingerprint).code == "bundle.manifest_schema"


def test_the_script_stays_short_and_plain() -> None:
    text = (Path(layout.__file__).parent.parent / "bootstrap" / "install.sh").read_text()
    assert text.count("\n") < 200
    assert "\t" not in text
    assert max(map(len, text.splitlines())) <= 160
    subprocess.run(["dash", "-n", "/dev/stdin"], input=text, text=True, check=True)


def _sign(medium: Path, data: bytes, publisher: Publisher) -> None:
    (medium / layout.SUMS).write_bytes(data)
    (medium / layout.SUMS_SIGNATURE).write_bytes(Signer(publisher.keys, PASSPHRASE, at=BUILT).detach_sign(data))


def test_source_of_packages_is_to_the_byte_what_the_playbooks_keep() -> None:
    """Else the script, run again to go on after a power cut, would leave something for the next run to change."""
    script = (ROOT / "installer" / "bootstrap" / "install.sh").read_text()
    written = re.search(r'put "\$lists/intramuros\.sources" << END[^\n]*\n(.*?)END\n', script, flags=re.DOTALL)
    template = (ROOT / "playbooks" / "roles" / "offline_repo" / "templates" / "intramuros.sources.j2").read_text()
    kept = template.replace("{{ offline_repo_bundle }}", "$medium").replace(
        "{{ offline_repo_key }}", "$trust/publisher.gpg"
    )
    assert written is not None
    assert written[1] == kept


def test_option_that_is_not_the_scripts_own_is_refused_by_name(medium: Path, box: Box) -> None:
    refused = box.run(medium, "--answer", "x.toml")
    assert refused.status == 2
    assert "--answer is no option" in refused.said

"""The stand-alone verifier against every kind of tampering."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.kernel.signing_key import SigningKey
from installer.evidence import verify_evidence
from installer.evidence.collect import Collected
from installer.evidence.signing_key import load_or_create_key
from installer.evidence.verify_evidence import Unreadable, canonical, main, read_public_key, verify
from tests.factories.evidence import NOW, collected

OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.fixture
def chain(tmp_path: Path) -> list[Collected]:
    return [collected(tmp_path, at=NOW + timedelta(seconds=number)) for number in range(3)]


def key_of(tmp_path: Path) -> bytes:
    return load_or_create_key(tmp_path / "etc" / "evidence.key")[0].public_bytes


def resign(folder: Path, key: SigningKey, change: Callable[[dict[str, object]], None]) -> None:
    content = json.loads((folder / "evidence.json").read_bytes())
    change(content)
    (folder / "evidence.json").write_bytes(canonical(content))
    (folder / "evidence.sig").write_bytes(key.sign(canonical(content)))


def test_a_whole_chain_verifies(tmp_path: Path, chain: list[Collected]) -> None:
    verdict = verify([tmp_path / "evidence"], public_key=key_of(tmp_path), expect=chain[1].digest)
    assert verdict.ok
    assert verdict.key_pinned
    assert verdict.complete
    assert [each.digest for each in verdict.checked] == [each.digest for each in chain]


def test_one_evidence_alone_says_that_the_others_are_missing(tmp_path: Path, chain: list[Collected]) -> None:
    verdict = verify([chain[2].folder])
    assert verdict.ok
    assert not verdict.complete
    assert not verdict.key_pinned


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda folder: (folder / "evidence.json").write_bytes(b"{}"), "format"),
        (lambda folder: (folder / "evidence.json").write_bytes(b"not json"), "malformed"),
        (
            lambda folder: (folder / "evidence.json").write_bytes(
                (folder / "evidence.json").read_bytes().replace(b'"pass"', b'"fail"', 1)
            ),
            "signature",
        ),
        (
            lambda folder: (folder / "evidence.json").write_bytes((folder / "evidence.json").read_bytes() + b"\n"),
            "malformed",
        ),
        (lambda folder: (folder / "evidence.sig").write_bytes(bytes(64)), "signature"),
        (lambda folder: (folder / "evidence.sig").write_bytes(b""), "signature"),
        (lambda folder: (folder / "attachments" / "sshd.txt").write_text("permitrootlogin yes"), "attachment"),
        (lambda folder: (folder / "attachments" / "sshd.txt").unlink(), "attachment"),
        (lambda folder: (folder / "attachments" / "more.txt").write_text("x"), "unlisted"),
        (lambda folder: resign(folder, OTHER, lambda content: None), "signature"),
        (lambda folder: resign(folder, OTHER, lambda content: content.update(public_key=OTHER.public_base64)), "key"),
        (lambda folder: shutil.rmtree(folder), "missing"),
    ],
    ids=[
        "emptied", "no-json", "verdict-changed", "not-canonical", "signature-zeroed", "signature-emptied",
        "attachment-changed", "attachment-gone", "attachment-added", "signed-by-another", "key-exchanged", "removed",
    ],
)  # fmt: skip
def test_tampering_is_found(
    tmp_path: Path, chain: list[Collected], damage: Callable[[Path], object], code: str
) -> None:
    damage(chain[1].folder)
    verdict = verify([tmp_path / "evidence"], public_key=key_of(tmp_path))
    assert (verdict.ok, verdict.code) == (False, code), verdict.problem


def test_history_that_root_signs_anew_is_found_by_a_digest_kept_elsewhere(
    tmp_path: Path, chain: list[Collected]
) -> None:
    key, _ = load_or_create_key(tmp_path / "etc" / "evidence.key")
    resign(chain[2].folder, key, lambda content: content.update(label="nicer"))
    assert verify([tmp_path / "evidence"], public_key=key.public_bytes).ok
    found = verify([tmp_path / "evidence"], public_key=key.public_bytes, expect=chain[2].digest)
    assert found.code == "expected"
    resign(chain[1].folder, key, lambda content: content.update(label="nicer"))
    assert verify([tmp_path / "evidence"], public_key=key.public_bytes).code == "link"


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, chain: list[Collected]) -> None:
    key, _ = load_or_create_key(tmp_path / "etc" / "evidence.key")
    attachment = {"name": "../../etc/passwd", "size": 1, "sha256": "0" * 64}
    resign(chain[0].folder, key, lambda content: content.update(attachments=[attachment]))
    assert verify([chain[0].folder]).code == "malformed"


def test_command_line(tmp_path: Path, chain: list[Collected], capsys: pytest.CaptureFixture[str]) -> None:
    pem = tmp_path / "evidence.pub"
    pem.write_text(load_or_create_key(tmp_path / "etc" / "evidence.key")[0].public_pem)
    assert main([str(tmp_path / "evidence"), "--public-key", str(pem), "--expect", chain[2].digest.upper()]) == 0
    assert "OK: 3 evidences verify" in capsys.readouterr().out
    (chain[0].folder / "evidence.sig").write_bytes(bytes(64))
    assert main([str(tmp_path / "evidence"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "signature"
    assert main([str(tmp_path / "nothing")]) == 2
    with pytest.raises(Unreadable):
        read_public_key("no key")


def test_it_stands_alone() -> None:
    """The file runs anywhere: Python and `cryptography`, nothing of ours, and the signature by openssl as well."""
    source = Path(verify_evidence.__file__)
    tree = ast.parse(source.read_text(), feature_version=(3, 9))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} - {None}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    tops = {str(module).split(".")[0] for module in modules}
    assert tops - {"cryptography"} <= set(sys.stdlib_module_names)


def test_without_cryptography_it_says_what_to_install() -> None:
    hidden = "import runpy, sys; sys.modules['cryptography'] = None; runpy.run_path(sys.argv[1])"
    said = subprocess.run(
        [sys.executable, "-c", hidden, verify_evidence.__file__], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "verify_evidence.py: the package cryptography is missing: apt install python3-cryptography\n"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_agrees(tmp_path: Path, chain: list[Collected]) -> None:
    pem = tmp_path / "evidence.pub"
    pem.write_text(load_or_create_key(tmp_path / "etc" / "evidence.key")[0].public_pem)
    words = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(pem), "-rawin", "-in"]
    files = [str(chain[0].folder / "evidence.json"), "-sigfile", str(chain[0].folder / "evidence.sig")]
    assert subprocess.run([*words, *files], capture_output=True, check=False).returncode == 0
    (chain[0].folder / "evidence.sig").write_bytes(bytes(64))
    assert subprocess.run([*words, *files], capture_output=True, check=False).returncode != 0

#!/usr/bin/env python3
"""Verify Intramuros evidence, with nothing but Python 3.9+ and the `cryptography` package.

    python verify_evidence.py FOLDER [FOLDER ...] [--public-key KEY] [--expect DIGEST] [--json]

FOLDER is one evidence (it holds evidence.json) or a folder of several. Exit status: 0 everything verifies, 1 something
does not, 2 nothing could be read. This file imports nothing of the product; the product imports its functions, so that
what is written and what is verified follow one definition.

    evidence.json   canonical JSON (keys sorted by code point, no white space, UTF-8, no NaN) of one object whose
                    "format" is "intramuros-evidence/1"
    evidence.sig    64 raw bytes: Ed25519 over the bytes of evidence.json, by the key in its "public_key" (base64)
    attachments/    exactly the files that "attachments" lists, with their "size" and "sha256"

    digest          SHA-256 (hex) of the bytes of evidence.json
    chain           "sequence" counts 1, 2, 3 …; "previous" is null for the first, else {"id", "sha256"} of the evidence
                    before it, where sha256 is that one's digest

The signature alone can also be checked with openssl 3:

    openssl pkeyutl -verify -pubin -inkey evidence.pub -rawin -in evidence.json -sigfile evidence.sig

Promise: with the right public key, no evidence and no attachment was changed, and none was removed from the middle of
the chain, by anybody who lacks the signing key. Evidence missing at the end, and everything that somebody with root on
the box signs anew, is found only with a digest that was kept elsewhere: --expect.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
except ModuleNotFoundError:
    print("verify_evidence.py: the package cryptography is missing: apt install python3-cryptography", file=sys.stderr)
    raise SystemExit(2) from None

FORMAT = "intramuros-evidence/1"
DOCUMENT = "evidence.json"
SIGNATURE = "evidence.sig"
ATTACHMENTS = "attachments"
_CHUNK = 1 << 20
_FIELDS = {"id": str, "sequence": int, "collected_at": str, "public_key": str, "attachments": list, "controls": list}


class Unreadable(Exception):
    """There is no evidence here, or the key is not a key."""


class Broken(Exception):
    """The evidence is there and does not verify."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Checked:
    """One evidence that verified by itself."""

    id: str
    sequence: int
    digest: str
    """keep it elsewhere for --expect"""
    previous: str
    """digest of the one before; empty for the first"""
    public_key: str
    collected_at: str


@dataclass(frozen=True)
class Verdict:
    """What was found. When `ok` is false, `checked` holds what verified before the first problem."""

    ok: bool
    checked: tuple[Checked, ...]
    key_id: str
    key_pinned: bool
    """false when the key was only taken from the evidence itself"""
    complete: bool
    """the chain is there from its first evidence on"""
    code: str = ""
    problem: str = ""
    notes: tuple[str, ...] = field(default=())


# --- the rules; everything below only applies them -------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """Return the one accepted encoding of a JSON value. Raises ValueError for NaN and lone surrogates."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def digest(document: bytes) -> str:
    """Return the digest of an evidence, which is its name in the chain."""
    return hashlib.sha256(document).hexdigest()


def key_id(public_key: bytes) -> str:
    """Return the short name of a raw 32-byte public key."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def check_document(raw: bytes, signature: bytes, *, public_key: bytes | None) -> dict[str, Any]:
    """Return the content of an evidence whose form and signature are right. Raises Broken."""
    try:
        content = json.loads(raw)
        well_formed = canonical(content) == raw
    except (ValueError, RecursionError) as error:
        raise Broken("malformed", f"{DOCUMENT} is not JSON") from error
    if not isinstance(content, dict) or not well_formed:
        raise Broken("malformed", f"{DOCUMENT} is not an object in canonical JSON")
    if content.get("format") != FORMAT:
        raise Broken("format", f"the format is {content.get('format')!r}; this program reads {FORMAT!r}")
    _require(content)
    stated = _base64(content["public_key"])
    if public_key is not None and stated != public_key:
        raise Broken("key", f"it names key {key_id(stated)}, but key {key_id(public_key)} was expected")
    try:
        Ed25519PublicKey.from_public_bytes(stated).verify(signature, raw)
    except (InvalidSignature, ValueError) as error:
        raise Broken("signature", f"{SIGNATURE} is not a valid signature of {DOCUMENT}") from error
    return content


def check_link(earlier: Checked, later: Checked) -> None:
    """Require that `later` continues `earlier`. Raises Broken."""
    if later.sequence != earlier.sequence + 1:
        raise Broken("missing", f"after number {earlier.sequence} comes number {later.sequence}")
    if later.previous != earlier.digest:
        raise Broken("link", f"number {later.sequence} does not continue number {earlier.sequence}: one was replaced")


# --- verification ----------------------------------------------------------------------------------------------


def verify_folder(folder: Path, *, public_key: bytes | None = None) -> Checked:
    """Verify one evidence with its attachments. Raises Broken or Unreadable."""
    try:
        raw = (folder / DOCUMENT).read_bytes()
        signature = (folder / SIGNATURE).read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot read {error.filename}: {error.strerror}") from error
    content = check_document(raw, signature, public_key=public_key)
    _check_attachments(folder, content["attachments"])
    previous = content["previous"]
    return Checked(
        id=content["id"],
        sequence=content["sequence"],
        digest=digest(raw),
        previous="" if previous is None else previous["sha256"],
        public_key=content["public_key"],
        collected_at=content["collected_at"],
    )


def verify(paths: Sequence[Path], *, public_key: bytes | None = None, expect: str = "") -> Verdict:
    """Verify evidences one by one and, where there are several, their chain. Raises Unreadable."""
    folders = [folder for path in paths for folder in _folders(path)]
    if not folders:
        raise Unreadable(f"no {DOCUMENT} in {', '.join(str(path) for path in paths)}")
    pinned = public_key is not None
    checked: list[Checked] = []
    try:
        for folder in folders:
            one = verify_folder(folder, public_key=public_key)
            public_key = public_key if public_key is not None else _base64(one.public_key)
            checked.append(one)
        checked.sort(key=lambda each: each.sequence)
        for position in range(1, len(checked)):
            check_link(checked[position - 1], checked[position])
        if checked[0].sequence == 1 and checked[0].previous:
            raise Broken("link", "number 1 continues something")
        if expect and expect not in {each.digest for each in checked}:
            raise Broken("expected", f"no evidence has the digest {expect}: removed, or written anew")
    except Broken as broken:
        where = f"{folder.name}: " if len(checked) < len(folders) else ""
        return _verdict(checked, public_key, pinned=pinned, code=broken.code, problem=where + broken.message)
    return _verdict(checked, public_key, pinned=pinned)


def _verdict(
    checked: list[Checked], public_key: bytes | None, *, pinned: bool, code: str = "", problem: str = ""
) -> Verdict:
    return Verdict(
        ok=not code,
        checked=tuple(checked),
        key_id=key_id(public_key) if public_key is not None else "",
        key_pinned=pinned,
        complete=bool(checked) and checked[0].sequence == 1,
        code=code,
        problem=problem,
    )


def _folders(path: Path) -> list[Path]:
    try:
        if (path / DOCUMENT).is_file():
            return [path]
        return sorted(child for child in path.iterdir() if (child / DOCUMENT).is_file())
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from error


def _check_attachments(folder: Path, listed: list[Any]) -> None:
    names = {each["name"] for each in listed}
    place = folder / ATTACHMENTS
    there = {child.name for child in place.iterdir()} if place.is_dir() else set()
    if there - names:
        raise Broken("unlisted", f"the attachment {sorted(there - names)[0]} is not listed")
    for each in listed:
        path = place / each["name"]
        if path.is_symlink() or not path.is_file():
            raise Broken("attachment", f"the attachment {each['name']} is missing")
        if path.stat().st_size != each["size"] or _sha256(path) != each["sha256"]:
            raise Broken("attachment", f"the attachment {each['name']} was changed")


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            found.update(piece)
    return found.hexdigest()


def _require(content: dict[str, Any]) -> None:
    for field_name, kind in _FIELDS.items():
        if type(content.get(field_name)) is not kind:
            raise Broken("malformed", f"{field_name!r} is missing or not of type {kind.__name__}")
    previous = content.get("previous", "")
    if previous is not None and not (isinstance(previous, dict) and type(previous.get("sha256")) is str):
        raise Broken("malformed", "'previous' is neither null nor an evidence")
    for each in content["attachments"]:
        if not isinstance(each, dict) or type(each.get("size")) is not int or type(each.get("sha256")) is not str:
            raise Broken("malformed", "an attachment has no size or digest")
        name = each.get("name")
        if type(name) is not str or not name or "/" in name or name in {".", ".."} or "\0" in name:
            raise Broken("malformed", f"an attachment has the name {name!r}")


def _base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Broken("malformed", "the public key is not base64") from error
    if len(raw) != 32 or base64.b64encode(raw).decode("ascii") != text:
        raise Broken("malformed", "the public key is not 32 bytes in base64")
    return raw


# --- command line ----------------------------------------------------------------------------------------------


def read_public_key(argument: str) -> bytes:
    """Return the 32 raw bytes of a key given as a PEM file, a file with base64, or base64. Raises Unreadable."""
    path = Path(argument)
    try:
        content = path.read_bytes() if path.is_file() else argument.encode("utf-8")
    except OSError as error:
        raise Unreadable(f"cannot read {argument}: {error.strerror}") from error
    if b"-----BEGIN" not in content:
        try:
            return _base64(content.decode("utf-8", "replace").strip())
        except Broken as broken:
            raise Unreadable(broken.message) from broken
    try:
        key = load_pem_public_key(content)
    except ValueError as error:
        raise Unreadable(f"{argument} is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Unreadable(f"{argument} is not an Ed25519 key")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Verify Intramuros evidence.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="one evidence, or a folder of several")
    parser.add_argument("--public-key", metavar="KEY", help="the box's key: PEM file, or base64 of its 32 bytes")
    parser.add_argument("--expect", metavar="DIGEST", type=str.lower, default="", help="digest noted earlier")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    options = parser.parse_args(arguments)
    try:
        key = read_public_key(options.public_key) if options.public_key else None
        verdict = verify(options.folders, public_key=key, expect=options.expect)
    except Unreadable as error:
        if options.json:
            print(json.dumps({"ok": False, "code": "unreadable", "problem": str(error)}))
        else:
            print(f"UNREADABLE: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(verdict)) if options.json else describe(verdict))
    return 0 if verdict.ok else 1


def describe(verdict: Verdict) -> str:
    """Return the verdict as lines for a person."""
    if not verdict.ok:
        return f"BROKEN ({verdict.code}): {verdict.problem}\n  {len(verdict.checked)} evidences verified by themselves"
    last = verdict.checked[-1]
    lines = [
        f"OK: {len(verdict.checked)} evidences verify",
        f"  newest   {last.id}, number {last.sequence}, collected {last.collected_at}",
        f"  digest   {last.digest}",
        f"  key      {verdict.key_id}",
    ]
    if not verdict.complete:
        lines.append(f"  note     the chain starts at number {verdict.checked[0].sequence}; earlier ones are not here")
    if not verdict.key_pinned:
        lines.append(
            "  note     the key was taken from the evidence itself; compare it with the one you were given,\n"
            "           or pass it with --public-key"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

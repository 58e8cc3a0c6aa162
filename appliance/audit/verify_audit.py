#!/usr/bin/env python3
"""Verify an exported Intramuros audit trail, with nothing but Python 3.9+ and the `cryptography` package.

    python verify_audit.py trail.jsonl [--public-key KEY] [--after PREVIOUS_EXPORT] [--expect-head HASH] [--json]

Exit status: 0 the trail verifies, 1 it does not, 2 it could not be read. This file imports nothing of the product;
the product imports its functions, so that what is written and what is verified follow one definition.

The export is UTF-8, one canonical JSON object a line (keys sorted by code point, no white space, no escapes for
non-ASCII characters, no NaN):

    header      {"exported_at", "format": "intramuros-audit/1", "instance", "public_key": base64 of 32 bytes}
    event       {"action", "actor", "at", "detail", "hash", "phase", "prev", "seq", "target"}
    checkpoint  {"checkpoint": {"at", "hash", "key_id", "seq", "signature"}}, right after the event that it signs

    hash        SHA-256 (hex) of the canonical JSON of the event without "hash"; "seq" counts 1, 2, 3 …
    prev        "hash" of the event before; for the first event SHA-256 (hex) of the instance id in UTF-8
    key_id      first 16 hexadecimal digits of the SHA-256 of the 32-byte public key
    signature   base64 of Ed25519 over the canonical JSON of {"at", "hash", "instance", "seq"} of the checkpoint

Promise: with the right public key, no event up to the last checkpoint was changed, removed, inserted or moved by
anybody who lacks the signing key. Events after it are chained but not signed: whoever can write the database can
rewrite or drop them, and can drop checkpoints at the end. --after and --expect-head catch that, and they alone
catch somebody who holds the signing key. The header's "exported_at" is information, not evidence.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

FORMAT = "intramuros-audit/1"
_HEADER = {"exported_at": str, "format": str, "instance": str, "public_key": str}
_EVENT = {
    "action": str,
    "actor": str,
    "at": str,
    "detail": dict,
    "hash": str,
    "phase": str,
    "prev": str,
    "seq": int,
    "target": str,
}
_CHECKPOINT = {"at": str, "hash": str, "key_id": str, "seq": int, "signature": str}


class UnreadableTrail(Exception):
    """The input is not an export of this format at all, or the key is not a key."""


class BrokenTrail(Exception):
    """The export is readable and its content does not verify."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Verdict:
    """What was found. When `ok` is false the counts cover what verified before the first problem."""

    ok: bool
    instance: str
    public_key: str
    """base64 of the 32 bytes that the signatures were checked with"""
    key_id: str
    key_pinned: bool
    """false when the key was only taken from the export itself"""
    events: int
    checkpoints: int
    head: str
    """hash of the last event, which also is its position in the chain: keep it for --expect-head"""
    head_seq: int
    signed_seq: int
    """last event covered by a signature; 0 when there is none"""
    unsigned: int
    """events after it"""
    code: str = ""
    problem: str = ""


# --- the rules; everything below only applies them -------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """Return the one accepted encoding of a JSON value. Raises ValueError for NaN and lone surrogates."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def genesis_hash(instance: str) -> str:
    """Return the `prev` of the first event."""
    return hashlib.sha256(instance.encode("utf-8")).hexdigest()


def event_hash(event: dict[str, Any]) -> str:
    """Return the hash that an event must carry; its own "hash" is left out of the computation."""
    return hashlib.sha256(canonical({key: event[key] for key in event if key != "hash"})).hexdigest()


def checkpoint_message(*, instance: str, seq: int, hash: str, at: str) -> bytes:
    """Return the bytes that a checkpoint signs."""
    return canonical({"instance": instance, "seq": seq, "hash": hash, "at": at})


def key_id(public_key: bytes) -> str:
    """Return the short name of a raw 32-byte public key."""
    return hashlib.sha256(public_key).hexdigest()[:16]


# --- verification ----------------------------------------------------------------------------------------------


def verify_lines(
    lines: Iterable[str],
    *,
    public_key: bytes | None = None,
    after: Verdict | None = None,
    expect_head: str | None = None,
) -> Verdict:
    """Verify an export given line by line, in constant memory, up to its first problem.

    `public_key` (32 raw bytes) pins the signer; `after` is the verdict on an earlier export, which this one must
    continue; `expect_head` is a hash noted earlier, which must occur. Raises UnreadableTrail.
    """
    numbered = enumerate(lines, 1)
    header = _header(next(numbered, (1, ""))[1])
    trail = _Trail(header, public_key=public_key, after=after, expect_head=expect_head)
    try:
        trail.check_header()
        for number, line in numbered:
            try:
                trail.take(line)
            except BrokenTrail as broken:
                raise BrokenTrail(broken.code, f"line {number}: {broken.message}") from broken
        trail.check_end()
    except BrokenTrail as broken:
        return trail.verdict(code=broken.code, problem=broken.message)
    return trail.verdict()


class _Trail:
    """Position in the chain while the lines go by."""

    def __init__(
        self, header: dict[str, Any], *, public_key: bytes | None, after: Verdict | None, expect_head: str | None
    ) -> None:
        self.instance: str = header["instance"]
        self.stated_key = _base64(header["public_key"], length=32)
        pinned = public_key
        if pinned is None and after is not None:
            pinned = base64.b64decode(after.public_key)
        self.key_pinned = pinned is not None
        self.key = self.stated_key if pinned is None else pinned
        self.after = after
        self.expect_head = expect_head
        self.seq = 0
        self.hash = genesis_hash(self.instance)
        self.signed_seq = 0
        self.checkpoints = 0
        self.head_met = expect_head in (None, self.hash)

    def check_header(self) -> None:
        if self.stated_key != self.key:
            raise BrokenTrail(
                "key", f"the trail names key {key_id(self.stated_key)}, but key {key_id(self.key)} was expected"
            )
        if self.after is not None and not self.after.ok:
            raise BrokenTrail("previous", f"the previous export does not verify: {self.after.problem}")
        if self.after is not None and self.after.instance != self.instance:
            raise BrokenTrail("instance", f"the previous export is of another instance, {self.after.instance}")

    def take(self, line: str) -> None:
        document = _canonical_object(line)
        if document.keys() == {"checkpoint"}:
            self._take_checkpoint(document["checkpoint"])
        else:
            self._take_event(document)

    def _take_event(self, event: Any) -> None:
        _require(event, _EVENT, what="an event")
        seq = event["seq"]
        if seq != self.seq + 1:
            raise BrokenTrail("order", _order_problem(expected=self.seq + 1, found=seq))
        if event["prev"] != self.hash:
            raise BrokenTrail("link", f"event {seq} does not continue the event before it")
        if event["hash"] != event_hash(event):
            raise BrokenTrail("changed", f"event {seq} was changed: its content does not match its hash")
        if self.after is not None and seq == self.after.head_seq and event["hash"] != self.after.head:
            raise BrokenTrail("forked", f"event {seq} differs from the previous export: history was rewritten")
        self.seq, self.hash = seq, event["hash"]
        self.head_met = self.head_met or self.hash == self.expect_head

    def _take_checkpoint(self, checkpoint: Any) -> None:
        _require(checkpoint, _CHECKPOINT, what="a checkpoint")
        seq = checkpoint["seq"]
        if seq > self.seq:
            raise BrokenTrail("missing", f"a checkpoint signs event {seq}, but the trail stops at event {self.seq}")
        if seq < self.seq:
            raise BrokenTrail("order", f"the checkpoint of event {seq} stands after event {self.seq}")
        if checkpoint["hash"] != self.hash:
            raise BrokenTrail("rewritten", f"the checkpoint of event {seq} signs another history")
        if checkpoint["key_id"] != key_id(self.key):
            raise BrokenTrail("key", f"the checkpoint of event {seq} names key {checkpoint['key_id']!r}")
        message = checkpoint_message(instance=self.instance, seq=seq, hash=self.hash, at=checkpoint["at"])
        try:
            signature = _base64(checkpoint["signature"], length=64)
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, message)
        except (InvalidSignature, UnreadableTrail) as error:
            raise BrokenTrail("signature", f"the signature of the checkpoint of event {seq} is not valid") from error
        self.signed_seq = seq
        self.checkpoints += 1

    def check_end(self) -> None:
        if self.after is not None and self.seq < self.after.head_seq:
            raise BrokenTrail(
                "shorter", f"the trail stops at event {self.seq}; the previous export had {self.after.head_seq}"
            )
        if not self.head_met:
            raise BrokenTrail("head", f"the expected head {self.expect_head} does not occur: cut off or rewritten")

    def verdict(self, *, code: str = "", problem: str = "") -> Verdict:
        return Verdict(
            ok=not code,
            instance=self.instance,
            public_key=base64.b64encode(self.key).decode("ascii"),
            key_id=key_id(self.key),
            key_pinned=self.key_pinned,
            events=self.seq,
            checkpoints=self.checkpoints,
            head=self.hash,
            head_seq=self.seq,
            signed_seq=self.signed_seq,
            unsigned=self.seq - self.signed_seq,
            code=code,
            problem=problem,
        )


def _order_problem(*, expected: int, found: int) -> str:
    if found < expected:
        return f"event {found} occurs again or out of order (expected event {expected})"
    missing = f"event {expected} is" if found == expected + 1 else f"events {expected} to {found - 1} are"
    return f"{missing} missing before event {found}"


def _header(line: str) -> dict[str, Any]:
    try:
        header = _canonical_object(line)
        _require(header, _HEADER, what="a header")
    except BrokenTrail as broken:
        raise UnreadableTrail(f"line 1 is not the header of an audit export: {broken.message}") from broken
    if header["format"] != FORMAT:
        raise UnreadableTrail(f"the format is {header['format']!r}; this program reads {FORMAT!r}")
    return header


def _canonical_object(line: str) -> dict[str, Any]:
    """Parse one line. Demanding canonical bytes rules out double keys and every second spelling of a value."""
    text = line.rstrip("\r\n")
    try:
        document = json.loads(text)
        if isinstance(document, dict) and canonical(document) == text.encode("utf-8"):
            return document
    except (ValueError, RecursionError) as error:
        raise BrokenTrail("malformed", "not a line of JSON") from error
    raise BrokenTrail("malformed", "not an object in canonical JSON")


def _require(document: Any, fields: Mapping[str, type], *, what: str) -> None:
    if not isinstance(document, dict) or document.keys() != fields.keys():
        raise BrokenTrail("malformed", f"not the fields of {what}")
    for name, kind in fields.items():
        if type(document[name]) is not kind:
            raise BrokenTrail("malformed", f"{name!r} of {what} is not of type {kind.__name__}")


def _base64(text: str, *, length: int) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableTrail(f"not base64: {text[:60]!r}") from error
    if len(raw) != length or base64.b64encode(raw).decode("ascii") != text:
        raise UnreadableTrail(f"not {length} bytes in base64: {text[:60]!r}")
    return raw


# --- command line ----------------------------------------------------------------------------------------------


def read_public_key(argument: str) -> bytes:
    """Return the 32 raw bytes of a key given as a PEM file, a file with base64, or base64. Raises UnreadableTrail."""
    path = Path(argument)
    try:
        content = path.read_bytes() if path.is_file() else argument.encode("utf-8")
    except OSError as error:
        raise UnreadableTrail(f"cannot read {argument}: {error.strerror}") from error
    if b"-----BEGIN" not in content:
        return _base64(content.decode("utf-8", "replace").strip(), length=32)
    try:
        key = load_pem_public_key(content)
    except ValueError as error:
        raise UnreadableTrail(f"{argument} is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UnreadableTrail(f"{argument} is not an Ed25519 key")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def verify_file(
    path: Path, *, public_key: bytes | None = None, after: Verdict | None = None, expect_head: str | None = None
) -> Verdict:
    """Verify an export in a file. Raises UnreadableTrail."""
    try:
        # Bytes that are not UTF-8 become lone surrogates, which no canonical line contains.
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            return verify_lines(lines, public_key=public_key, after=after, expect_head=expect_head)
    except OSError as error:
        raise UnreadableTrail(f"cannot read {path}: {error.strerror}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Verify an exported Intramuros audit trail.")
    parser.add_argument("trail", type=Path, help="export to verify (JSON lines)")
    parser.add_argument("--public-key", metavar="KEY", help="signer's key: PEM file, or base64 of its 32 bytes")
    parser.add_argument("--after", type=Path, metavar="EXPORT", help="earlier export that this one must continue")
    parser.add_argument(
        "--expect-head", metavar="HASH", type=str.lower, help="head noted earlier, which must occur in the trail"
    )
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    options = parser.parse_args(arguments)
    try:
        key = read_public_key(options.public_key) if options.public_key else None
        after = verify_file(options.after, public_key=key) if options.after else None
        verdict = verify_file(options.trail, public_key=key, after=after, expect_head=options.expect_head)
    except UnreadableTrail as error:
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
        return (
            f"BROKEN ({verdict.code}): {verdict.problem}\n"
            f"  before that, {verdict.events} events verified, {verdict.signed_seq} of them signed"
        )
    lines = [
        f"OK: the trail of instance {verdict.instance} verifies",
        f"  events       {verdict.events}",
        f"  checkpoints  {verdict.checkpoints}, the last one signs events 1 to {verdict.signed_seq}"
        if verdict.signed_seq
        else f"  checkpoints  {verdict.checkpoints}: no event is signed",
        f"  unsigned     {verdict.unsigned} after the last checkpoint: chained, not signed",
        f"  head         {verdict.head}",
        f"  key          {verdict.key_id}",
    ]
    if not verdict.key_pinned:
        lines.append(
            "  note         the key was taken from the export itself; compare it with the one you were given,\n"
            "               or pass it with --public-key"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

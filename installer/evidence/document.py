"""The evidence of one collection as it is written, signed and read again: `intramuros-evidence/1`.

Every field is fixed; an unknown one is refused. What reads it (reports, OSCAL, the console) reads these types.
"""

from __future__ import annotations

import msgspec

from installer.evidence.control import Status

FORMAT = "intramuros-evidence/1"


class WaiverNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The waiver that a control was shown under."""

    reason: str
    owner: str
    expiry: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One control as it was found."""

    id: str
    title: str
    role: str
    cis: tuple[str, ...]
    anssi: tuple[str, ...]
    ssg: tuple[str, ...]
    status: Status
    expected: str
    observed: str
    source: str
    """the command that shows the value"""
    reason: str = ""
    """why it does not apply, or could not be told"""
    waiver: WaiverNote | None = None


class Attachment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A raw file beside the evidence."""

    name: str
    sha256: str
    size: int
    media_type: str
    description: str


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which machine this is."""

    name: str
    machine_id: str
    """SHA-256 of /etc/machine-id, which itself is confidential by machine-id(5)"""
    system: str
    kernel: str
    architecture: str
    virtualization: str
    boot: str


class Product(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What collected, and from which bundle the box was installed."""

    version: str
    bundle: str = ""
    receipt_sha256: str = ""


class RuleResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OpenSCAP's verdict on one rule."""

    rule: str
    title: str
    result: str
    waiver: WaiverNote | None = None


class ProfileResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OpenSCAP's verdict on one profile."""

    profile: str
    content: str
    """datastream and version"""
    scanner: str
    scanned_at: str
    results: tuple[RuleResult, ...]


class Disagreement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A control and a rule of the datastream for the same, with different verdicts."""

    control: str
    ours: str
    rule: str
    theirs: str
    explanation: str


class Suggestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suggestion of Lynis with our answer."""

    test: str
    text: str
    answer: str


class LynisResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lynis's second opinion."""

    version: str
    scanned_at: str
    hardening_index: int
    tests: int
    warnings: tuple[str, ...]
    suggestions: tuple[Suggestion, ...]


class Referees(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What scanners that are not ours said, last time they ran."""

    openscap: tuple[ProfileResult, ...] = ()
    lynis: LynisResult | None = None
    disagreements: tuple[Disagreement, ...] = ()


class Previous(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The evidence before this one."""

    id: str
    sha256: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One collection."""

    format: str
    id: str
    """time of the collection as the clock showed it, also the folder's name"""
    sequence: int
    """1, 2, 3 …: the order, whatever the clock showed"""
    collected_at: str
    label: str
    profile: str
    host: Host
    product: Product
    catalogue_sha256: str
    rules_source: str
    controls: tuple[Verdict, ...]
    expired_waivers: tuple[str, ...]
    referees: Referees
    attachments: tuple[Attachment, ...]
    previous: Previous | None
    public_key: str

    def counts(self) -> dict[str, int]:
        """Return how many controls have each status."""
        return {str(status): sum(each.status is status for each in self.controls) for status in Status}

    def score(self) -> float:
        """Return the share of passes among the controls that apply, in per cent; waived ones do not count as passes."""
        applying = [each for each in self.controls if each.status is not Status.NOT_APPLICABLE]
        passed = sum(each.status is Status.PASS for each in applying)
        return round(100 * passed / len(applying), 1) if applying else 0.0

"""One collection: judge every control, put the raw answers beside, sign, chain, publish.

Reads the box and writes one new folder in the archive. A collection whose disk is full or that is killed leaves nothing
behind that counts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from appliance.kernel.canonical import sha256_hex
from appliance.kernel.clock import to_text
from appliance.kernel.errors import BadInput
from installer.evidence import signing_key
from installer.evidence.archive import Archive, described
from installer.evidence.catalogue import Catalogue, RuleTable
from installer.evidence.control import Profile
from installer.evidence.document import FORMAT, Attachment, Evidence, Host, Product, Referees, Verdict
from installer.evidence.drift import drift, since_installation
from installer.evidence.judge import judge, note
from installer.evidence.machine import CannotTell, Machine
from installer.evidence.referees.compare import disagreements
from installer.evidence.scan import Scan
from installer.evidence.signing_key import load_or_create_key
from installer.evidence.waivers import Waivers, load_waivers

ANSWERS = Path("/etc/intramuros/answers.toml")
RECEIPTS = Path("/var/lib/intramuros/receipts")
_RAW = {
    "nft-ruleset.json": (("nft", "-j", "list", "ruleset"), "application/json", "the firewall as the kernel has it"),
    "sshd.txt": (("sshd", "-T", "-C", "user=root,host=localhost,addr=127.0.0.1"), "text/plain", "sshd's own settings"),
    "sysctl.txt": (("sysctl", "-a"), "text/plain", "the kernel's parameters"),
    "audit-rules.txt": (("auditctl", "-l"), "text/plain", "rules that the kernel's audit has loaded"),
    "listeners.txt": (("ss", "-H", "-t", "-u", "-l", "-n", "-p"), "text/plain", "who listens"),
    "units.json": (("systemd-analyze", "security", "--json=short", "--no-pager"), "application/json", "exposure"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the box keeps what a collection needs; tests have their own."""

    key: Path = signing_key.PATH
    waivers: Path = Path("/etc/intramuros/waivers.toml")
    answers: Path = ANSWERS
    receipts: Path = RECEIPTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection wrote."""

    evidence: Evidence
    folder: Path
    digest: str
    key_created: bool
    public_pem: str
    newly_failing: tuple[str, ...]
    """drift against the evidence before this one alone"""
    drifted: tuple[str, ...]
    """drift against every evidence since the installation: drift.py"""


def collect(
    archive: Archive,
    machine: Machine,
    *,
    catalogue: Catalogue,
    rules: RuleTable,
    now: datetime,
    places: Places,
    profile: Profile | None = None,
    label: str = "",
    scan: Scan | None = None,
    on_control: Callable[[Verdict, int, int], None] = lambda verdict, done, total: None,
) -> Collected:
    """Collect once. Raises BadInput (waivers), Conflict (another collection), StorageFailure."""
    chosen = profile or declared_profile(places.answers)
    waivers = load_waivers(places.waivers, today=now.date(), known=known_names(catalogue, rules))
    with archive.collecting():
        key, created = load_or_create_key(places.key)
        verdicts: list[Verdict] = []
        for control in catalogue.controls:
            verdicts.append(judge(control, machine, profile=chosen, waivers=waivers))
            on_control(verdicts[-1], len(verdicts), len(catalogue.controls))
        raw, described_raw = _attachments(machine, scan)
        previous, sequence = archive.previous()
        evidence = Evidence(
            format=FORMAT,
            id=now.strftime("%Y%m%dT%H%M%SZ"),
            sequence=sequence,
            collected_at=to_text(now),
            label=label,
            profile=str(chosen),
            host=host_facts(machine),
            product=_product(places.receipts),
            catalogue_sha256=catalogue.digest,
            rules_source=rules.source,
            controls=tuple(verdicts),
            expired_waivers=tuple(f"{each.control} (until {each.expiry})" for each in waivers.expired),
            referees=_referees(verdicts, scan, waivers),
            attachments=tuple(described_raw),
            previous=previous,
            public_key=key.public_base64,
        )
        folder = archive.publish(evidence, raw, key)
        earlier = archive.before(evidence.id)
    return Collected(
        evidence=evidence,
        folder=folder,
        digest=archive.digest_of(evidence.id),
        key_created=created,
        public_pem=key.public_pem,
        newly_failing=drift(earlier[-1:], evidence),
        drifted=drift(since_installation(earlier), evidence),
    )


def known_names(catalogue: Catalogue, rules: RuleTable) -> frozenset[str]:
    """Return what a waiver may name."""
    return frozenset({each.id for each in catalogue.controls} | set(rules.rules))


def declared_profile(answers: Path) -> Profile:
    """Return the profile that this box was installed with; baseline where it was not."""
    try:
        return Profile(tomllib.loads(answers.read_text(encoding="utf-8")).get("profile", "baseline"))
    except FileNotFoundError:
        return Profile.BASELINE
    except (OSError, ValueError) as error:
        raise BadInput(
            "evidence.answers", f"{answers} does not name a profile: {error}.", hint="Pass --profile."
        ) from error


def host_facts(machine: Machine) -> Host:
    """Name the machine."""

    def said(*argv: str) -> str:
        try:
            return machine.run(*argv).stdout.strip()
        except CannotTell:
            return ""

    release = dict(
        line.split("=", 1) for line in (machine.read("/etc/os-release") or "").splitlines() if line.count("=") == 1
    )
    return Host(
        name=said("uname", "-n"),
        machine_id=sha256_hex((machine.read("/etc/machine-id") or "").strip().encode()),
        system=release.get("PRETTY_NAME", "").strip('"'),
        kernel=said("uname", "-r"),
        architecture=said("uname", "-m"),
        virtualization=said("systemd-detect-virt") or "none",
        boot=(machine.read("/proc/sys/kernel/random/boot_id") or "").strip(),
    )


def _product(receipts: Path) -> Product:
    """Name the product, and the newest bundle that was accepted on this box."""
    try:
        installed = version("intramuros-appliance")
    except PackageNotFoundError:
        installed = "unknown"
    accepted = sorted(receipts.glob("*-accepted.json"))
    if not accepted:
        return Product(version=installed)
    try:
        data = accepted[-1].read_bytes()
        content = msgspec.json.decode(data, type=dict[str, object])
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput("evidence.receipt", f"The receipt {accepted[-1]} cannot be read: {error}.") from error
    bundle = f"{content.get('version', '')} number {content.get('sequence', '')}"
    return Product(version=installed, bundle=bundle, receipt_sha256=sha256_hex(data))


def _attachments(machine: Machine, scan: Scan | None) -> tuple[dict[str, bytes], list[Attachment]]:
    """Return raw answers and the scanners' files; a program that is not there leaves no attachment."""
    raw: dict[str, bytes] = {}
    listed: list[Attachment] = []
    for name, (argv, media_type, description) in _RAW.items():
        try:
            answer = machine.run(*argv)
        except CannotTell:
            continue
        if answer.status == 0 and answer.stdout:
            raw[name] = answer.stdout.encode()
            listed.append(described(name, raw[name], media_type=media_type, description=description))
    for name, data in (scan.files if scan else {}).items():
        raw[name] = data
        media_type = "application/gzip" if name.endswith(".gz") else "text/plain"
        listed.append(described(name, data, media_type=media_type, description="what the scanner wrote"))
    return raw, sorted(listed, key=lambda each: each.name)


def _referees(verdicts: list[Verdict], scan: Scan | None, waivers: Waivers) -> Referees:
    if scan is None:
        return Referees()
    profiles = tuple(
        msgspec.structs.replace(
            profile,
            results=tuple(
                msgspec.structs.replace(each, waiver=note(found))
                if each.result == "fail" and (found := waivers.of(each.rule))
                else each
                for each in profile.results
            ),
        )
        for profile in scan.openscap
    )
    return Referees(openscap=profiles, lynis=scan.lynis, disagreements=disagreements(verdicts, profiles))

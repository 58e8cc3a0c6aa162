"""`intramuros bundle …`: collect, build, verify, inspect and join an offline bundle, and keep its keys."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance.kernel.clock import utc_now
from appliance.kernel.errors import BadInput
from appliance.kernel.terminal import harmless, size_text, table
from installer.bundle.progress import Amount, Report
from installer.bundle.trust_store import FOLDER as TRUST_FOLDER

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_PATH = click.Path(path_type=Path)
_PASSPHRASE = click.option(
    "--passphrase-file", required=True, type=_PATH, help="Private file (mode 0600) with the keys' passphrase."
)
_TRUST = click.option("--trust", type=_PATH, default=TRUST_FOLDER, help="The machine's trust store.")


@click.group()
def bundle() -> None:
    """Collect, build, verify and inspect offline bundles."""


@bundle.command()
@click.argument("folder", type=_PATH)
@click.option("--checkout", type=_PATH, default=Path(), help="The product's source tree (default: here).")
@click.option("--model", "models", multiple=True, metavar="NAME=FILE.gguf", help="A model to bring along.")
@click.option("--package", "packages", multiple=True, type=_PATH, help="A Debian package file to bring along.")
@click.option(
    "--gpu",
    "gpus",
    multiple=True,
    type=click.Choice(["vulkan", "cuda"]),
    help="A GPU backend to bring along.",
)
@click.option("--apt-sources", type=_PATH, help="Sources of Debian 12 (deb822) instead of this machine's own.")
@click.option("--if-changed", is_flag=True, help="Do nothing when the folder holds what would be collected.")
@_JSON
def collect(
    folder: Path,
    checkout: Path,
    models: tuple[str, ...],
    packages: tuple[Path, ...],
    gpus: tuple[str, ...],
    apt_sources: Path | None,
    if_changed: bool,
    as_json: bool,
) -> None:
    """Fetch everything a bundle is built from into FOLDER. The one step that needs a network."""
    from installer.bundle import apt
    from installer.bundle.collect import Request, is_current
    from installer.bundle.collect import collect as fill
    from installer.bundle.inputs import read_inputs, tree_of

    request = Request(
        checkout=checkout.absolute(),
        apt_sources=apt_sources.read_text() if apt_sources else apt.own_sources(),
        models=dict(_named_file(text) for text in models),
        given_packages=packages,
        gpus=tuple(sorted(set(gpus))),
        now=utc_now().replace(microsecond=0),
    )
    current = if_changed and is_current(folder, request)
    inputs = read_inputs(folder) if current else fill(folder, request, say=_step())
    size = sum((tree_of(folder) / path).stat().st_size for path in inputs.files)
    _show(
        {"folder": str(folder), "collected": not current, "files": len(inputs.files), "bytes": size},
        f"{folder}: {len(inputs.files)} files, {size_text(size)}"
        + (", nothing has changed" if current else f", collected {inputs.collected}"),
        as_json=as_json,
    )


@bundle.command()
@click.option("--inputs", "inputs_folder", required=True, type=_PATH, help="What `bundle collect` filled.")
@click.option("--keys", "keys_folder", required=True, type=_PATH, help="The publisher's keys.")
@click.option("--out", required=True, type=_PATH, help="The new folder of the bundle.")
@click.option(
    "--date", "date_text", help="Date of the bundle, RFC 3339 (default: SOURCE_DATE_EPOCH, the collection's)."
)
@click.option("--sequence", type=click.IntRange(min=1), help="Number of the bundle (default: its date, YYYYMMDDhhmm).")
@click.option("--channel", default="stable", show_default=True, help="Channel named in the manifest.")
@click.option("--min-from-version", default="0.1.0", show_default=True, help="Oldest version this updates.")
@click.option("--part-size", help="Cut models into parts of at most this size, such as 4G or 3900M.")
@click.option("--skip-closure-proof", is_flag=True, help="Do not ask apt whether the packages are complete.")
@_PASSPHRASE
@_JSON
def build(
    inputs_folder: Path,
    keys_folder: Path,
    out: Path,
    date_text: str | None,
    sequence: int | None,
    channel: str,
    min_from_version: str,
    part_size: str | None,
    skip_closure_proof: bool,
    passphrase_file: Path,
    as_json: bool,
) -> None:
    """Make a bundle. The same inputs, keys and date give the same bytes."""
    from installer.bundle.build import Settings
    from installer.bundle.build import build as make
    from installer.bundle.closure import prove_closure
    from installer.bundle.inputs import read_inputs
    from installer.bundle.keys import KeyFolder, read_passphrase

    inputs = read_inputs(inputs_folder)
    built = _date(date_text, inputs.collected_at)
    settings = Settings(
        built=built,
        sequence=sequence or int(built.strftime("%Y%m%d%H%M")),
        channel=channel,
        min_from_version=min_from_version,
        part_size=_size(part_size) if part_size else None,
    )
    made = make(
        inputs_folder,
        KeyFolder(keys_folder),
        read_passphrase(passphrase_file),
        out,
        settings,
        prove=None if skip_closure_proof else prove_closure,
        report=_reporter(),
    )
    manifest = made.manifest
    _show(
        {
            "bundle": str(out),
            "version": manifest.version,
            "sequence": manifest.sequence,
            "files": len(manifest.files),
            "bytes": manifest.total_size,
            "manifest_sha256": made.manifest_digest,
            "publisher": manifest.publisher,
            "closure": made.packages,
        },
        f"{out}: version {manifest.version}, number {manifest.sequence}, {len(manifest.files)} files,"
        f" {size_text(manifest.total_size)}\nmanifest {made.manifest_digest}\npublisher {_grouped(manifest.publisher)}"
        + ("" if made.packages is None else f"\nan empty machine installs {made.packages} packages from it alone"),
        as_json=as_json,
    )


@bundle.command()
@click.argument("folder", type=_PATH)
@click.option("--root-fingerprint", default="", help="Trust the root metadata with this SHA-256, from paper.")
@click.option("--receipts", type=_PATH, help="Where the receipt goes (default: /var/lib/intramuros/receipts).")
@click.option("--no-remember", is_flag=True, help="Write nothing: no receipt, no memory of the newest bundle.")
@_TRUST
@_JSON
def verify(
    folder: Path, root_fingerprint: str, receipts: Path | None, no_remember: bool, trust: Path, as_json: bool
) -> None:
    """Check every byte of a bundle before anything of it is used."""
    from installer.bundle.receipts import FOLDER
    from installer.bundle.trust_store import TrustStore
    from installer.bundle.verify import Policy, verify_bundle

    policy = Policy(
        trust=TrustStore(trust),
        receipts=receipts or FOLDER,
        root_fingerprint=root_fingerprint,
        remember=not no_remember,
    )
    found = verify_bundle(folder, policy, report=_reporter())
    _show(
        {
            "bundle": str(found.root),
            "version": found.version,
            "sequence": found.sequence,
            "built": found.manifest.built,
            "files": len(found.manifest.files),
            "bytes": found.manifest.total_size,
            "manifest_sha256": found.manifest_digest,
            "receipt": str(found.receipt or ""),
        },
        f"{found.root} is whole and signed: version {found.version}, number {found.sequence},"
        f" built {found.manifest.built}, {len(found.manifest.files)} files, {size_text(found.manifest.total_size)}"
        + (f"\nreceipt {found.receipt}" if found.receipt else ""),
        as_json=as_json,
    )


@bundle.command()
@click.argument("folder", type=_PATH)
@click.option("--files", "list_files", is_flag=True, help="List every file with its size and origin.")
@_JSON
def inspect(folder: Path, list_files: bool, as_json: bool) -> None:
    """Show what a bundle says it holds. Nothing is verified by this."""
    from installer.bundle.inventory import describe, read_manifest, summary

    manifest = read_manifest(folder)
    if as_json:
        click.echo(msgspec.json.encode(manifest if list_files else describe(manifest)).decode())
        return
    click.echo(harmless(summary(manifest, list_files=list_files)))


@bundle.command()
@click.argument("folder", type=_PATH)
@click.argument("out", type=_PATH)
@_TRUST
@_JSON
def join(folder: Path, out: Path, trust: Path, as_json: bool) -> None:
    """Copy a verified bundle to the new folder OUT, its parts put together."""
    from installer.bundle.joining import join_bundle
    from installer.bundle.trust_store import TrustStore

    joined = join_bundle(folder, out, TrustStore(trust), report=_reporter())
    _show({"bundle": str(out), "joined": joined}, f"{out}: {len(joined)} files were put together", as_json=as_json)


@bundle.group()
def keys() -> None:
    """Make and rotate the publisher's keys."""


@keys.command()
@click.argument("folder", type=_PATH)
@_PASSPHRASE
@_JSON
def init(folder: Path, passphrase_file: Path, as_json: bool) -> None:
    """Make three root keys, a release key and an OpenPGP key in the new folder."""
    from installer.bundle.ceremony import make_keys
    from installer.bundle.keys import read_passphrase

    _show_identity(make_keys(folder, read_passphrase(passphrase_file), now=utc_now()), folder, as_json=as_json)


@keys.command()
@click.argument("folder", type=_PATH)
@_JSON
def show(folder: Path, as_json: bool) -> None:
    """Show the fingerprints that people compare."""
    from installer.bundle.ceremony import identity
    from installer.bundle.keys import KeyFolder

    _show_identity(identity(KeyFolder(folder)), folder, as_json=as_json)


@keys.command()
@click.argument("folder", type=_PATH)
@click.option("--replace", multiple=True, metavar="NAME", help="Key to replace: root1, root2, root3, release.")
@click.option("--root-key", "elsewhere", multiple=True, type=_PATH, help="A root key on another medium.")
@_PASSPHRASE
@_JSON
def rotate(
    folder: Path, replace: tuple[str, ...], elsewhere: tuple[Path, ...], passphrase_file: Path, as_json: bool
) -> None:
    """Write the next root metadata, with new keys or only a later expiry. Two present root keys must sign."""
    from installer.bundle.ceremony import rotate as turn
    from installer.bundle.keys import KeyFolder, read_passphrase

    passphrase = read_passphrase(passphrase_file)
    found = turn(KeyFolder(folder), passphrase, replace=replace, elsewhere=elsewhere, now=utc_now())
    _show_identity(found, folder, as_json=as_json)


def _show_identity(found: Any, folder: Path, *, as_json: bool) -> None:
    rows = [
        ("publisher, for install.sh --fingerprint", _grouped(found.publisher)),
        (f"root version {found.root_version}, for verify --root-fingerprint", found.root_fingerprint),
        ("root expires", f"{found.expires:%Y-%m-%d}"),
    ]
    document = {
        "folder": str(folder),
        "publisher": found.publisher,
        "root_version": found.root_version,
        "root_fingerprint": found.root_fingerprint,
        "root_expires": found.expires.isoformat(),
    }
    _show(document, table(("WHAT", "VALUE"), rows, empty=""), as_json=as_json)


def _named_file(text: str) -> tuple[str, Path]:
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        raise BadInput("bundle.model", f"{text!r} is not of the form NAME=FILE.gguf.")
    if not Path(file).is_file():
        raise BadInput("bundle.model", f"There is no file {file}.")
    return name, Path(file)


def _date(text: str | None, collected: datetime) -> datetime:
    try:
        if text:
            found = datetime.fromisoformat(text)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        return datetime.fromtimestamp(int(epoch), UTC) if epoch else collected
    except (ValueError, OverflowError) as error:
        raise BadInput("bundle.date", f"The date of the bundle cannot be read: {error}.") from error


_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(text: str) -> int:
    number, unit = (text[:-1], _UNITS[text[-1].upper()]) if text[-1:].upper() in _UNITS else (text, 1)
    if not number.isdecimal():
        raise BadInput("bundle.part_size", f"{text!r} is not a size such as 3900M.")
    # 4G would be one byte more than FAT can hold.
    return min(int(number) * unit, (1 << 32) - 1) if unit > 1 and int(number) * unit == 1 << 32 else int(number) * unit


def _grouped(fingerprint: str) -> str:
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


def _step() -> Callable[[str], None]:
    begun = time.monotonic()

    def say(what: str) -> None:
        click.echo(harmless(f"[{time.monotonic() - begun:4.0f} s] {what}"), err=True)

    return say


def _reporter(stream: Any = None, clock: Callable[[], float] = time.monotonic) -> Report:
    """Return a report for people: one line that is rewritten on a terminal, a line every five seconds elsewhere."""
    out = stream if stream is not None else sys.stderr
    live = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    said = clock()

    def report(amount: Amount) -> None:
        nonlocal said
        finished = amount.files == amount.files_total
        if not live and not finished and clock() - said < 5:
            return
        said = clock()
        left = "" if amount.seconds_left is None or finished else f", {amount.seconds_left:.0f} s left"
        text = (
            f"{amount.what}: {amount.files} of {amount.files_total} files,"
            f" {size_text(amount.size)} of {size_text(amount.size_total)}{left}"
        )
        width = shutil.get_terminal_size().columns - 1
        out.write(f"\r\x1b[K{text[:width]}" + ("\n" if finished else "") if live else f"{text}\n")
        out.flush()

    return report


def _show(document: Any, text: str, *, as_json: bool) -> None:
    click.echo(msgspec.json.encode(document).decode() if as_json else harmless(text))

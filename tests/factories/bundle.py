"""Real bundles, only tiny: packages made by dpkg-deb, wheels of a few bytes, keys of a real publisher.

Everything goes through the product's own build; only the content is small.
"""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.kernel.private import write_private
from installer.bundle import layout
from installer.bundle.build import Settings, build
from installer.bundle.ceremony import make_keys
from installer.bundle.inputs import SCHEMA, Described, Inputs, tree_of, write_inputs
from installer.bundle.keys import KeyFolder
from installer.bundle.manifest import Kind, Origin
from installer.bundle.signed_metadata import root_fingerprint
from installer.bundle.trust_store import TrustStore
from installer.bundle.verify import Policy

BUILT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
PASSPHRASE = b"a passphrase for tests"
_SCRIPT = Path(layout.__file__).parent.parent / "bootstrap" / "install.sh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Somebody who makes bundles."""

    folder: Path

    @property
    def keys(self) -> KeyFolder:
        return KeyFolder(self.folder)

    @property
    def fingerprint(self) -> str:
        return self.keys.fingerprint()

    @property
    def root_fingerprint(self) -> str:
        return root_fingerprint(self.keys.roots()[0].read_bytes())

    @property
    def passphrase_file(self) -> Path:
        file = self.folder.with_name(f"{self.folder.name}.passphrase")
        if not file.exists():
            write_private(file, PASSPHRASE + b"\n")
        return file

    def build(
        self,
        inputs: Path,
        out: Path,
        *,
        sequence: int = 5,
        built: datetime = BUILT,
        part: int | None = None,
        min_from_version: str = "0.1.0",
    ) -> Path:
        """Build a medium."""
        settings = Settings(built=built, sequence=sequence, part_size=part, min_from_version=min_from_version)
        return build(inputs, self.keys, PASSPHRASE, out, settings).folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that verifies: its trust, its receipts, its clock."""

    folder: Path
    now: datetime = BUILT

    @property
    def trust(self) -> TrustStore:
        return TrustStore(self.folder / "trust")

    @property
    def receipts(self) -> Path:
        return self.folder / "receipts"

    def policy(self, *, fingerprint: str = "", now: datetime | None = None) -> Policy:
        """Return what this machine verifies by."""
        return Policy(
            trust=self.trust, receipts=self.receipts, root_fingerprint=fingerprint, clock=lambda: now or self.now
        )

    def written(self) -> list[str]:
        """Return every file that a verification left here."""
        return sorted(str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file())


def make_publisher(folder: Path) -> Publisher:
    """Make the keys."""
    make_keys(folder, PASSPHRASE, now=BUILT, lasting=False)
    return Publisher(folder=folder)


def make_package(
    folder: Path,
    name: str,
    *,
    version: str = "1:1.0-1",
    depends: str = "",
    size: int = 2000,
    copyright_text: str = "",
) -> Path:
    """Make a real Debian package with one file in it."""
    root = folder / f"{name}.root"
    (root / "DEBIAN").mkdir(parents=True)
    needs = f"Depends: {depends}\n" if depends else ""
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Test <test@example.invalid>\n{needs}"
    )
    (root / "DEBIAN" / "control").write_text(f"{control}Description: {name}\n a package for tests\n")
    share = root / "usr" / "share" / name
    share.mkdir(parents=True)
    (share / "data").write_bytes(hashlib.shake_128(name.encode()).digest(size))
    if copyright_text:
        doc = root / "usr" / "share" / "doc" / name
        doc.mkdir(parents=True)
        (doc / "copyright").write_text(copyright_text)
    out = folder / f"{name}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(root), str(out)],
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "0"},
    )
    return out


def make_wheel(folder: Path, name: str, version: str = "1.0", *, licence: str = "MIT") -> Path:
    """Make a wheel with one empty module."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{version}"
    files = {
        f"{name}/__init__.py": "",
        f"{stem}.dist-info/METADATA": (
            f"Metadata-Version: 2.4\nName: {name.replace('_', '-')}\nVersion: {version}\n"
            f"License-Expression: {licence}\n"
        ),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{stem}.dist-info/RECORD"])
    out = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in {**files, f"{stem}.dist-info/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return out


def make_inputs(folder: Path, *, version: str = "0.1.0", model_size: int = 0) -> Path:
    """Make a collection of two packages, one wheel, a lock, a playbook and, when it has a size, a model."""
    tree = tree_of(folder)
    files: dict[str, Described] = {}

    def add(path: str, data: bytes, kind: Kind, origin: Origin) -> None:
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        files[path] = Described(kind=kind, origin=origin, licence="Apache-2.0")

    scratch = folder / "scratch"
    for name, depends in (("needed", ""), ("wanted", "needed (>= 1:1.0)")):
        data = make_package(scratch, name, depends=depends).read_bytes()
        origin = Origin(apt="bookworm/main", package=name, version="1:1.0-1")
        add(f"apt/{name}_1.0-1_all.deb", data, Kind.PACKAGE, origin)
    wheel = make_wheel(scratch, "tiny_wheel")
    add(f"wheels/{wheel.name}", wheel.read_bytes(), Kind.WHEEL, Origin(pypi="tiny-wheel==1.0"))
    ours = Origin(given=layout.PRODUCT)
    add("requirements/installer.lock", b"tiny-wheel==1.0\n", Kind.LOCK, ours)
    add("playbooks/site.yml", b"- hosts: box\n", Kind.PLAYBOOK, ours)
    add("playbooks/roles/base/tasks/main.yml", b"[]\n", Kind.PLAYBOOK, ours)
    add("LICENSES/intramuros.txt", b"Apache License\n", Kind.LICENCE, ours)
    add(layout.INSTALL, _SCRIPT.read_bytes(), Kind.BOOTSTRAP, ours)
    if model_size:
        data = b"GGUF" + hashlib.shake_128(b"model").digest(model_size - 4)
        add("models/seed.gguf", data, Kind.MODEL, Origin(given="seed"))
    write_inputs(
        folder,
        Inputs(
            schema=SCHEMA,
            version=version,
            processor="x86-64-v3",
            collected="2026-11-25T12:00:00Z",
            made_from="0" * 64,
            packages=("wanted",),
            files=dict(sorted(files.items())),
        ),
    )
    return folder

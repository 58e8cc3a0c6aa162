"""A flat Debian archive of a folder of packages: Packages, Release, and InRelease signed by the publisher.

Written here rather than by apt-ftparchive: a hundred lines less configuration, and every byte is a function of the
packages and of the given date. There is no Valid-Until, because a medium does not age by lying in a drawer; what makes
a bundle too old is its sequence number and the expiry of its metadata. (Debian repository format, wiki and deb822(5))
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path

from debian.arfile import ArError
from debian.debfile import DebError, DebFile

from appliance.kernel.errors import IntegrityFailure

_LEFT_OUT = frozenset({"Filename", "Size", "MD5sum", "SHA1", "SHA256", "SHA512", "Description-md5"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package file and what its control file says."""

    file: str
    name: str
    version: str
    architecture: str
    control: str


def read_package(file: Path) -> Package:
    """Read a package's control file. Raises IntegrityFailure when it is no Debian package."""
    try:
        with file.open("rb") as stream:
            control = DebFile(fileobj=stream).debcontrol()
            return Package(
                file=file.name,
                name=control["Package"],
                version=control["Version"],
                architecture=control["Architecture"],
                control="".join(f"{key}: {value}\n" for key, value in control.items() if key not in _LEFT_OUT),
            )
    except (ArError, DebError, KeyError, EOFError, OSError, ValueError) as error:
        raise IntegrityFailure("bundle.package", f"{file.name} is not a Debian package: {error}.") from error


def file_name(name: str, version: str, architecture: str) -> str:
    """Return a package's file name: without the epoch, whose colon no FAT stick can hold."""
    return f"{name}_{version.partition(':')[2] or version}_{architecture}.deb"


def packages_index(packages: Sequence[Package], sizes: Mapping[str, int], digests: Mapping[str, str]) -> bytes:
    """Return the Packages file; `sizes` and `digests` (SHA-256) are those of the package files by name."""
    ordered = sorted(packages, key=lambda package: (package.name, package.version, package.architecture))
    stanzas = (
        f"{package.control}Filename: ./{package.file}\nSize: {sizes[package.file]}\nSHA256: {digests[package.file]}\n"
        for package in ordered
    )
    return "\n".join(stanzas).encode()


def release_file(indexes: Mapping[str, bytes], *, date: datetime, version: str) -> bytes:
    """Return the Release file that names the indexes by their SHA-256."""
    head = {
        "Origin": "Intramuros",
        "Label": "Intramuros bundle",
        "Suite": "intramuros",
        "Codename": "intramuros",
        "Version": version,
        "Date": format_datetime(date, usegmt=True),
        "Architectures": "amd64",
        "Components": "main",
        "Description": "Packages of an Intramuros bundle",
    }
    lines = [f"{key}: {value}" for key, value in head.items()]
    lines.append("SHA256:")
    lines += [f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}" for name, data in sorted(indexes.items())]
    return ("\n".join(lines) + "\n").encode()

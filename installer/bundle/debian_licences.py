"""The licences of a Debian package, as its own copyright file names them.

Machine-readable copyright files (DEP-5) name a licence for each group of files; the bill of materials lists those short
names. Of other packages it says where the text lies in them.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from debian.arfile import ArError
from debian.debfile import DebError, DebFile

from appliance.kernel.errors import IntegrityFailure

_LICENCE = re.compile(r"^License:[ \t]*(\S[^\n]*)$", re.MULTILINE)
_FORMAT = re.compile(r"^Format:\s*\S*copyright-format", re.MULTILINE)
_LARGEST = 4 << 20
_LONGEST = 200


def licences_of(package: Path, name: str) -> str:
    """Return the licences of a package file in one line."""
    text = _copyright_text(package, name)
    if not _FORMAT.search(text):
        return pointer(name)
    found = sorted({" ".join(line.split()) for line in _LICENCE.findall(text)}, key=str.casefold)
    joined = ", ".join(found)
    return joined if 0 < len(joined) <= _LONGEST else pointer(name)


def pointer(name: str) -> str:
    """Say where the text is."""
    return f"usr/share/doc/{name}/copyright in the package"


def _copyright_text(package: Path, name: str) -> str:
    """Return the copyright file; empty when the package shares that of another one. Raises IntegrityFailure."""
    wanted = f"usr/share/doc/{name}/copyright"
    try:
        with package.open("rb") as stream:
            archive = DebFile(fileobj=stream).data.tgz()
            for member in archive:
                if member.name.removeprefix("./") != wanted:
                    continue
                content = archive.extractfile(member) if member.isfile() and member.size <= _LARGEST else None
                return content.read().decode(errors="replace") if content is not None else ""
    except (ArError, DebError, tarfile.TarError, EOFError) as error:
        raise IntegrityFailure("bundle.package", f"{package.name} is not a Debian package: {error}.") from error
    return ""

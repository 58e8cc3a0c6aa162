"""Secrets of one installation: files on tmpfs, mode 0600, read by tasks that log nothing, wiped at the end.

A secret comes from a file that the answers name or from a person at the terminal. It is never an argument, a variable
of the environment or a value in the answers. Whatever is about to be told goes through `Scrubber` first: a role that
forgot `no_log` then still tells nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from appliance.kernel.errors import Conflict, Forbidden, NotFound, storage_errors
from appliance.kernel.private import read_private, write_private
from installer.answers import Answers
from installer.password import is_hash, passphrase_weakness

ADMIN_PASSWORD_HASH = "admin_password_hash"  # noqa: S105 (the name of a file)
STORAGE_PASSPHRASE = "storage_passphrase"  # noqa: S105 (the name of a file)
STORAGE_RECOVERY_KEY = "storage_recovery_key"  # a person has confirmed it; gone once the volume has it
TLS_KEY = "tls_key"

_HIDDEN = "[hidden]"
_TMPFS_MAGIC = 0x01021994
_SHORTEST = 6
"""Shorter words are not searched for: they would turn ordinary text into riddles."""


def sources(answers: Answers, *, in_effect: Collection[str] = ()) -> dict[str, Path]:
    """Return where the secrets that the answers name come from: name below the secrets folder -> file.

    Of those that the box has taken over (`in_effect`), the files may be gone.
    """
    named = {
        ADMIN_PASSWORD_HASH: answers.admin.password_hash_file,
        STORAGE_PASSPHRASE: answers.storage.passphrase_file,
        TLS_KEY: answers.tls.key,
    }
    found = {
        name: Path(path) for name, path in named.items() if path and (name not in in_effect or Path(path).exists())
    }
    recovery = answers.storage.recovery_key_file
    if recovery and Path(recovery).exists():  # its owner takes it away when the volume is made
        found[STORAGE_RECOVERY_KEY] = Path(recovery)
    return found


def missing(answers: Answers, folder: Path) -> list[str]:
    """Return the secrets that are needed, in no file and not laid down yet: a person has to be asked for them."""
    storage = answers.storage
    wanted = storage.mode == "luks" and "passphrase" in storage.unlock and not storage.passphrase_file
    return [STORAGE_PASSPHRASE] if wanted and not (folder / STORAGE_PASSPHRASE).exists() else []


def lay(folder: Path, name: str, value: bytes) -> Path:
    """Write one secret into the folder, mode 0600. Raises Conflict when the folder would be on a disk."""
    with storage_errors(f"keeping a secret in {folder}"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        require_memory(folder)
        write_private(folder / name, value)
    return folder / name


def laid(folder: Path) -> list[str]:
    """Return the names of the secrets that are there."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@contextlib.contextmanager
def secrets_directory(folder: Path, *, given: dict[str, bytes]) -> Iterator[Path]:
    """Keep secrets in `folder` for the block and remove them afterwards.

    Secrets that the wizard laid down before, or that a killed installer left, are used: a person is not asked twice. A
    recovery key that no volume has yet stays, because a person has written it down already.
    """
    for name, value in given.items():
        lay(folder, name, value)
    with storage_errors(f"keeping secrets in {folder}"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        require_memory(folder)
    try:
        yield folder
    finally:
        with contextlib.suppress(FileNotFoundError):
            wipe(folder, keep={STORAGE_RECOVERY_KEY})


def read_sources(answers: Answers, *, in_effect: Collection[str] = ()) -> dict[str, bytes]:
    """Read every secret that the answers name. Raises NotFound, or Forbidden when others may read one."""
    return {name: read_private(path) for name, path in sources(answers, in_effect=in_effect).items()}


def source_faults(answers: Answers, *, in_effect: Collection[str] = ()) -> list[tuple[str, str]]:
    """Return (file, what is wrong) for each named secret that cannot be used."""
    faults = []
    for name, path in sources(answers, in_effect=in_effect).items():
        try:
            if fault := _content_fault(name, read_private(path)):
                faults.append((str(path), fault))
        except (NotFound, Forbidden) as error:
            faults.append((str(path), error.message))
        except OSError as error:
            faults.append((str(path), error.strerror or str(error)))
    return faults


def _content_fault(name: str, content: bytes) -> str:
    text = content.decode(errors="replace").removesuffix("\n")
    if not text.strip():
        return "is empty"
    if name == ADMIN_PASSWORD_HASH and not is_hash(text):
        return "holds no hash of a password; make one with: intramuros answers password FILE"
    if name == STORAGE_PASSPHRASE and (fault := passphrase_weakness(text)):
        return f"holds a passphrase that {fault}"
    return ""


def require_memory(folder: Path) -> None:
    """Refuse a folder whose files would reach a disk. Raises Conflict."""
    if not is_in_memory(folder):
        raise Conflict(
            "secrets.on_disk",
            f"{folder} is not in memory (tmpfs), so secrets there would stay on the disk.",
            hint="Is /run mounted as tmpfs? Debian does so.",
        )


def is_in_memory(folder: Path) -> bool:
    """Tell whether a folder lies on a tmpfs. Raises OSError."""
    return _file_system_magic(folder) == _TMPFS_MAGIC


def _file_system_magic(folder: Path) -> int:
    """Return the kernel's number for the kind of file system, as statfs(2) gives it."""
    import ctypes

    # struct statfs begins with __fsword_t f_type on every 64-bit Linux; the rest is not looked at.
    buffer = (ctypes.c_long * 32)()
    library = ctypes.CDLL(None, use_errno=True)
    if library.statfs(os.fsencode(folder), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))
    return int(buffer[0])


class Scrubber:
    """Takes every known secret out of a text. Looks at the folder anew each time: roles add to it while they run."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: set[str] = set()

    def __call__(self, text: str) -> str:
        self._learn()
        for secret in sorted(self._known, key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
        return text

    def _learn(self) -> None:
        if self._folder is None or not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            try:
                words = path.read_bytes().decode(errors="replace").splitlines()
            except OSError:  # gone since it was listed: what it held is known, or was never there to be told
                continue
            self._known |= {word.strip() for word in words if len(word.strip()) >= _SHORTEST}


def wipe(folder: Path, *, keep: Collection[str] = ()) -> None:
    """Remove every secret but the named ones; the folder goes with the last."""
    for path in folder.iterdir():
        if path.name in keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not laid(folder):
        folder.rmdir()

"""The option that names a bundle, and its verification before any of its files is used."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import click

from appliance.kernel.errors import BadInput, Forbidden
from installer.cli.prepare import OpenedBundle

bundle_option = click.option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the bundle; verified before it is used.",
)


def open_bundle(root: Path | None, *, required: bool = False, remember: bool = False) -> OpenedBundle | None:
    """Verify a bundle and return it; None when none was named. Raises what verification raises.

    `remember` is for an installation: the machine then accepts nothing older, and a receipt is written.
    """
    if root is None:
        if required:
            raise BadInput("install.no_bundle", "No bundle was named.", hint="Name its folder: --bundle DIR")
        return None
    from installer.bundle.verify import Policy, verify_bundle

    if os.geteuid() == 0:
        _require_roots(root.resolve())
    verified = verify_bundle(root.resolve(), Policy(remember=remember))
    return OpenedBundle(root=verified.root, version=verified.version, digest=verified.manifest_digest)


def _require_roots(root: Path) -> None:
    """Refuse a bundle that others could change between its verification and its use. Raises Forbidden."""
    for path in (root, *root.parents, *_below(root)):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue  # verification says what is missing
        sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX and path != root
        if found.st_uid != 0 or (found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky):
            raise Forbidden(
                "bundle.writable",
                f"{path} can be changed by others than root, also after it was verified.",
                hint=f"chown -R root: {root} && chmod -R go-w {root}, or mount the medium read-only.",
            )


def _below(root: Path) -> Iterator[Path]:
    if root.is_dir() and os.statvfs(root).f_flag & os.ST_RDONLY:
        return
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if not path.is_symlink():  # refused by verification
                yield path

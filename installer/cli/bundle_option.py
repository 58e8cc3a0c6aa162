"""The option that names a bundle, and its verification before any of its files is used."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.kernel.errors import BadInput
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

    verified = verify_bundle(root.resolve(), Policy(remember=remember))
    return OpenedBundle(root=verified.root, version=verified.version, digest=verified.manifest_digest)

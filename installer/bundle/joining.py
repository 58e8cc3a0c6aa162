"""Puts the parts of large files together, on a disk that can hold them. What is joined was verified before."""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance.kernel.errors import Conflict
from installer.bundle.layout import SIGNED_APART
from installer.bundle.parts import copy_whole, join_file
from installer.bundle.progress import Report, silent
from installer.bundle.trust_store import TrustStore
from installer.bundle.verify import Policy, verify_bundle


def join_bundle(root: Path, out: Path, trust: TrustStore, *, report: Report = silent) -> list[str]:
    """Copy a bundle to `out` with every file whole, verify the copy, and return what was joined.

    The copy is verified again, so that a disk that writes wrongly is noticed. Raises Conflict, IntegrityFailure.
    """
    if out.exists():
        raise Conflict("bundle.out_exists", f"{out} exists.", hint="Choose a new folder.")
    policy = Policy(trust=trust, remember=False)
    manifest = verify_bundle(root, policy, report=report).manifest
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    joined = []
    try:
        for entry in manifest.files:
            if entry.parts and not (root / entry.path).exists():
                join_file(root, entry, partial)
                joined.append(entry.path)
            else:
                copy_whole(root, entry, partial)
        for path in SIGNED_APART:
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, partial / path)
        verify_bundle(partial, policy, report=report)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return joined

"""Receipts: what was checked, when, by whom and with which outcome; one dated file for each verification.

For the security officer who was not there. A refusal leaves one as well, and nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.kernel.canonical import canonical_json
from appliance.kernel.durable import write_file

FOLDER = Path("/var/lib/intramuros/receipts")


def write_receipt(folder: Path, document: dict[str, Any], *, at: datetime) -> Path:
    """Write a receipt and return its file. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    file = folder / f"{stamp}-{document['verdict']}.json"
    write_file(file, canonical_json({"schema": 1, "at": at.astimezone(UTC).isoformat(), **document}) + b"\n")
    return file

"""A JSON schema whose grammar takes all the CPU time that one may."""

from __future__ import annotations

from typing import Any

ENDLESS: dict[str, Any] = {
    "allOf": [{"type": "string", "pattern": f"^(.*[ab].{{{i}}}|.*[bc].{{{i + 1}}})$"} for i in range(20, 80)]
}
"""No budget of llguidance's own stops it; without a limit on time it fills the memory it may have first."""

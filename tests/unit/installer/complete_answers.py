"""The least that an answer file must say, as a document that a test changes."""

from __future__ import annotations

from typing import Any

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3v0b0X0Q0m4q0x4bq2Yk5sO0Hq1gC0mS0k2kq3b1yT anna@desk"


def complete_answers(**sections: Any) -> dict[str, Any]:
    """Return the least answers; each keyword replaces or extends one section."""
    document: dict[str, Any] = {
        "hostname": "box1.example.org",
        "admin": {"user": "anna", "authorized_keys": [PUBLIC_KEY]},
        "network": {"admin": ["192.0.2.0/28"], "clients": ["198.51.100.0/24"], "ntp": ["192.0.2.2"]},
    }
    for name, value in sections.items():
        present = document.get(name)
        document[name] = {**present, **value} if isinstance(present, dict) and isinstance(value, dict) else value
    return document

"""Hardening forbids storage at USB, so every page that uses a stick afterwards has the command that lets it be seen."""

from __future__ import annotations

from tests.quality.sources import ROOT

_COMMAND = "modprobe --ignore-install usb-storage"
_BEFORE = {"bundle.md", "install-wizard.md", "boxes.md", "error-codes.md"}
"""Pages about the machine that writes the stick, about a box that is not hardened yet, and generated ones."""


def test_every_page_that_uses_a_stick_at_a_hardened_box_says_how() -> None:
    pages = [page for page in (ROOT / "docs").rglob("*.md") if page.name not in _BEFORE]
    using = [page for page in pages if "/media/usb" in page.read_text() or "/media/stick" in page.read_text()]
    assert len(using) >= 7
    assert not [page.name for page in using if _COMMAND not in page.read_text()]

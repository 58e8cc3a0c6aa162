from __future__ import annotations

import pytest

from appliance.kernel.terminal import harmless


@pytest.mark.parametrize(
    "text", ["\x1b[31m", "\x1b]0;title\x07", "over\rwrite", "\x9b2J", "\x7f", "\u202egnp.exe", "\u2066x", "\x00"]
)
def test_nothing_that_a_terminal_acts_on_is_left(text: str) -> None:
    shown = harmless(text)
    assert len(shown) == len(text)
    assert "\N{REPLACEMENT CHARACTER}" in shown
    assert not any(character in shown for character in "\x1b\x07\r\x9b\x7f\u202e\u2066\x00")


@pytest.mark.parametrize("text", ["two\nlines\tand a tab", "Größe 10\u00a0€", "👩\u200d🔬 नमस्ते שלום", "\ufffd"])
def test_text_of_any_language_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text

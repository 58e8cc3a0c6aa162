"""The texts of the gate: enough of them, always the same, and awkward."""

from __future__ import annotations

from appliance.conversion import corpus


def test_there_are_at_least_500_distinct_strings_without_any_model() -> None:
    found = corpus.strings()
    assert len(found) == len(set(found)) >= 500
    assert found == corpus.strings()


def test_every_string_can_be_encoded() -> None:
    assert all(text.encode().decode() == text for text in corpus.strings(("<|end|>",)))


def test_the_kinds_that_tokenizers_disagree_on_are_there() -> None:
    together = "".join(corpus.strings())
    for piece in ("\u0301", "\u00a0", "\u200d", "\x00", "\r\n", "    ", "don't", "12345678901234567890", "<|END|>"):
        assert piece in together


def test_special_tokens_are_put_beside_text_and_broken() -> None:
    found = set(corpus.strings(("<|stop|>",)))
    assert {"<|stop|>", "a<|stop|>b", " <|stop|> ", "<|stop|", "<|stop|><|stop|>"} <= found

from __future__ import annotations

import pytest

from appliance.datasets.language import UNKNOWN, language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How do I know if I will get my card, or if it is lost?", "en"),
        ("Wie kann ich mich infizieren, und was ist zu tun?", "de"),
        ("Comment est-ce que je peux avoir une carte pour les achats?", "fr"),
        ("¿Cómo puedo pagar con mi tarjeta en el banco y por qué no?", "es"),
        ("Come si può avere una carta della banca e non perderla?", "it"),
        ("Hoe kan ik een kaart van het station krijgen?", "nl"),
        ("Jak się nie zarazić i co zrobić, żeby to było pewne?", "pl"),
        ("Как мне получить карту?", "ru"),
        ("カードはいつ届きますか", "ja"),
        ("12345 !?", UNKNOWN),
        ("", UNKNOWN),
        ("Xyzzy plugh", UNKNOWN),
    ],
)
def test_words_and_scripts_tell_the_language(text: str, language: str) -> None:
    assert language_of(text) == language

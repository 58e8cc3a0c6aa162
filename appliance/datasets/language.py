"""Which language a text probably is in, by its script and its commonest words: cheap, coarse, and honest about doubt.

Good for telling apart the rows of a mixed file, not for a verdict about one sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

_WORDS: Final = {
    "en": "the of and to in is you that it for was on are with as this be have or can what how not i my do does did me "
    "we he she they your if will would an by from why there should people",
    "de": "der die und das ist nicht ich zu den mit sich auf für eine ein dem auch es an werden wie kann sie im",
    "fr": "le la les et des est un une du que pour dans qui sur pas plus par avec ce je vous il comment au",
    "es": "el los las que es una por con para no se su como más pero al del un puedo qué está mi",
    "it": "il che è di un per non una si gli della sono con del come anche più le nel alla questo mi cosa",
    "pt": "o que não uma os um para com da do em se por mais as dos como mas ao você meu é são",
    "nl": "de het een van is niet dat en ik je te zijn op voor met die hoe aan er wat ook kan bij",
    "pl": "się nie na jest w z i że do to jak czy co od przez dla są po jego może być o",
}
_BY_WORD: Final = {
    word: tuple(language for language, words in _WORDS.items() if word in words.split())
    for words in _WORDS.values()
    for word in words.split()
}
_SCRIPTS: Final = (
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
)
_LOOKED_AT = 400
UNKNOWN: Final = "unknown"


def language_of(text: str) -> str:
    """Return a two-letter code, or `unknown` where nothing speaks clearly for one language."""
    start = text[:_LOOKED_AT]
    letters = sum(character.isalpha() for character in start)
    for language, script in _SCRIPTS:
        if letters and 3 * len(script.findall(start)) > letters:
            return language
    votes: Counter[str] = Counter()
    for word in re.findall(r"\w+", start.lower()):
        speaking = _BY_WORD.get(word, ())
        for language in speaking:
            votes[language] += 12 // len(speaking)
    ranked = votes.most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return UNKNOWN
    return ranked[0][0]

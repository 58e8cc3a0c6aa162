"""What some tokenizers do to a text before they cut it up and llama.cpp does not, or does elsewhere.

Unicode's form NFC (UAX 15), and a space in front: SentencePiece's pieces of words begin with one, so the first word is
given one too. A GGUF file that was made here says so under `COMPOSITION` and `PREFIX`, and whoever tokenises by it asks
a `Normaliser` first. Files from elsewhere say nothing, and are read as llama.cpp reads them.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from typing import Any, Final

import llama_cpp

COMPOSITION: Final = "intramuros.tokenizer.normalizer"
NFC: Final = "NFC"
PREFIX: Final = "intramuros.tokenizer.prefix"
NEVER, FIRST, ALWAYS = PREFIXES = ("never", "first", "always")
"""Nowhere; in front of a text; in front of every part of a text between control tokens."""
_SPACES: Final = (" ", "\u2581")
_LONGEST: Final = 64


class Normaliser:
    """Does for one loaded file what its keys say; without them it changes nothing."""

    def __init__(self, model: Any) -> None:
        """`model` is llama.cpp's handle."""
        self._composes = _said(model, COMPOSITION) == NFC
        self._prefix = _said(model, PREFIX)
        self._marks: dict[bool, re.Pattern[str] | None] = {False: None, True: None}
        if self._composes or self._prefix:
            vocabulary = llama_cpp.llama_model_get_vocab(model)
            own = _texts(vocabulary, llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)
            controls = _texts(vocabulary, llama_cpp.LLAMA_TOKEN_ATTR_CONTROL)
            self._marks = {False: _any_of(own), True: _any_of(own | controls)}

    def normalise(self, text: str, *, special: bool, start: bool = True) -> str:
        """Return the text as it is to be cut up; `special` says whether control tokens are found in it.

        What stands between tokens that are found first is composed by itself, so that no accent behind one of them
        becomes a part of its last character. `start` says whether a text begins here, or goes on.
        """
        if not self._prefix and (not self._composes or unicodedata.is_normalized(NFC, text)):
            return text
        marks = self._marks[special]
        parts = [text] if marks is None else marks.split(text)
        return "".join(
            part if at % 2 else self._part(part, begins=start if at == 0 else self._prefix == ALWAYS)
            for at, part in enumerate(parts)
        )

    def _part(self, part: str, *, begins: bool) -> str:
        composed = unicodedata.normalize(NFC, part) if self._composes else part
        wanted = begins and self._prefix in {FIRST, ALWAYS} and composed and not composed.startswith(_SPACES)
        return f" {composed}" if wanted else composed


def _said(model: Any, key: str) -> str:
    """Return what a file says under a key; empty where it says nothing."""
    value = ctypes.create_string_buffer(_LONGEST)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), value, _LONGEST)
    return value.value.decode(errors="replace") if length >= 0 else ""


def _texts(vocabulary: Any, attribute: int) -> set[str]:
    return {
        llama_cpp.llama_vocab_get_text(vocabulary, token).decode(errors="replace")
        for token in range(llama_cpp.llama_vocab_n_tokens(vocabulary))
        if llama_cpp.llama_vocab_get_attr(vocabulary, token) & attribute
    }


def _any_of(texts: set[str]) -> re.Pattern[str] | None:
    longest_first = sorted(texts - {""}, key=lambda text: (-len(text), text))
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None

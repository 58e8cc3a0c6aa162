"""What some tokenizers do to a text before they cut it up and llama.cpp does not: Unicode's form NFC (UAX 15).

A GGUF file that was made here says so under `KEY`, and whoever tokenises by it asks a `Normaliser` first. Files from
elsewhere say nothing, and are read as llama.cpp reads them.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from typing import Any, Final

import llama_cpp

KEY: Final = "intramuros.tokenizer.normalizer"
NFC: Final = "NFC"
_LONGEST: Final = 64


class Normaliser:
    """Does for one loaded file what its key says; without the key it changes nothing."""

    def __init__(self, model: Any) -> None:
        """`model` is llama.cpp's handle."""
        value = ctypes.create_string_buffer(_LONGEST)
        length = llama_cpp.llama_model_meta_val_str(model, KEY.encode(), value, _LONGEST)
        self._composes = length >= 0 and value.value.decode(errors="replace") == NFC
        self._marks: dict[bool, re.Pattern[str] | None] = {False: None, True: None}
        if self._composes:
            vocabulary = llama_cpp.llama_model_get_vocab(model)
            own = _texts(vocabulary, llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)
            controls = _texts(vocabulary, llama_cpp.LLAMA_TOKEN_ATTR_CONTROL)
            self._marks = {False: _any_of(own), True: _any_of(own | controls)}

    def normalise(self, text: str, *, special: bool) -> str:
        """Return the text as it is to be cut up; `special` says whether control tokens are found in it.

        What stands between tokens that are found first is composed by itself, so that no accent behind one of them
        becomes a part of its last character.
        """
        if not self._composes or unicodedata.is_normalized(NFC, text):
            return text
        marks = self._marks[special]
        parts = [text] if marks is None else marks.split(text)
        return "".join(part if at % 2 else unicodedata.normalize(NFC, part) for at, part in enumerate(parts))


def _texts(vocabulary: Any, attribute: int) -> set[str]:
    return {
        llama_cpp.llama_vocab_get_text(vocabulary, token).decode(errors="replace")
        for token in range(llama_cpp.llama_vocab_n_tokens(vocabulary))
        if llama_cpp.llama_vocab_get_attr(vocabulary, token) & attribute
    }


def _any_of(texts: set[str]) -> re.Pattern[str] | None:
    longest_first = sorted(texts - {""}, key=lambda text: (-len(text), text))
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None

"""Cuts texts that have very long runs without a space, or of spaces, before llama.cpp splits them into words.

Where llama.cpp has no splitter of its own for a tokenizer it uses std::regex, which is recursive in the length of a
match: some 25,000 characters without a space overflow the stack (llama.cpp issue 27783), and one request would end the
engine. Pure. Invariant: the parts join to the text, and no mark is cut through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

LONGEST_RUN: Final = 4096
"""Characters. A match may take a run of each kind: twice this is a third of what a stack of 8 MiB holds."""

_RUN: Final = re.compile(r"\S++|\s++")


def cut_runs(text: str, marks: Iterable[str]) -> list[str]:
    """Cut every run that is longer than `LONGEST_RUN`; `marks` are texts that stand for one token and stay whole."""
    if len(text) <= LONGEST_RUN:
        return [text]
    cuts = [0]
    known: list[str] | None = None
    for run in _RUN.finditer(text):
        for at in range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN):
            known = [mark for mark in marks if mark in text] if known is None else known
            cut = _before_mark(text, at, known)
            if cut > cuts[-1]:
                cuts.append(cut)
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _before_mark(text: str, at: int, marks: list[str]) -> int:
    """The place `at`, or where the mark begins that it is in the middle of."""
    for mark in marks:
        begin = text.find(mark, max(0, at - len(mark) + 1), at + len(mark) - 1)
        if 0 <= begin < at:
            return begin
    return at

"""Holds an answer to a grammar, token by token: llguidance behind the few calls that a sampler needs.

Owns the bounds on what a grammar may cost. A grammar comes from a client's JSON schema and is hostile: every stage has
a budget of its own (characters, lexer fuel, parser items, states), and what exceeds one is a refusal or the end of that
answer, never a stall of the engine. Compiling runs without the interpreter's lock.
Source: llguidance's Earley parser over a lexer of regular-expression derivatives.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any, Final

import llguidance
import numpy as np
import numpy.typing as npt
from llguidance.llamacpp import lltokenizer_from_vocab

from appliance.engine.llama_context import LlamaModel
from appliance.kernel.errors import BadInput

LARGEST_GRAMMAR: Final = 512 * 1024
"""characters; with the other bounds below, the longest compilation measured is a second"""

_KEPT: Final = 32
_LIMITS: Final = llguidance.LLParserLimits(
    max_items_in_row=2_000,
    initial_lexer_fuel=200_000,
    step_lexer_fuel=100_000,
    step_max_items=20_000,
    max_lexer_states=50_000,
    max_grammar_size=100_000,
    precompute_large_lexemes=False,
    verbose_errors=False,
)


class Constraint:
    """Where one answer stands in its grammar."""

    __slots__ = ("_mask", "_matcher", "broken")

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._mask = np.zeros(4 * ((vocabulary + 31) // 32), np.uint8)
        self.broken = False
        """whether a bound was exceeded; nothing can follow then"""

    @property
    def complete(self) -> bool:
        """Whether nothing but the end can follow."""
        return not self.broken and bool(self._matcher.is_stopped())

    def allows(self, token: int) -> bool:
        """Tell whether this token may come next: a microsecond, against a thousand for a mask."""
        return bool(self._matcher.validate_tokens([token]) == 1)

    def forbid(self, row: npt.NDArray[np.float32]) -> None:
        """Make every token impossible that may not come next."""
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.size)
        allowed = np.unpackbits(self._mask, count=row.size, bitorder="little").view(bool)
        if self._matcher.is_error() or not allowed.any():
            self.broken = True
            return
        row[~allowed] = -np.inf

    def take(self, token: int) -> None:
        """Go on by one token."""
        if not self.broken and not self._matcher.consume_token(token):
            self.broken = True


class Grammars:
    """Compiles grammars for one model and keeps the latest, since clients repeat themselves. For one thread."""

    def __init__(self, model: LlamaModel) -> None:
        """Read the vocabulary: up to a second for a large one."""
        with warnings.catch_warnings():  # llguidance asks for a token's attributes by llama.cpp's older name
            warnings.simplefilter("ignore", DeprecationWarning)
            self._tokenizer = lltokenizer_from_vocab(model.vocab, model.vocabulary, sorted(model.ends) or None)
        self._vocabulary = model.vocabulary
        self._compiled: OrderedDict[str, Any] = OrderedDict()

    def constraint(self, grammar: str) -> Constraint:
        """A fresh constraint. BadInput `engine.grammar`: it cannot be compiled, or not within the bounds."""
        matcher = self._compiled.get(grammar)
        if matcher is None:
            matcher = self._compile(grammar)
            self._compiled[grammar] = matcher
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(grammar)
        return Constraint(matcher.deep_copy(), self._vocabulary)

    def _compile(self, grammar: str) -> Any:
        if len(grammar) > LARGEST_GRAMMAR:
            raise BadInput("engine.grammar_size", f"The schema makes a grammar of more than {LARGEST_GRAMMAR} letters.")
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        if matcher.is_error():
            reason = matcher.get_error().partition("\n")[0].rpartition("JSON schema: ")[2]
            raise BadInput("engine.grammar", f"The schema cannot be turned into a grammar: {reason[:200].rstrip('.')}.")
        return matcher

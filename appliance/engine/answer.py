"""Sorts the tokens of one answer into what is said, thought and called, as far as it is certain.

Owns the text of one request between the sampler and the wire. Invariant: the parts it returned, joined, are prefixes of
the whole that no later token can change, however the bytes were cut. Stop strings count in what is said alone: a call
or a thought is never cut by one.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import Final

from appliance.engine.detokenise import StopStrings, held_back
from appliance.engine.dialect import Dialect
from appliance.engine.frames import CallPiece, TokenLogprob
from appliance.engine.said_tokens import SaidTokens

_HEAD: Final = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*')
_LONGEST_HEAD: Final = 1024


@dataclass(slots=True)
class Parts:
    """What one token added."""

    text: str = ""
    reasoning: str = ""
    calls: list[CallPiece] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    """of the tokens that `text` consists of"""

    def add(self, more: Parts) -> None:
        """Append what came after."""
        self.text += more.text
        self.reasoning += more.reasoning
        self.calls += more.calls
        self.logprobs += more.logprobs


class Answer:
    """The growing answer of one request."""

    __slots__ = (
        "_calls",
        "_decoder",
        "_dialect",
        "_header",
        "_held",
        "_listening",
        "_marks",
        "_plain",
        "_shaped",
        "_shown",
        "_skip_space",
        "_state",
        "_stops",
        "_tokens",
        "_written",
    )

    def __init__(
        self,
        stops: tuple[str, ...] = (),
        *,
        dialect: Dialect | None = None,
        calls: bool = False,
        thinking: bool = False,
        shaped: bool = False,
        marks: dict[int, str] | None = None,
    ) -> None:
        """`dialect` None takes everything as said. `calls`: calls were allowed. `marks`: marks that are one token.

        `shaped`: what is no call is a JSON document.
        """
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = StopStrings(stops)
        self._dialect = dialect or Dialect()
        self._marks = marks or {}
        self._listening = calls
        self._shaped = shaped
        self._state = "thought" if thinking else "start"
        self._held = ""
        self._header = ""  # what stands before a message of a channel
        self._skip_space = thinking
        marked = self._dialect.thought or self._dialect.channels or self._marks
        self._plain = not (marked or stops or calls or thinking or shaped)
        """whether everything is said as it comes"""
        self._calls = _Calls(named_behind=self._dialect.calls.begin if self._dialect.calls.args else "")
        self._tokens = SaidTokens()
        self._written = 0  # characters, those held back included
        self._shown = 0  # characters of what is said

    @property
    def stopped(self) -> bool:
        """Whether a stop string was written: nothing after it counts."""
        return self._stops.stopped

    @property
    def thinking(self) -> bool:
        """Whether the model is reasoning."""
        return self._state == "thought"

    def feed(self, token: int, data: bytes, entry: TokenLogprob | None = None) -> Parts:
        """What is certain after this token, whose bytes are `data`; `entry` comes back if they are part of the text."""
        if self._plain and entry is None:
            return Parts(text=self._decoder.decode(data))
        parts = Parts()
        mark = self._marks.get(token)
        if mark is not None and self._awaits(mark):
            self._advance(self._decoder.decode(b"", final=True), parts)
            self._release(parts)
            self._decoder.reset()
            self._open(mark)
        elif entry is None or not data:
            self._advance(self._decoder.decode(data), parts)
        else:
            self._advance(self._decode_noting(data, entry), parts)
        self._settle(parts)
        return parts

    def flush(self) -> Parts:
        """What was held back, at the end of the answer."""
        parts = Parts()
        self._advance(self._decoder.decode(b"", final=True), parts)
        self._release(parts)
        if not self.stopped:
            parts.text += self._stops.flush()
        self._settle(parts)
        return parts

    def _decode_noting(self, data: bytes, entry: TokenLogprob) -> str:
        """Decode, and note which characters are this token's, whole or in part."""
        decoder, begun = self._decoder, self._written
        half = bool(decoder.getstate()[0])
        new = decoder.decode(data[:1])
        own = not decoder.getstate()[0]
        if half and len(new) > own:  # that half stays one: this token begins behind it
            begun += len(new) - own
        new += decoder.decode(data[1:])
        open_characters = len(decoder.getstate()[0].decode(errors="replace"))
        self._tokens.write(entry, begun, self._written + len(new) + open_characters)
        return new

    def _settle(self, parts: Parts) -> None:
        self._shown += len(parts.text)
        parts.logprobs += self._tokens.settle(self._written - len(self._held), self._shown)

    def _advance(self, new: str, parts: Parts) -> None:
        text = self._held + new
        self._held = ""
        self._written += len(new)
        while text:
            if self._state == "call":
                text = self._call(text, parts)
                continue
            if self._state == "start":
                text = self._start(text)
                continue
            if self._state == "header":
                self._header += text
                return
            words = self._words()
            found = min(((at, word) for word in words if (at := text.find(word)) >= 0), default=None)
            if found is None:
                keep = held_back(text, words)
                self._say(text[: len(text) - keep], self._written - len(text), parts)
                self._held = text[len(text) - keep :]
                return
            at, word = found
            self._say(text[:at], self._written - len(text), parts)
            self._open(word)
            text = text[at + len(word) :]

    def _start(self, text: str) -> str:
        """Where a call has no mark, an answer that begins with a brace is one. A document has no marks inside."""
        bare = text.lstrip()
        if self._shaped:
            words = self._words()
            if not bare or any(word.startswith(bare) and word != bare for word in words):
                self._held = text
                return ""
            self._state = "said" if bare.startswith(words) else "document"
        elif self._listening and not self._dialect.calls.begin:
            if not bare:
                self._held = text
                return ""
            self._state = "call" if bare.startswith("{") else "said"
        else:
            self._state = "said"
        return text

    def _words(self) -> tuple[str, ...]:
        """The marks that may come next, those that are a token of their own left out."""
        whole, thought = self._marks.values(), self._dialect.thought
        if self._state == "document":
            return ()
        if self._state == "thought":
            words: tuple[str, ...] = (thought.end,) if thought else ()
        else:
            words = (thought.begin,) if thought else ()
            if self._listening and self._dialect.calls.begin:
                words += (self._dialect.calls.begin,)
        return tuple(word for word in words if word not in whole)

    def _awaits(self, mark: str) -> bool:
        """Whether a mark means something here; elsewhere its token is like any other."""
        form, thought, state = self._dialect.calls, self._dialect.thought, self._state
        if self._dialect.channels is not None and mark in self._dialect.channels.marks:
            return True
        if mark == form.end:
            return state == "call"
        if thought is not None and mark == thought.end:
            return state == "thought"
        return state in ("start", "said") and (mark != form.begin or self._listening)

    def _open(self, mark: str) -> None:
        thought, channels = self._dialect.thought, self._dialect.channels
        states = {thought.begin: "thought", thought.end: "start"} if thought else {}
        if channels is not None:
            states = dict.fromkeys(channels.marks, "header")
            states[channels.message] = "start" if self._header.strip() == channels.said else "thought"
            self._header = ""
        self._state = (states | {self._dialect.calls.begin: "call"}).get(mark, "said")
        self._skip_space = True

    def _call(self, text: str, parts: Parts) -> str:
        mark = self._dialect.calls.end
        rest, ended = self._calls.feed(text, parts.calls, end="" if mark in self._marks.values() else mark)
        if ended:
            self._state, self._skip_space = "said", True
        return rest

    def _say(self, text: str, start: int, parts: Parts) -> None:
        """Take text that is no call; it begins with the written character `start`."""
        if self._skip_space:
            start += len(text)
            text = text.lstrip()
            start -= len(text)
        if not text:
            return
        self._skip_space = False
        if self._state == "thought":
            parts.reasoning += text
        else:
            self._tokens.say(start, len(text))
            parts.text += self._stops.feed(text)

    def _release(self, parts: Parts) -> None:
        held, self._held = self._held, ""
        if held:
            self._say(held, self._written - len(held), parts)


class _Calls:
    """Reads calls off the text between two marks: JSON objects that begin with the name, or stand behind it."""

    __slots__ = ("_begun", "_depth", "_end", "_escaped", "_head", "_index", "_name", "_named", "_quoted", "_spaces")

    def __init__(self, *, named_behind: str) -> None:
        """`named_behind`: the mark before a name that stands outside the JSON; empty where it stands inside."""
        self._named = named_behind
        self._name = ""
        self._end = ""
        self._index = -1
        self._reset()

    def _reset(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False
        self._head: str | None = ""
        """the beginning of an object until its name and arguments were found"""
        self._spaces = ""
        self._begun = False

    def feed(self, text: str, pieces: list[CallPiece], *, end: str) -> tuple[str, bool]:
        """Take text; returns what lies behind the end mark, and whether that came. Without `end` it never does."""
        start = 0
        for at, letter in enumerate(text):
            if self._depth == 0:
                if letter == "{":
                    self._reset()
                    self._depth, start = 1, at
                    if self._named:
                        self._begin_named(pieces)
                elif self._named:
                    self._name = (self._name + letter)[-_LONGEST_HEAD:]
                elif end:
                    self._end = (self._end + letter)[-len(end) :]
                    if self._end == end:
                        self._end = ""
                        return text[at + 1 :], True
            elif self._quoted:
                if self._escaped:
                    self._escaped = False
                elif letter == "\\":
                    self._escaped = True
                elif letter == '"':
                    self._quoted = False
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth == 0:  # where the name stands inside, this brace closes the call, not its arguments
                    self._take(text[start : at + bool(self._named)], pieces, last=True)
                    start = at + 1
        if self._depth:
            self._take(text[start:], pieces)
        return "", False

    def _begin_named(self, pieces: list[CallPiece]) -> None:
        """A name has no brackets; the marks around it may be text or tokens without any."""
        name, self._name, self._head = self._name.rpartition(self._named)[2].partition("[")[0], "", None
        self._index += 1
        pieces.append(CallPiece(index=self._index, name=name.strip(), arguments=""))

    def _take(self, text: str, pieces: list[CallPiece], *, last: bool = False) -> None:
        if self._head is not None:
            self._head += text
            found = _HEAD.match(self._head)
            if found is None:
                if len(self._head) > _LONGEST_HEAD:
                    self._head = self._head[:_LONGEST_HEAD]
                return
            self._index += 1
            text, self._head = self._head[found.end() :], None
            pieces.append(CallPiece(index=self._index, name=found[1], arguments=""))
        # spaces around the arguments do not belong to them
        text = self._spaces + text if self._begun else text.lstrip()
        shown = text.rstrip()
        self._begun = self._begun or bool(shown)
        self._spaces = "" if last else text[len(shown) :]
        if shown:
            pieces.append(CallPiece(index=self._index, name="", arguments=shown))

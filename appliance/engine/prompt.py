"""From a `Submit` frame to token ids, and to how its answer must be read and held to a shape.

Owns the way from messages through the chat template to tokens, and the length limits. Invariant: control tokens in a
chat prompt come from the template alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import llama_cpp

from appliance.engine import dialect
from appliance.engine.answer import Answer
from appliance.engine.dialect import Dialect
from appliance.engine.frames import Asked, Message, Submit, Tokenise
from appliance.engine.llama_context import LlamaModel
from appliance.engine.sampling import check_sampling
from appliance.engine.template import ControlTokens
from appliance.engine.template_process import TemplateProcess
from appliance.kernel.errors import BadInput, IntegrityFailure

_LONGEST_ECHO: Final = 2 * 1024 * 1024
"""Characters: prompts that are shown again must not fill what may wait for other answers."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A checked request: its token ids, the grammar of its answer if there is one, and who reads the answer."""

    tokens: list[int]
    grammar: str | None
    answer: Answer


@contextmanager
def _passable() -> Iterator[None]:
    """What is valid JSON may still be too deep for those who walk through it, or too large a number for a frame."""
    try:
        yield
    except (OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise BadInput(
            "engine.messages",
            "The messages, functions or schemas hold an integer of more than 64 bits, half a surrogate pair, or are "
            "nested too deep.",
        ) from error


class PromptMaker:
    """Tokenises for one model. Used by the reader thread alone."""

    def __init__(self, model: LlamaModel, *, context: int) -> None:
        """`context` is the longest sequence, in tokens. A template that does not compile leaves chat switched off."""
        self._model = model
        self.context = context
        self._controls = ControlTokens(model.control_texts)
        self._refusal = BadInput("engine.no_chat_template", "This model has no chat template; send a prompt instead.")
        self._template: TemplateProcess | None = None
        self.dialect = Dialect()
        source = model.chat_template
        if source:
            bos, eos = model.text_of(model.bos), model.text_of(model.eos)
            try:
                self._template = TemplateProcess(source, bos=bos, eos=eos)
            except IntegrityFailure as error:
                self._refusal = BadInput(error.code, error.message)
            else:
                self.dialect = Dialect.of(source, self._template.names)

    @property
    def chats(self) -> bool:
        """Whether messages can be rendered."""
        return self._template is not None

    def prepare(self, submit: Submit) -> Prompt:
        """Everything about a request but its place. BadInput says what cannot be served; nothing was changed then."""
        with _passable():
            return self._prepare(submit)

    def _prepare(self, submit: Submit) -> Prompt:
        if not submit.tenant:
            raise BadInput("engine.tenant", "A request needs a tenant.")
        check_sampling(submit.params, vocabulary=self._model.vocabulary)
        stops = submit.params.stop
        match submit.messages, submit.prompt, submit.tokens:
            case None, str(prompt), None:
                tokens = self._filling(prompt, submit.suffix) if submit.suffix else self.text_tokens(prompt)
                prepared = Prompt(tokens, self._grammar(submit.asked), Answer(stops))
            case None, None, tuple(tokens):
                self._check(tokens)
                prepared = Prompt(list(tokens), self._grammar(submit.asked), Answer(stops))
            case tuple(messages), None, None:
                if submit.params.echo:
                    raise BadInput("engine.sampling", "The sampling parameter echo is for prompts, not for messages.")
                prepared = self._chat(messages, submit.asked, stops)
            case _:
                raise BadInput("engine.prompt", "A request has one of messages, a prompt and tokens.")
        length = len(prepared.tokens)
        if not length:
            raise BadInput("engine.prompt", "The prompt is empty.")
        if length >= self.context:
            raise BadInput(
                "engine.context_length",
                f"The prompt has {length} tokens; this model's context of {self.context} tokens must hold the "
                "prompt and the answer.",
            )
        return prepared

    def limit(self, submit: Submit, tokens: list[int]) -> int:
        """The length at which the sequence ends."""
        wanted = submit.params.max_tokens
        return self.context if wanted is None else min(self.context, len(tokens) + wanted)

    def tokenise(self, ask: Tokenise) -> list[int]:
        """Only the token ids. BadInput as `prepare`."""
        match ask.messages, ask.prompt:
            case None, str(prompt):
                return self.text_tokens(prompt, special=ask.special, begin=ask.begin)
            case tuple(messages), None:
                with _passable():
                    return self._rendered(messages, Asked())[0]
            case _:
                raise BadInput("engine.prompt", "A text or messages are needed.")

    def text_tokens(self, text: str, *, special: bool = True, begin: bool = True) -> list[int]:
        """The token ids of a text as it is."""
        self._bound(len(text))
        return self._model.tokenise(text, special=special, begin=begin)

    def text_of(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids, control tokens spelled out. BadInput `engine.tokens`."""
        self._check(tokens)
        model = self._model
        data = b"".join(model.pieces[token] or model.text_of(token).encode() for token in tokens)
        return data.decode(errors="replace")

    def echo(self, submit: Submit) -> str:
        """The prompt as it is shown before its answer. BadInput `engine.echo`: a few tokens may be a long text."""
        text = submit.prompt or self.text_of(submit.tokens or ())
        if len(text) > _LONGEST_ECHO:
            raise BadInput(
                "engine.echo", f"The prompt has {len(text)} characters; at most {_LONGEST_ECHO} are shown again."
            )
        return text

    def close(self) -> None:
        """End the template's process."""
        if self._template is not None:
            self._template.close()

    def _chat(self, messages: tuple[Message, ...], asked: Asked, stops: tuple[str, ...]) -> Prompt:
        tokens, thinking = self._rendered(messages, asked)
        grammar = dialect.grammar(asked, self.dialect, thinking=thinking, token_of=self._token_of)
        calls, shaped = bool(asked.tools), asked.schema is not None and not asked.required
        if not (calls or self.dialect.reasons):
            return Prompt(tokens, grammar, Answer(stops))
        answer = Answer(stops, dialect=self.dialect, calls=calls, thinking=thinking, shaped=shaped, marks=self._marks)
        return Prompt(tokens, grammar, answer)

    def _rendered(self, messages: tuple[Message, ...], asked: Asked) -> tuple[list[int], bool]:
        """The tokens of a conversation, and whether they end inside the model's reasoning."""
        if self._template is None:
            raise self._refusal
        self._bound(sum(len(message.content) for message in messages))
        more = self._switches(asked)
        if self.dialect.native:
            turns = dialect.template_messages(messages)
            if asked.tools:
                more["tools"] = dialect.template_tools(asked.tools)
        else:
            turns = dialect.explained(messages, asked.tools)
        (guarded, tools), mark = self._controls.guard([turns, more.get("tools")])
        if tools is not None:
            more["tools"] = tools
        rendered = self._template.render(guarded, **more)
        self._bound(len(rendered))
        tokens: list[int] = []
        for at, part in enumerate(rendered.split(mark)):
            tokens += self._model.tokenise(part, special=True, begin=False, start=at == 0)
        if self._model.adds_bos and tokens[:1] != [self._model.bos]:
            tokens.insert(0, self._model.bos)
        return tokens, self.dialect.thinks_already(rendered)

    def _switches(self, asked: Asked) -> dict[str, Any]:
        """The template's variables for reasoning. BadInput `engine.reasoning` where the model has nothing to switch."""
        if asked.reasoning is None:
            return {}
        if asked.reasoning and not self.dialect.reasons:
            raise BadInput("engine.reasoning", "This model does not reason before it answers.")
        if not asked.reasoning and self.dialect.reasons and not self.dialect.switchable:
            raise BadInput("engine.reasoning", "This model always reasons; it cannot be switched off.")
        return {"enable_thinking": asked.reasoning} if self.dialect.switchable else {}

    def _grammar(self, asked: Asked) -> str | None:
        if asked.tools:
            raise BadInput("engine.prompt", "Functions are for messages, not for prompts.")
        return dialect.grammar(asked, Dialect(), thinking=False, token_of=self._token_of)

    def _filling(self, before: str, after: str) -> list[int]:
        """Prefix, suffix and middle as code models know it (Bavarian et al., 2022). BadInput `engine.no_fill`."""
        model, vocab = self._model, self._model.vocab
        marks = [
            int(of(vocab))
            for of in (llama_cpp.llama_vocab_fim_pre, llama_cpp.llama_vocab_fim_suf, llama_cpp.llama_vocab_fim_mid)
        ]
        if min(marks) < 0:
            raise BadInput("engine.no_fill", "This model has no tokens for filling in: it takes no suffix.")
        self._bound(len(before) + len(after))
        prefix, suffix, middle = marks
        first = [model.bos] if model.adds_bos else []
        before_tokens = model.tokenise(before, special=False, begin=False, start=False)
        after_tokens = model.tokenise(after, special=False, begin=False, start=False)
        return [*first, prefix, *before_tokens, suffix, *after_tokens, middle]

    @cached_property
    def _marks(self) -> dict[int, str]:
        """The dialect's marks that are one token."""
        tokens = {mark: self._token_of(mark) for mark in self.dialect.marks}
        return {token: mark for mark, token in tokens.items() if token is not None}

    def _token_of(self, mark: str) -> int | None:
        """The one token that a mark is, when the vocabulary has it as one that text is never split into."""
        if not mark:
            return None
        tokens = self._model.tokenise(mark, special=True, begin=False)
        if len(tokens) != 1:
            return None
        kinds = llama_cpp.llama_vocab_get_attr(self._model.vocab, tokens[0])
        own = kinds & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL or (
            kinds & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED and mark.startswith("<") and mark.endswith(">")
        )  # as llguidance has it
        return tokens[0] if own else None

    def _check(self, tokens: tuple[int, ...]) -> None:
        worst = next((token for token in tokens if not 0 <= token < self._model.vocabulary), None)
        if worst is not None:
            raise BadInput(
                "engine.tokens", f"{worst} is not a token: this model's are 0 to {self._model.vocabulary - 1}."
            )

    def _bound(self, characters: int) -> None:
        """Refuse, before the work of tokenising, what cannot fit whatever its tokens are."""
        most = self.context * self._model.longest_piece
        if characters > most:
            raise BadInput(
                "engine.context_length",
                f"The prompt has {characters} characters; this model's context of {self.context} tokens holds at most "
                f"{most}.",
            )

"""From a `Submit` frame to checked parameters and token ids.

Owns the way from messages through the chat template to tokens, and the length limits. Invariant: control tokens in a
chat prompt come from the template alone.
"""

from __future__ import annotations

from appliance.engine.frames import Submit
from appliance.engine.llama_context import LlamaModel
from appliance.engine.sampling import check_sampling
from appliance.engine.template import ControlTokens
from appliance.engine.template_process import TemplateProcess
from appliance.kernel.errors import BadInput, IntegrityFailure


class PromptMaker:
    """Tokenises for one model. Used by the reader thread alone."""

    def __init__(self, model: LlamaModel, *, context: int) -> None:
        """`context` is the longest sequence, in tokens. A template that does not compile leaves chat switched off."""
        self._model = model
        self._context = context
        self._controls = ControlTokens(model.control_texts())
        self._refusal = BadInput("engine.no_chat_template", "This model has no chat template; send a prompt instead.")
        self._template: TemplateProcess | None = None
        if model.chat_template:
            bos, eos = model.text_of(model.bos), model.text_of(model.eos)
            try:
                self._template = TemplateProcess(model.chat_template, bos=bos, eos=eos)
            except IntegrityFailure as error:
                self._refusal = BadInput(error.code, error.message)

    @property
    def chats(self) -> bool:
        """Whether messages can be rendered."""
        return self._template is not None

    def tokens(self, submit: Submit) -> list[int]:
        """The prompt's token ids. BadInput says what cannot be served; nothing was changed then."""
        if not submit.tenant:
            raise BadInput("engine.tenant", "A request needs a tenant.")
        check_sampling(submit.params, vocabulary=self._model.vocabulary)
        match submit.messages, submit.prompt:
            case None, str(prompt):
                self._bound(len(prompt))
                tokens = self._model.tokenise(prompt, special=True, begin=True)
            case tuple(), None:
                if submit.params.echo:
                    raise BadInput("engine.sampling", "The sampling parameter echo is for prompts, not for messages.")
                tokens = self._chat(submit)
            case _:
                raise BadInput("engine.prompt", "A request has either messages or a prompt.")
        if not tokens:
            raise BadInput("engine.prompt", "The prompt is empty.")
        if len(tokens) >= self._context:
            raise BadInput(
                "engine.context_length",
                f"The prompt has {len(tokens)} tokens; this model's context of {self._context} tokens must hold the "
                "prompt and the answer.",
            )
        return tokens

    def limit(self, submit: Submit, tokens: list[int]) -> int:
        """The length at which the sequence ends."""
        wanted = submit.params.max_tokens
        return self._context if wanted is None else min(self._context, len(tokens) + wanted)

    def close(self) -> None:
        """End the template's process."""
        if self._template is not None:
            self._template.close()

    def _chat(self, submit: Submit) -> list[int]:
        if self._template is None:
            raise self._refusal
        messages = [{"role": message.role, "content": message.content} for message in submit.messages or ()]
        self._bound(sum(len(message["content"]) for message in messages))
        guarded, mark = self._controls.guard(messages)
        rendered = self._template.render(guarded)
        self._bound(len(rendered))
        tokens: list[int] = []
        for part in rendered.split(mark):
            tokens += self._model.tokenise(part, special=True, begin=False)
        if self._model.adds_bos and tokens[:1] != [self._model.bos]:
            tokens.insert(0, self._model.bos)
        return tokens

    def _bound(self, characters: int) -> None:
        """Refuse, before the work of tokenising, what cannot fit whatever its tokens are."""
        most = self._context * self._model.longest_piece
        if characters > most:
            raise BadInput(
                "engine.context_length",
                f"The prompt has {characters} characters; this model's context of {self._context} tokens holds at most "
                f"{most}.",
            )

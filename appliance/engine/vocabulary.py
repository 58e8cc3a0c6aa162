"""Whether two models write with the same tokens: what one guesses must mean the same to the other.

Every token is compared, special ones too. Models of one family differ in how far their vocabulary is padded; padding
is never written, so it may differ.
"""

from __future__ import annotations

import llama_cpp

from appliance.engine.llama_context import LlamaModel
from appliance.kernel.errors import IntegrityFailure

_SHOWN = 40


def require_same_vocabulary(model: LlamaModel, draft: LlamaModel) -> None:
    """Raise IntegrityFailure `engine.draft_vocabulary` naming the first difference."""
    shared = min(model.vocabulary, draft.vocabulary)
    if model.pieces[:shared] != draft.pieces[:shared]:
        raise _differs(model, draft, next(at for at in range(shared) if model.pieces[at] != draft.pieces[at]))
    for token in range(shared):
        if _marks(model, token) != _marks(draft, token) or (token in model.ends) != (token in draft.ends):
            raise _differs(model, draft, token)
        if not model.pieces[token] and model.text_of(token) != draft.text_of(token):
            raise _differs(model, draft, token)
    if (model.bos, model.eos, model.adds_bos) != (draft.bos, draft.eos, draft.adds_bos):
        raise _refusal("its texts begin or end with other tokens")
    for longer in (model, draft):
        for token in range(shared, longer.vocabulary):
            if not _marks(longer, token) & llama_cpp.LLAMA_TOKEN_ATTR_UNUSED:
                raise _refusal(f"it has {draft.vocabulary} tokens, the model {model.vocabulary}")


def _marks(model: LlamaModel, token: int) -> int:
    """llama.cpp's attributes of a token: control, unused, user-defined …"""
    return int(llama_cpp.llama_vocab_get_attr(model.vocab, token))


def _differs(model: LlamaModel, draft: LlamaModel, token: int) -> IntegrityFailure:
    here, there = (one.text_of(token)[:_SHOWN] for one in (model, draft))
    if here == there:
        return _refusal(f"token {token} ({there!r}) is of another type there")
    return _refusal(f"token {token} is {there!r} there, {here!r} in the model")


def _refusal(why: str) -> IntegrityFailure:
    return IntegrityFailure(
        "engine.draft_vocabulary",
        f"The draft model cannot guess for this model, it has another vocabulary: {why}.",
        hint="Take a smaller model of the same family, or one that was made from this model.",
    )

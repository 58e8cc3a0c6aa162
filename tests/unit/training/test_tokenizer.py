from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from appliance.training.tokenizer import END, as_transformers, encode_documents, train_tokenizer

TEXTS = [f"Use intramuros job {verb} when the job {verb}s." for verb in ("list", "show", "log", "cancel", "resume")] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, vocabulary=320)


def test_equal_texts_give_equal_tokenizers(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(TEXTS, vocabulary=320).to_str() == tokenizer.to_str()


@pytest.mark.parametrize("text", ["Use intramuros.", "  two  spaces\n\ttab ", "Grüße, 世界 🙂", "it's 8443!?", ""])
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_documents_end_with_the_end_token_and_begin_with_none(tokenizer: Tokenizer) -> None:
    (ids,) = encode_documents(tokenizer, ["Use"])
    assert [tokenizer.id_to_token(token) for token in ids][-1] == END
    assert tokenizer.decode(ids[:-1], skip_special_tokens=False) == "Use"


def test_chat_template_marks_every_turn_with_single_tokens(tokenizer: Tokenizer) -> None:
    wrapped = as_transformers(tokenizer, context_length=512)
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    text = wrapped.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|system|>\ns<|end|>\n<|user|>\nu<|end|>\n<|assistant|>\n"
    ids = wrapped.encode(text)
    assert wrapped.convert_ids_to_tokens(ids)[0] == "<|system|>"
    assert ids.count(wrapped.eos_token_id) == 2
    assert wrapped.bos_token_id == wrapped.eos_token_id != wrapped.pad_token_id

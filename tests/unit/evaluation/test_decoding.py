"""Batched decoding against the plainest possible: one row at a time, no cache, no padding."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from appliance.evaluation.decoding import Decoder, batches
from appliance.evaluation.heldout import Example, Message
from appliance.kernel.errors import BadInput, IntegrityFailure

QUESTIONS = [
    "Why?",
    "Which port does the gateway listen on?",
    "a",
    "The quick brown fox jumps over the lazy dog while the other dogs sleep in the sun, don't they?",
    *(f"Question {number} with {'more ' * number}words" for number in range(16)),
]


@pytest.fixture(scope="module")
def decoder(tiny: Path) -> Decoder:
    torch.set_num_threads(1)
    return Decoder(tiny)


def example(question: str, expected: str = "On 8443.") -> Example:
    return Example(context=(Message("user", question),), expected=expected)


def asked(decoder: Decoder, example: Example) -> tuple[list[int], list[int]]:
    return decoder.prompt_and_answer(example.messages, example.expected)


def alone(folder: Path, prompt: list[int], answer: list[int], *, steps: int, end: int) -> tuple[list[int], float]:
    """Greedy tokens and the answer's negative log likelihood, recomputed from scratch for each token."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens: list[int] = []
    with torch.inference_mode():
        while len(tokens) < steps:
            token = int(model(torch.tensor([[*prompt, *tokens]])).logits[0, -1].argmax())
            if token == end:
                break
            tokens.append(token)
        rows = model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    nll = -sum(float(rows[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))
    return tokens, nll


def test_batches_are_cut_from_sorted_lengths() -> None:
    assert batches([5, 1, 5, 3, 2], limit=2) == [[1, 4], [3, 0], [2]]
    assert batches([], limit=2) == []


def test_a_batch_gives_each_row_what_it_would_get_alone(decoder: Decoder, tiny: Path) -> None:
    pairs = [asked(decoder, example(question)) for question in QUESTIONS]
    answers: dict[int, list[int]] = {}
    likelihoods: dict[int, float] = {}
    for found in decoder.answers([prompt for prompt, _ in pairs], max_new_tokens=12):
        answers |= found
    for scored in decoder.likelihoods(pairs):
        likelihoods |= scored
    assert len(answers) == len(likelihoods) == len(QUESTIONS)
    end = decoder.tokenizer.eos_token_id
    for index in range(0, len(QUESTIONS), 3):
        prompt, answer = pairs[index]
        tokens, nll = alone(tiny, prompt, answer, steps=12, end=end)
        assert answers[index] == tokens
        assert likelihoods[index] == pytest.approx(nll, rel=1e-4)
    assert len({tuple(tokens) for tokens in answers.values()}) > 10


def test_question_and_answer_are_framed_by_the_template(decoder: Decoder) -> None:
    prompt, answer = asked(decoder, example("Why?", "Because."))
    assert decoder.tokenizer.decode(prompt) == "<|user|>Why?<|end|><|assistant|>"
    assert decoder.tokenizer.decode(answer) == "Because.<|end|>"


def test_an_answer_stops_where_the_models_positions_end(decoder: Decoder) -> None:
    room = 3
    prompt = [50] * (decoder.context_length - room)
    (found,) = decoder.answers([prompt], max_new_tokens=10)
    assert len(found[0]) <= room


def test_bytes_that_are_no_utf_8_and_unknown_tokens_do_not_break_the_text(decoder: Decoder) -> None:
    lone = decoder.tokenizer.encode("é", add_special_tokens=False)[:1]
    assert decoder.text([*lone, *lone, 100_000]).encode()


def test_a_template_that_rewrites_the_question_is_refused(tiny: Path) -> None:
    decoder = Decoder(tiny)
    decoder.tokenizer.chat_template = "{{ messages | length }}{% if add_generation_prompt %}:{% endif %}"
    with pytest.raises(BadInput, match=r"evaluation\.chat_template"):
        asked(decoder, example("Why?"))


def test_a_model_without_template_is_refused(tiny: Path) -> None:
    decoder = Decoder(tiny)
    decoder.tokenizer.chat_template = None
    with pytest.raises(BadInput, match=r"evaluation\.chat_template"):
        asked(decoder, example("Why?"))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityFailure, match=r"model\.unreadable"):
        Decoder(tmp_path)


def test_likelihoods_add_up_over_the_vocabulary(decoder: Decoder) -> None:
    prompt, _ = asked(decoder, example("Why?"))
    total = 0.0
    for scored in decoder.likelihoods([(prompt, [token]) for token in range(384)]):
        total += sum(math.exp(-nll) for nll in scored.values())
    assert total == pytest.approx(1.0, abs=1e-5)

"""Asks both engines the same things and gathers what the parity gate judges. Only a job loads this module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from appliance.conversion import corpus
from appliance.conversion.parity import (
    FollowedRun,
    GreedyRun,
    StringComparison,
    TokenComparison,
    compare_strings,
    compare_tokens,
)
from appliance.conversion.parity_llama import GgufFacts, LlamaModel
from appliance.conversion.parity_transformers import TransformersModel
from appliance.kernel.errors import IntegrityFailure

_CELLS_STEP = 256
"""llama.cpp rounds a context up to a multiple of this."""

OnStep = Callable[[int, int], None]
"""Called with (done, of) after each prompt in each engine; may raise to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Both comparisons, and what llama.cpp reads from the file."""

    tokens: TokenComparison
    texts: StringComparison
    facts: GgufFacts


def compare_engines(
    folder: Path, gguf: Path, *, questions: Sequence[str], tokens: int, threads: int, on_step: OnStep
) -> Findings:
    """Compare a model folder with its GGUF file: greedy tokens, tokenisation, chat template, end tokens.

    `questions` join the built-in ones; each prompt is decoded for `tokens` steps. Raises IntegrityFailure
    for files that cannot be run, and for another template or end token; the figures are left to the caller to judge.
    """
    torch.set_num_threads(threads)
    reference = TransformersModel(folder)
    rendered = [reference.question(text) for text in (*corpus.QUESTIONS, *questions)] + list(corpus.TEXTS)
    encoded = [reference.encode_prompt(text) for text in rendered]
    # A prompt must leave room for its answer in what the model was made for.
    prompts = [ids for ids in encoded if 0 < len(ids) <= reference.context_length - tokens]
    runs: list[GreedyRun] = []
    for run in reference.greedy_runs(prompts, tokens=tokens):
        runs.append(run)
        on_step(len(runs), 2 * len(prompts))
    cells = max((len(run.prompt) + len(run.tokens) for run in runs), default=1)
    context = -(-cells // _CELLS_STEP) * _CELLS_STEP
    with LlamaModel(gguf, context=context, threads=threads) as candidate:
        _require_same_frame(reference, candidate)
        followed: list[FollowedRun] = []
        for run in runs:
            followed.append(candidate.follow(run.prompt, run.tokens))
            on_step(len(runs) + len(followed), 2 * len(prompts))
        return Findings(
            tokens=compare_tokens(runs, followed),
            texts=_compare_texts(reference, candidate, rendered),
            facts=candidate.facts(),
        )


def _compare_texts(reference: TransformersModel, candidate: LlamaModel, prompts: Sequence[str]) -> StringComparison:
    """Tokenise built-in strings and prompts in both engines, once as trusted text and once as a user's."""
    strings = corpus.strings(reference.special_tokens())
    names = [f"string {text[:40]!r}" for text in strings] + [f"prompt {n}" for n in range(1, len(prompts) + 1)]
    texts = [*strings, *prompts]
    wanted = [reference.encode(text, special=True) + reference.encode(text, special=False) for text in texts]
    got = [
        candidate.encode(text, add_special=True, parse_special=True)
        + candidate.encode(text, add_special=False, parse_special=False)
        for text in texts
    ]
    return compare_strings(wanted, got, names)


def _require_same_frame(reference: TransformersModel, candidate: LlamaModel) -> None:
    """Both engines must render the same prompt and stop at the same tokens."""
    if candidate.facts().chat_template != reference.chat_template:
        raise IntegrityFailure("conversion.parity", "The converted file carries another chat template.")
    ignored = sorted(token for token in reference.end_tokens() if not candidate.is_end(token))
    if ignored:
        raise IntegrityFailure("conversion.parity", f"llama.cpp would not stop at the end tokens {ignored}.")

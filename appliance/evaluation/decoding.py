"""Greedy answers and answer likelihoods of one model folder, in float32, batched.

Rows of a batch are padded on the left, masked, and given their own positions, so that a row's tokens are those it
would get alone. Batches are cut from the prompts sorted by length: the same prompts always meet in the same batches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch

from appliance.kernel.errors import BadInput, IntegrityFailure
from appliance.weights.loading import load_model, unreadable

BATCH = 16
_LOGITS_BYTES = 1 << 28
"""Room for one batch's float32 logits when answers are scored: with a large vocabulary, batches get smaller."""

Context = list[dict[str, str]]
"""Messages up to the question, as templates take them."""


class Decoder:
    """A model folder in memory."""

    def __init__(self, folder: Path) -> None:
        """Load tokenizer and weights strictly. Raises IntegrityFailure ("model.unreadable")."""
        loaded = load_model(folder)
        self.tokenizer: Any = loaded.tokenizer
        self._model = loaded.model
        self.context_length = loaded.context_length
        self._vocabulary = int(loaded.model.config.vocab_size)
        self._ends = loaded.end_tokens()

    def prompt(self, context: Context, *, plain: bool = False) -> list[int]:
        """Return the tokens of a question: through the chat template, or its texts as they stand.

        Raises BadInput ("evaluation.chat_template") when the template fails or renders nothing.
        """
        asked = self._plain(_joined(context)) if plain else self._encode(self._render(context, prompt=True))
        if not asked:
            raise _no_frame()
        return asked

    def prompt_and_answer(self, context: Context, expected: str, *, plain: bool = False) -> tuple[list[int], list[int]]:
        """Return the tokens of a question and those of an answer to it, with its end token in the chat style.

        Raises BadInput ("evaluation.chat_template") when the template fails or does not extend the question.
        """
        if plain:
            return self._plain_pair(_joined(context), expected)
        prompt = self._render(context, prompt=True)
        whole = self._render([*context, {"role": "assistant", "content": expected}], prompt=False)
        if not whole.startswith(prompt):
            raise BadInput(
                "evaluation.chat_template",
                "The chat template renders an answered question differently from the question alone.",
                hint="The rendered answer must begin with the rendered prompt.",
            )
        answer = self._encode(whole.removeprefix(prompt))
        end = next((place + 1 for place, token in enumerate(answer) if token in self._ends), len(answer))
        asked = self._encode(prompt)
        if not asked or not answer:
            raise _no_frame()
        return asked, answer[:end]

    def windows(self, text: str) -> list[tuple[list[int], list[int]]]:
        """Return a text's tokens in pieces that fit the model: one token to begin with, and those that it scores.

        Every token but the first of the text is scored once; a begin token, where there is one, scores that too.
        """
        ids = self._encode(text)
        begin = self.tokenizer.bos_token_id
        if begin is not None:
            ids = [begin, *ids]
        room = self.context_length - 1
        return [([ids[start]], ids[start + 1 : start + 1 + room]) for start in range(0, max(len(ids) - 1, 0), room)]

    def timed(self, prompt: Sequence[int], *, new_tokens: int) -> tuple[float, float]:
        """Return the seconds to the first token and the tokens a second after it, of one greedy answer."""
        began = time.perf_counter()
        self._greedy([prompt], max_new_tokens=1, stops=False)
        first = time.perf_counter() - began
        began = time.perf_counter()
        (answer,) = self._greedy([prompt], max_new_tokens=new_tokens, stops=False)
        rest = max(time.perf_counter() - began - first, 1e-9)
        return first, (len(answer) - 1) / rest

    def text(self, tokens: Sequence[int]) -> str:
        """Return an answer's text without special tokens; bytes that are no UTF-8 become U+FFFD."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def answers(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> Iterator[dict[int, list[int]]]:
        """Yield, batch by batch, the greedy answer's tokens by the prompt's index.

        An answer ends before an end token, after `max_new_tokens`, or where the model's positions end.
        """
        for batch in batches([len(prompt) for prompt in prompts], limit=BATCH):
            found = self._greedy([prompts[index] for index in batch], max_new_tokens=max_new_tokens)
            yield dict(zip(batch, found, strict=True))

    def likelihoods(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Iterator[dict[int, float]]:
        """Yield, batch by batch, the negative log likelihood (nats, summed) of each answer given its prompt."""
        longest = max((len(answer) for _, answer in pairs), default=0) + 1
        limit = max(1, min(BATCH, _LOGITS_BYTES // (4 * self._vocabulary * longest)))
        for batch in batches([len(prompt) + len(answer) for prompt, answer in pairs], limit=limit):
            yield dict(zip(batch, self._nll([pairs[index] for index in batch]), strict=True))

    @torch.inference_mode()
    def _greedy(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, stops: bool = True) -> list[list[int]]:
        ids, mask = _pad_left(prompts)
        answers: list[list[int]] = [[] for _ in prompts]
        open_rows = set(range(len(prompts)))
        cache: Any = None
        for _ in range(max_new_tokens):
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            output = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            chosen = finite(output.logits[:, -1]).argmax(-1)
            for row in sorted(open_rows):
                token = int(chosen[row])
                if stops and token in self._ends:
                    open_rows.discard(row)
                    continue
                answers[row].append(token)
                if len(prompts[row]) + len(answers[row]) >= self.context_length:
                    open_rows.discard(row)
            if not open_rows:
                break
            ids = chosen.unsqueeze(-1)
            mask = torch.cat([mask, torch.ones_like(ids)], dim=-1)
        return answers

    @torch.inference_mode()
    def _nll(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
        ids, mask = _pad_left([[*prompt, *answer] for prompt, answer in pairs])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        longest = max(len(answer) for _, answer in pairs)
        kept = longest + 1
        logits = self._model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=kept
        ).logits
        found = []
        for row, (_, answer) in enumerate(pairs):
            steps = finite(logits[row, kept - 1 - len(answer) : kept - 1])
            wanted = torch.tensor([*answer], dtype=torch.long).unsqueeze(-1)
            found.append(-float(steps.double().log_softmax(-1).gather(-1, wanted).sum()))
        return found

    def _plain(self, text: str) -> list[int]:
        """Tokenise as the model is fed plain text: with its begin token, without an end token."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=True)
        while ids and ids[-1] in self._ends:
            ids.pop()
        return self._known(ids)

    def _plain_pair(self, prompt: str, answer: str) -> tuple[list[int], list[int]]:
        """Cut prompt and answer where the prompt's tokens end; white space between them belongs to the answer."""
        bare = prompt.rstrip()
        asked, whole = self._plain(bare), self._plain(bare + prompt[len(bare) :] + answer)
        if whole[: len(asked)] != asked:
            asked, whole = self._plain(bare), [*self._plain(bare), *self._encode(prompt[len(bare) :] + answer)]
        begin = self.tokenizer.bos_token_id
        if not asked and begin is not None:
            asked, whole = [begin], [begin, *whole]
        if not asked or len(whole) == len(asked):
            raise _no_frame()
        return asked, whole[len(asked) :]

    def _render(self, messages: Context, *, prompt: bool) -> str:
        try:
            return str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False))
        except (jinja2.TemplateError, ValueError) as error:
            raise BadInput(
                "evaluation.chat_template",
                f"The model's chat template is missing or fails: {str(error)[:200]}.",
                hint="Only models with a chat template can be evaluated on conversations.",
            ) from error

    def _encode(self, text: str) -> list[int]:
        return self._known(self.tokenizer.encode(text, add_special_tokens=False))

    def _known(self, ids: list[int]) -> list[int]:
        if any(token >= self._vocabulary for token in ids):
            raise unreadable(f"the tokenizer gives tokens beyond the {self._vocabulary} of the weights")
        return ids


def batches(lengths: Sequence[int], *, limit: int) -> list[list[int]]:
    """Return the indices of `lengths` in batches of `limit`, shortest first; equal lengths keep their order."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    return [order[start : start + limit] for start in range(0, len(order), limit)]


def _joined(context: Context) -> str:
    return "\n".join(message["content"] for message in context)


def _no_frame() -> BadInput:
    return BadInput(
        "evaluation.chat_template",
        "A question or an answer is rendered to nothing.",
        hint="Only models whose template frames each turn can be evaluated on conversations.",
    )


def _pad_left(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and mask, both (rows, longest); padding is token 0 under mask 0."""
    width = max(len(row) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = torch.tensor([*row], dtype=torch.long)
        mask[index, width - len(row) :] = 1
    return ids, mask


def finite(logits: torch.Tensor) -> torch.Tensor:
    """Return logits that are all numbers. Raises IntegrityFailure ("evaluation.not_finite")."""
    if not bool(torch.isfinite(logits).all()):
        raise IntegrityFailure(
            "evaluation.not_finite",
            "The model's logits are not finite numbers; its weights are ruined.",
            hint="Train it again with a smaller learning rate, or import it again.",
        )
    return logits

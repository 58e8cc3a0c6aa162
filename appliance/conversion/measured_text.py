"""A data set's rows as the token sequences a ladder is measured on, whatever the data set's form.

Conversations go through the model's chat template, as they do when the model is served, and only their last answer is
scored: what users ask is nothing that a tuned model was taught to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import msgspec

from appliance.conversion.ladder import Piece
from appliance.kernel.errors import BadInput, IntegrityFailure
from appliance.weights.loading import unreadable


class _Message(msgspec.Struct, frozen=True):
    role: str
    content: str


class _Row(msgspec.Struct, frozen=True):
    messages: tuple[_Message, ...] = ()
    text: str = ""
    prompt: str = ""
    completion: str = ""
    chosen: str = ""


def load_tokenizer(folder: Path) -> Any:
    """Load a model folder's tokenizer. Raises IntegrityFailure (`model.unreadable`)."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(f"{type(error).__name__}: {str(error)[:200]}") from error


def token_rows(tokenizer: Any, file: Path) -> list[Piece]:
    """Tokenise every row of train.jsonl or heldout.jsonl. Raises BadInput (`conversion.no_text`) for an empty one."""
    lines = file.read_bytes().splitlines() if file.is_file() else []
    rows = [_piece(tokenizer, line, f"line {number} of {file.name}") for number, line in enumerate(lines, start=1)]
    if not any(row.count > 0 for row in rows):
        raise BadInput(
            "conversion.no_text",
            f"The data set has no text in {file.name} to measure with.",
            hint="Use a data set with training rows and held-out rows.",
        )
    return rows


def _piece(tokenizer: Any, line: bytes, where: str) -> Piece:
    try:
        row = msgspec.json.decode(line, type=_Row)
    except msgspec.MsgspecError as error:
        raise IntegrityFailure("conversion.dataset_unreadable", f"{where} is not a row: {error}.") from error
    messages = [{"role": message.role, "content": message.content} for message in row.messages]
    if row.chosen:
        messages.append({"role": "assistant", "content": row.chosen})
    if not messages:
        return Piece(tokens=tuple(tokenizer.encode(row.text or row.prompt + row.completion)))
    if not tokenizer.chat_template:
        return Piece(tokens=tuple(tokenizer.encode("\n".join(message["content"] for message in messages))))
    try:
        asked = str(tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True))
        whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except (jinja2.TemplateError, ValueError) as error:
        raise BadInput("conversion.chat_template", f"The chat template fails: {str(error)[:200]}.") from error
    if messages[-1]["role"] != "assistant" or not whole.startswith(asked):
        return Piece(tokens=tuple(tokenizer.encode(whole, add_special_tokens=False)))
    question = tokenizer.encode(asked, add_special_tokens=False)
    answer = tokenizer.encode(whole.removeprefix(asked), add_special_tokens=False)
    # What the template writes after the end of an answer, such as a line break, is never generated.
    special = set(tokenizer.all_special_ids)
    end = next((place for place, token in enumerate(answer, start=1) if token in special), len(answer))
    return Piece(tokens=(*question, *answer[:end]), scored_from=max(1, len(question)))

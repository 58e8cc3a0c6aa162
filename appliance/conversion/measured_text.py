"""A data set's rows as the token sequences a ladder is measured on, whatever the data set's form.

Conversations go through the model's chat template, as they do when the model is served.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import msgspec

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


def token_rows(tokenizer: Any, file: Path) -> list[list[int]]:
    """Tokenise every row of train.jsonl or heldout.jsonl. Raises BadInput (`conversion.no_text`) for an empty one."""
    lines = file.read_bytes().splitlines() if file.is_file() else []
    rows = [_tokens(tokenizer, line, f"line {number} of {file.name}") for number, line in enumerate(lines, start=1)]
    if not any(len(row) > 1 for row in rows):
        raise BadInput(
            "conversion.no_text",
            f"The data set has no text in {file.name} to measure with.",
            hint="Use a data set with training rows and held-out rows.",
        )
    return rows


def _tokens(tokenizer: Any, line: bytes, where: str) -> list[int]:
    try:
        row = msgspec.json.decode(line, type=_Row)
    except msgspec.MsgspecError as error:
        raise IntegrityFailure("conversion.dataset_unreadable", f"{where} is not a row: {error}.") from error
    messages = [{"role": message.role, "content": message.content} for message in row.messages]
    if row.chosen:
        messages.append({"role": "assistant", "content": row.chosen})
    text = row.text or row.prompt + row.completion
    if messages and tokenizer.chat_template:
        try:
            text = str(tokenizer.apply_chat_template(messages, tokenize=False))
        except (jinja2.TemplateError, ValueError) as error:
            raise BadInput("conversion.chat_template", f"The chat template fails: {str(error)[:200]}.") from error
    elif messages:
        text = "\n".join(message["content"] for message in messages)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=not messages)
    return ids

"""How many tokens a text has for a model, by its tokenizer.json alone: no weights, no template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from appliance.kernel.errors import BadInput


def token_counter(file: Path) -> Callable[[str], int]:
    """Return a function that counts tokens. Raises BadInput `dataset.tokenizer`."""
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        raise BadInput(
            "dataset.tokenizer", f"The model's tokenizer cannot be read: {str(error)[:120]}.", hint="Import it again."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)

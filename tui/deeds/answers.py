"""Reads what was filled in where the appliance takes a number. Raises BadInput with what the field takes."""

from __future__ import annotations

from appliance.kernel.errors import BadInput


def count(name: str, text: str) -> int:
    """Return a whole number."""
    if not text.isdecimal():
        raise BadInput("console.field", f"{name} cannot be {text!r}.", hint="It takes a whole number.")
    return int(text)


def share(name: str, text: str) -> float:
    """Return a part of the whole."""
    try:
        return float(text)
    except ValueError:
        raise BadInput("console.field", f"{name} cannot be {text!r}.", hint="It takes a number from 0 to 1.") from None

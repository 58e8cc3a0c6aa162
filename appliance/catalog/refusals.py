"""Why a model file is not taken: four kinds of refusal, each with its stable code, in one wording.

model.not_a_model    something else under this name            BadInput
model.unsupported    a model, but of a kind not served here    BadInput
model.truncated      the file ends before what it announces    IntegrityFailure
model.lying_header   its statements contradict each other      IntegrityFailure
"""

from __future__ import annotations

from appliance.kernel.errors import BadInput, IntegrityFailure


def not_a_model(name: str, why: str) -> BadInput:
    """The file is something else."""
    return BadInput(
        "model.not_a_model",
        f"{name} is not a model: {why}.",
        hint="Give a .gguf file or a Hugging Face folder with safetensors weights.",
    )


def unsupported(name: str, why: str, *, hint: str = "") -> BadInput:
    """It is a model that this appliance does not take."""
    return BadInput("model.unsupported", f"{name} cannot be used here: {why}.", hint=hint)


def truncated(name: str, why: str) -> IntegrityFailure:
    """The file is shorter than it says."""
    return IntegrityFailure(
        "model.truncated",
        f"{name} is cut short: {why}.",
        hint="Copy it again and compare its SHA-256 with the publisher's.",
    )


def lying_header(name: str, why: str) -> IntegrityFailure:
    """The header contradicts itself or the file."""
    return IntegrityFailure(
        "model.lying_header",
        f"{name} is damaged or forged: {why}.",
        hint="Get it again from its publisher and compare its SHA-256.",
    )


def printable(text: str, limit: int = 200) -> str:
    """Return text from a file fit for a terminal: no control characters, at most `limit` characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:limit])

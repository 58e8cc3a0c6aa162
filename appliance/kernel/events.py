"""The event vocabulary: what jobs, supervision and services report, in one typed form.

Events are rendered alike by CLI, console and log. They never carry prompts, generated text, keys or passwords.
"""

from __future__ import annotations

import msgspec


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress", omit_defaults=True):
    """How far long work is. `fraction` is 0..1; `eta_seconds` is estimated from a moving average."""

    phase: str
    fraction: float = 0.0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    memory_bytes: int | None = None


class Note(msgspec.Struct, frozen=True, kw_only=True, tag="note"):
    """One line for a person."""

    text: str


class Metric(msgspec.Struct, frozen=True, kw_only=True, tag="metric", omit_defaults=True):
    """A measured figure, such as exact_match = 0.91; with `step`, one measured on the way, after so many steps."""

    name: str
    value: float
    step: int = 0


class CheckpointSaved(msgspec.Struct, frozen=True, kw_only=True, tag="checkpoint"):
    """A sealed checkpoint was published; a crash now costs only what follows it."""

    step: int
    digest: str


class CheckpointSkipped(msgspec.Struct, frozen=True, kw_only=True, tag="checkpoint_skipped"):
    """A checkpoint did not verify and an older one is used."""

    name: str
    reason: str


class StateChanged(msgspec.Struct, frozen=True, kw_only=True, tag="state"):
    """A job, deployment or supervised process entered a state."""

    state: str
    reason: str = ""


Event = Progress | Note | Metric | CheckpointSaved | CheckpointSkipped | StateChanged
"""Everything that can be reported; the `type` field tells them apart on the wire."""

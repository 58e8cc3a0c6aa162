"""Typing back the recovery key: which two groups, and whether they are right. Pure but for the choice of the groups."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

Choose = Callable[[int], tuple[int, int]]


def two_of(count: int) -> tuple[int, int]:
    """Choose two different groups, counted from 1."""
    first, second = sorted(secrets.SystemRandom().sample(range(1, count + 1), 2))
    return first, second


@dataclass(slots=True)
class TypedBack:
    """Asks for two groups; after a wrong answer for two others."""

    key: str
    choose: Choose = two_of
    groups: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.groups = self.choose(len(self.key.split("-")))

    def right(self, first: str, second: str) -> bool:
        """Tell whether both groups are right."""
        parts = self.key.split("-")
        pairs = zip(self.groups, (first, second), strict=True)
        good = all(
            secrets.compare_digest("".join(typed.split()).lower().encode(), parts[group - 1].encode())
            for group, typed in pairs
        )
        if not good:
            self.groups = self.choose(len(parts))
        return good

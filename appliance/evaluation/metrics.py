"""Figures about answers, as pure functions over texts and numbers.

Normalisation: white space at both ends is dropped and every run of white space inside counts as one space. Case and
punctuation count: an answer such as `8443` or `ERR_17` is right or wrong as written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

_LARGEST_NLL = 700.0
"""exp() of more than this is no finite double; a ruined model is reported as exp(700), not as a broken document."""


def normalise(text: str) -> str:
    """Return the text with white space collapsed."""
    return " ".join(text.split())


def exact_match(expected: str, got: str) -> bool:
    """Tell whether two answers are equal after normalisation."""
    return normalise(expected) == normalise(got)


def token_f1(expected: str, got: str) -> float:
    """Return the harmonic mean of precision and recall over words, 0..1 (SQuAD, Rajpurkar et al. 2016).

    Words are what white space separates; two empty answers agree fully.
    """
    wanted, found = expected.split(), got.split()
    if not wanted or not found:
        return float(wanted == found)
    common = (Counter(wanted) & Counter(found)).total()
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean. Raises ValueError when there is nothing to average."""
    if not values:
        raise ValueError("the mean of nothing is not defined")
    return math.fsum(values) / len(values)


def perplexity(nll: Sequence[float], tokens: Sequence[int]) -> float:
    """Return exp of the mean negative log likelihood per token over all answers together.

    `nll` holds each answer's sum in nats, `tokens` its length. Raises ValueError for no tokens at all.
    """
    total = sum(tokens)
    if total <= 0:
        raise ValueError("the perplexity of no tokens is not defined")
    return math.exp(min(math.fsum(nll) / total, _LARGEST_NLL))

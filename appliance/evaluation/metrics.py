"""Figures about answers, as pure functions over texts and numbers.

Normalisation: white space at both ends is dropped and every run of white space inside counts as one space. Case and
punctuation count: an answer such as `8443` or `ERR_17` is right or wrong as written.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

_LARGEST_NLL = 700.0
"""exp() of more than this is no finite double; a ruined model is reported as exp(700), not as a broken document."""

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


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


def normalised(text: str, steps: Iterable[str]) -> str:
    """Return a text after the named steps, always in SQuAD's order: case, punctuation, articles, whitespace."""
    wanted = set(steps)
    if "case" in wanted:
        text = text.lower()
    if "punctuation" in wanted:
        text = text.translate(_NO_PUNCTUATION)
    if "articles" in wanted:
        text = _ARTICLES.sub(" ", text)
    return normalise(text) if "whitespace" in wanted else text


def rouge_l(expected: str, got: str) -> float:
    """Return the F measure of the longest common subsequence of words, 0..1 (Lin 2004, beta 1)."""
    wanted, found = expected.split(), got.split()
    if not wanted or not found:
        return float(wanted == found)
    row = [0] * (len(found) + 1)
    for word in wanted:
        diagonal = 0
        for place, other in enumerate(found, start=1):
            above = row[place]
            row[place] = diagonal + 1 if word == other else max(above, row[place - 1])
            diagonal = above
    common = row[-1]
    return 0.0 if not common else 2 * common / (len(wanted) + len(found))


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

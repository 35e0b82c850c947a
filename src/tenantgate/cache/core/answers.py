"""How alike two answers are: a fresh one of the provider's, and the stored one that would have been served.

Two answers to one question differ in their words, so equal words prove that they say the same and other words prove
nothing. What speaks for another answer are facts that can't both hold, a yes beside a no, a negation, other figures,
and a meaning that the embedder finds far. All between is neither: how often right answers look so depends on the
provider, which `tenantgate.cache.core.bound` learns.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Final

__all__ = ["FAR_ANSWERS", "Verdict", "likeness"]


class Verdict(enum.StrEnum):
    """Of two answers."""

    SAME = "same"
    """In all words."""
    ALIKE = "alike"
    """In other words, and nothing keeps them apart."""
    OTHER = "other"
    """They contradict each other, or are about something else."""


FAR_ANSWERS: Final = 0.6
"""Cosine below which two answers are about something else. Of two answers to one question in other words 1 to 2 % are
below, of answers to two questions 75 to 85 % (`benchmarks/bench_bound.py`)."""

_READ: Final = 4000  # characters of each that are compared; the embedder reads fewer
_SHORT: Final = 60  # words up to which all figures must agree
_FIGURES: Final = 0.5  # share of a longer answer's figures that the other must have, too
_WORD: Final = re.compile(r"\w+(?:['’.-]\w+)*")
_FIGURE: Final = re.compile(r"\d+(?:[.,:/-]\d+)*")
# A capital that no beginning of a sentence explains.
_NAME: Final = re.compile(r"(?<=[\w,;] )[^\W\d_a-z][\w'’.-]*")
_NEGATIONS: Final = frozenset(
    "not no never none nobody nothing neither nor cannot without except unless isn't aren't don't doesn't didn't won't "
    "can't couldn't shouldn't wouldn't hasn't haven't wasn't weren't ain't".split()
)
_YES: Final = re.compile(r"\W*(yes|yeah|yep|correct|true|absolutely|certainly|of course)\b", re.IGNORECASE)
_NO: Final = re.compile(r"\W*(no|nope|incorrect|false|unfortunately|never|not)\b", re.IGNORECASE)


def likeness(fresh: str, stored: str, cosine: Callable[[str, str], float]) -> Verdict:
    """The verdict on two answers. Symmetric, if `cosine` is.

    Args:
        fresh: an answer.
        stored: another.
        cosine: of two texts under the embedder, -1 to 1; asked only where the words don't decide.
    """
    a, b = fresh[:_READ], stored[:_READ]
    left, right = _words(a), _words(b)
    if left == right:
        return Verdict.SAME
    short = max(len(left), len(right)) <= _SHORT
    if _polarity(a) * _polarity(b) < 0 or _other_figures(a, b, short):
        return Verdict.OTHER
    if short and (_negations(left) != _negations(right) or _other_names(a, b, left, right)):
        return Verdict.OTHER
    return Verdict.ALIKE if cosine(a, b) >= FAR_ANSWERS else Verdict.OTHER


def _words(text: str) -> list[str]:
    return [word.casefold().replace("’", "'") for word in _WORD.findall(text)]


def _polarity(text: str) -> int:
    return 1 if _YES.match(text) else -1 if _NO.match(text) else 0


def _negations(words: list[str]) -> int:
    return sum(word in _NEGATIONS for word in words) % 2


def _other_names(a: str, b: str, left: list[str], right: list[str]) -> bool:
    """Whether each has a name that the other doesn't have, in whatever case."""
    mine, theirs = ({name.casefold().rstrip(".") for name in _NAME.findall(text)} - {"i"} for text in (a, b))
    return bool(mine.difference(right)) and bool(theirs.difference(left))


def _other_figures(a: str, b: str, short: bool) -> bool:
    left, right = (frozenset(figure.replace(",", "") for figure in _FIGURE.findall(text)) for text in (a, b))
    if short:
        return left != right
    fewer, more = sorted((left, right), key=len)
    return bool(fewer) and len(fewer & more) < _FIGURES * len(fewer)

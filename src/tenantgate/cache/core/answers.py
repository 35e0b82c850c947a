"""Whether two answers say the same: a fresh one of the provider's, and the stored one that would have been served.

Two answers to one question differ in their words, so equal words prove that they say the same and other words prove
nothing. Facts weigh first: figures, a yes beside a no, a negation, names. What is nearly the same in its words but for
one or two of them is another answer ("your card arrives …", "your refund arrives …"); what is said in quite other words
is the same where the embedder finds it near. In doubt the two differ: that costs hits, the other way round would cost
the bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["NEAR_ANSWERS", "differ"]

NEAR_ANSWERS: Final = 0.8
"""Cosine at and above which two answers say the same, if no fact keeps them apart."""

_READ: Final = 4000  # characters of each that are compared; the embedder reads fewer
_SHORT: Final = 60  # words up to which all figures and names must agree
_ALIKE: Final = 0.6  # share of the words in common above which the words that differ tell
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
_PLAIN: Final = frozenset(
    "a an the is are was were be been of for in at by as and or to from with on it its this that there here you your i "
    "we our can could will would should may do does have has so then just please if".split()
)


def differ(fresh: str, stored: str, cosine: Callable[[str, str], float]) -> bool:
    """Whether the two answers say something else. Symmetric, if `cosine` is.

    Args:
        fresh: an answer.
        stored: another.
        cosine: of two texts under the embedder, -1 to 1; asked only where the words don't decide.
    """
    a, b = fresh[:_READ], stored[:_READ]
    left, right = _words(a), _words(b)
    if left == right:
        return False
    if _polarity(a) * _polarity(b) < 0 or _facts_differ(a, b, max(len(left), len(right)) <= _SHORT):
        return True
    mine, theirs = set(left) - _PLAIN, set(right) - _PLAIN
    shared = len(mine & theirs) / max(1, min(len(mine), len(theirs)))
    if shared >= _ALIKE and mine - theirs and theirs - mine and max(len(left), len(right)) <= _SHORT:
        return True
    return not cosine(a, b) >= NEAR_ANSWERS


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _polarity(text: str) -> int:
    return 1 if _YES.match(text) else -1 if _NO.match(text) else 0


@dataclass(frozen=True, slots=True)
class _Facts:
    figures: frozenset[str]
    names: frozenset[str]
    words: frozenset[str]
    negations: int

    @classmethod
    def of(cls, text: str) -> _Facts:
        words = [word.replace("’", "'") for word in _words(text)]
        return cls(
            figures=frozenset(figure.replace(",", "") for figure in _FIGURE.findall(text)),
            names=frozenset(name.casefold().rstrip(".") for name in _NAME.findall(text)) - {"i"},
            words=frozenset(words),
            negations=sum(word in _NEGATIONS for word in words),
        )


def _facts_differ(a: str, b: str, short: bool) -> bool:
    left, right = _Facts.of(a), _Facts.of(b)
    if short:
        names = left.names - right.words, right.names - left.words
        return left.figures != right.figures or all(names) or left.negations % 2 != right.negations % 2
    fewer, more = sorted((left.figures, right.figures), key=len)
    return bool(fewer) and len(fewer & more) < _FIGURES * len(fewer)

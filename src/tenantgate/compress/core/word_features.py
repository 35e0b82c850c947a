"""What a word's form and its place among others say about its worth, as numbers for a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FEATURES", "features"]

FEATURES: Final = ("length", "often", "again", "repeat", "capital", "mark", "restart")
"""Logarithms of its length and of its share of the text's words in percent; whether the next word is the same, the
one before was, it has a capital, it is a transcript's mark, the next word begins like it."""


def features(text: str, words: Sequence[tuple[int, int]]) -> NDArray[Any]:
    """For each of `words` (spans) its `FEATURES`: float32 [n, 7]."""
    low = [text[s:e].lower() for s, e in words]
    often = Counter(low)
    percent = 100 / max(1, len(low))
    out = np.zeros((len(low), len(FEATURES)), np.float32)
    for i, word in enumerate(low):
        following = low[i + 1] if i + 1 < len(low) else ""
        out[i] = (
            math.log(len(word)),
            math.log(often[word] * percent + 0.1),
            following == word,
            i > 0 and low[i - 1] == word,
            text[words[i][0]].isupper(),
            word[0] == "{",
            following != word and following.startswith(word),
        )
    return out

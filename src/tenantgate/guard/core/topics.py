"""Topics by example phrases: what a tenant doesn't want to hear of, or the only things it wants to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from tenantgate.pii.core import Finding, without_surrogates
from tenantgate.time_left import check_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tenantgate.guard.core.ports import Embedder

__all__ = ["Topics"]

_WINDOW: Final = 300  # characters: what an embedder reads at once
_STEP: Final = 240
_MOST: Final = 8  # windows of one text; of a longer one those at equal distances
_WORD: Final = re.compile(r"\w")


class Topics:
    """Example phrases as vectors; thread-safe, if the embedder is."""

    def __init__(self, phrases: Sequence[str], embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: NDArray[np.float32] = np.stack([embedder.embed(p) for p in phrases])

    def denied(self, text: str) -> tuple[Finding, ...]:
        """Each window of the text, scored by its cosine to the nearest phrase (0 where that is negative)."""
        return tuple(Finding(a, b, "DENIED_TOPIC", score) for a, b, score in self._near(text))

    def allowed(self, text: str) -> tuple[Finding, ...]:
        """The text as a whole, the higher scored the farther it is from every phrase."""
        scores = [score for _, _, score in self._near(text)]
        return (Finding(0, len(text), "OFF_TOPIC", 1 - max(scores)),) if scores else ()

    def _near(self, text: str) -> Iterator[tuple[int, int, float]]:
        for start, end in _windows(len(text)):
            check_time()
            piece = without_surrogates(text[start:end])
            if _WORD.search(piece):
                cosine = float((self._vectors @ self._embedder.embed(piece)).max())
                yield start, end, min(1.0, max(0.0, cosine))


def _windows(length: int) -> list[tuple[int, int]]:
    starts = list(range(0, max(1, length - _WINDOW + _STEP), _STEP))
    if len(starts) > _MOST:
        starts = [starts[round(i * (len(starts) - 1) / (_MOST - 1))] for i in range(_MOST)]
    return [(s, min(length, s + _WINDOW)) for s in starts]

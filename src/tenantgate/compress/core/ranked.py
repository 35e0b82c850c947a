"""A pruner that asks a model how much each word is worth, and keeps the worthiest, as LLMLingua-2 does.

Pure: the model comes in through `WordScorer`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from tenantgate.compress.core.fillers import noted, rank_fillers, tokens_of, without_orphans
from tenantgate.compress.core.spans import merged, spans_of

__all__ = ["RankedPruner", "WordScorer"]

_FEWEST: Final = 8  # words that may go; below that a share means little


class WordScorer(Protocol):
    """Says how much each word of a text is worth."""

    @property
    def fingerprint(self) -> str:
        """Names the weights."""

    def scores(self, text: str, words: Sequence[tuple[int, int]], deadline: float) -> Sequence[float] | None:
        """A number for each of `words` (spans in order, without overlap): the higher, the sooner it stays.

        None: out of time, or a text that the model can't read. `deadline` is in seconds of `time.monotonic`.
        """


class RankedPruner:
    """`Pruner` by a model; safe for threads if the scorer is.

    Of the words that aren't protected the `rate` share with the highest scores stays. Speakers' labels and
    signs go only where nothing is left for them. `fillers_first` takes what `FillerPruner` would take
    before anything else, and hesitations at any rate.
    """

    def __init__(
        self, scorer: WordScorer, *, fillers_first: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.scorer = scorer
        self._fillers_first = fillers_first
        self._clock = clock
        self.fingerprint = scorer.fingerprint

    def keep(
        self, text: str, protected: Sequence[tuple[int, int]], rate: float, deadline: float
    ) -> Sequence[tuple[int, int]] | None:
        """Spans to keep; None: out of time, nothing to drop, or a language that the model doesn't know."""
        tokens = tokens_of(text)
        words = [t for t in tokens if t.is_word]
        labels = noted(tokens, text, protected)
        free = [i for i, t in enumerate(words) if not t.protected and t.label < 0]
        if self._fillers_first:
            rank_fillers(words, text)
        going = max(math.floor(len(free) * (1 - rate)), sum(words[i].rank == 0 for i in free))
        if len(free) < _FEWEST or going < 1 or self._clock() >= deadline:
            return None
        scores = self.scorer.scores(text, [(t.start, t.end) for t in words], deadline)
        if scores is None or len(scores) != len(words) or self._clock() >= deadline:
            return None
        # Of equal words the later goes first: what is said again is worth less.
        order = sorted(free, key=lambda i: (words[i].rank, _finite(scores[i]), -i))
        gone = {words[i].start for i in order[:going]}
        return merged(spans_of([*protected, *without_orphans(tokens, gone, text, labels)]))


def _finite(score: float) -> float:
    """A model that gives no number can't say that a word may go."""
    return score if math.isfinite(score) else math.inf

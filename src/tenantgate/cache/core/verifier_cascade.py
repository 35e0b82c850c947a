"""Several readers of one pair, the quickest first: for most pairs one is enough.

After each reader a stage makes one score of all that is known: the logistic function of a weighted sum of the
readers' log-odds and the pair's cosine. Where that is surely a no, or the reader itself is very sure of a yes, the
reading ends; the last stage decides what is left.

Source: Viola and Jones, Rapid Object Detection using a Boosted Cascade of Simple Features (CVPR 2001).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantgate.cache.core.ports import NO_STATES
from tenantgate.errors import ConfigError

if TYPE_CHECKING:
    from tenantgate.cache.core.ports import PairReader

__all__ = ["Cascade", "Stage"]

_MOST = 60.0  # log-odds; beyond that a float knows no other score than 0 and 1


@dataclass(frozen=True, slots=True)
class Stage:
    """What is made of the readers up to this one."""

    weights: tuple[float, ...]
    """One for each reader so far, its log-odds' part in the sum."""

    no: float = 0.0
    """A score at or below this is final, 0..1. The last stage's is always final."""

    cosine: float = 0.0
    """What the cosine of the two adds to the log-odds for each 1 that it is above `at`."""

    at: float = 0.0
    """The cosine that says nothing, -1..1."""

    yes: float = math.inf
    """Where this stage's own reader gives log-odds at or above this, the score is final. Without the cosine: questions
    that are hard to tell apart are near to one another, and a quick reader that went by that would take too many for
    the same."""

    def odds(self, found: Sequence[float], similarity: float) -> float:
        """The log-odds of all that is known: the readers' and the cosine, -1..1."""
        weighed = sum(weight * each for weight, each in zip(self.weights, found, strict=True))
        return weighed + self.cosine * (similarity - self.at)

    def score(self, found: Sequence[float], similarity: float) -> float:
        """The score, 0..1, of `odds`."""
        return 1 / (1 + math.exp(-max(-_MOST, min(_MOST, self.odds(found, similarity)))))


class Cascade:
    """A `PairVerifier` of several readers and a stage for each.

    Raises:
        ConfigError: the stages don't fit the readers.
    """

    def __init__(self, readers: Sequence[PairReader], stages: Sequence[Stage]) -> None:
        if not readers or [len(stage.weights) for stage in stages] != list(range(1, len(readers) + 1)):
            raise ConfigError("stages: must be one for each reader, with a weight for each reader up to it")
        self._readers, self._stages = tuple(readers), tuple(stages)
        parts = [reader.fingerprint for reader in readers] + [repr(stage) for stage in stages]
        self.fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def truncates(self, a: str, b: str) -> bool:
        """Whether one of the readers would not read the two to their end."""
        return any(reader.truncates(a, b) for reader in self._readers)

    def score(self, a: str, b: str, similarity: float, states: Mapping[str, bytes] = NO_STATES) -> float:
        """From 0 to 1, the higher the surer that both ask the same.

        Args:
            a: a question.
            b: another.
            similarity: their cosine under the default embedder, -1..1.
            states: what is known of the texts, for the readers.
        """
        found: list[float] = []
        score = 0.0
        for reader, stage in zip(self._readers, self._stages, strict=True):
            found.append(reader.log_odds(a, b, states))
            score = stage.score(found, similarity)
            if score <= stage.no or found[-1] >= stage.yes:
                break
        return score

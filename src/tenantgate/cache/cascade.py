"""Several readers of one pair, the quickest first: most pairs are clear before the slow ones are asked.

After each reader a stage makes one score of all that is known: the logistic function of a weighted sum of the
readers' log-odds. Where that is sure, the reading ends. The last stage decides whatever is left.

Source: Viola and Jones, Rapid Object Detection using a Boosted Cascade of Simple Features (CVPR 2001).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantgate.errors import ConfigError

if TYPE_CHECKING:
    from tenantgate.cache.ports import PairReader

__all__ = ["Cascade", "Stage"]

_MOST = 60.0  # log-odds; beyond that a float knows no other score than 0 and 1


@dataclass(frozen=True, slots=True)
class Stage:
    """What is made of the readers up to this one."""

    weights: tuple[float, ...]
    """One for each reader so far, its log-odds' part in the sum."""

    no: float = 0.0
    """A score at or below this is final, 0..1. The last stage's is always final."""

    yes: float = 1.0
    """A score at or above this is final if it is as high as what is asked for, 0..1; see `nearest`."""

    nearest: float = -1.0
    """But not where the cosine of the two is below this or isn't known: what a quick reader takes wrongly for the same
    is mostly far apart."""

    def score(self, found: Sequence[float]) -> float:
        """The score, 0..1, of the readers' log-odds."""
        odds = sum(weight * each for weight, each in zip(self.weights, found, strict=True))
        return 1 / (1 + math.exp(-max(-_MOST, min(_MOST, odds))))


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

    def score(self, a: str, b: str, similarity: float | None, enough: float = 1.0) -> float:
        """From 0 to 1, the higher the surer that both ask the same.

        Read no further than it takes to know whether the score is at least `enough`: what comes back is on the same
        side of it as the score for ``enough=1``.

        Args:
            a: a question.
            b: another.
            similarity: their cosine under the default embedder, -1..1; None where it isn't known.
            enough: what the score is compared with, 0..1.
        """
        near = -1.0 if similarity is None else similarity
        found: list[float] = []
        best = 0.0
        for reader, stage in zip(self._readers, self._stages, strict=True):
            found.append(reader.log_odds(a, b))
            score = stage.score(found)
            if stage is self._stages[-1]:
                break
            if score >= stage.yes and near >= stage.nearest:
                best = max(best, score)
                if best >= enough:
                    return best
            elif score <= stage.no and not best:
                return score
        return max(best, score)

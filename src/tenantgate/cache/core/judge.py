"""Whether the answer to one question may answer another that means nearly the same.

Two parts. The alignment (`tenantgate.cache.core.alignment`) refuses whatever leaves something over on one side. Then
the verifier's score must clear the calibrated threshold. The rules are cheap and run first; each must pay for the
right pairs it costs (`benchmarks/bench_cache.py` prints both).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from tenantgate.cache.core.alignment import Difference, compare, plainly_apart
from tenantgate.cache.core.ports import PairVerifier
from tenantgate.cache.core.wording import read

__all__ = ["NEAR", "Difference", "choose", "difference"]

T = TypeVar("T")

NEAR: Final = 0.6
"""Below this cosine two questions are never the same (of 40,000 labelled pairs 1 % of the right ones lie there), so the
verifier need not be asked."""

# The verifier reads the nearest, and where that isn't the same the next: on a replay of 6,000 requests that answered
# 9 to 12 % more of them. Long texts take it several times as long, so there it reads one.
_MOST_READ: Final = 3
_SHORT: Final = 240  # characters
_LONG: Final = 240  # characters of two texts: from here on, it pays to look at their words first


def difference(a: str, b: str) -> Difference | None:
    """What keeps the two questions apart, or None if no rule does. Symmetric."""
    if len(a) + len(b) > _LONG and plainly_apart(a, b):
        return Difference.WORDS
    return compare(read(a), read(b))


def choose(
    question: str, near: Iterable[tuple[float, str, T]], verifier: PairVerifier, threshold: float
) -> T | None:
    """The stored answer that may serve `question`, or None.

    Args:
        question: what is asked.
        near: (cosine, stored question, whatever stands for its answer), the nearest first; read as far as needed.
        verifier: what reads two questions together.
        threshold: the verifier's score that is needed, from the calibration.
    """
    most = _MOST_READ if len(question) <= _SHORT else 1
    for similarity, stored, answer in near:
        if similarity < NEAR:
            break
        if difference(question, stored) is not None or verifier.truncates(question, stored):
            continue
        # The first that will do. To read on for a higher score found no better answers (ten replays, 1.86 % wrong
        # beside 1.87 %) and took half as many readings again.
        if verifier.score(question, stored, similarity) >= threshold:
            return answer
        most -= 1
        if most == 0:
            break
    return None

"""Whether the answer to one question may answer another that means nearly the same.

Two parts. The alignment (`tenantgate.cache.core.alignment`) refuses whatever leaves something over on one side. Then
the verifier's score must clear the calibrated threshold. The rules are cheap and run first; each must pay for the
right pairs it costs (`benchmarks/bench_cache.py` prints both).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from tenantgate.cache.core.alignment import Difference, compare, plainly_apart
from tenantgate.cache.core.ports import PairVerifier
from tenantgate.cache.core.text_parts import read

__all__ = ["NEAR", "Candidate", "Difference", "Scored", "choose", "difference"]

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


@dataclass(frozen=True, slots=True)
class Candidate(Generic[T]):
    """A stored question near to the one that is asked, and whatever stands for its `answer`.

    `similarity` is the cosine of the two, -1 to 1; `states` what the embedder knows of the stored question.
    """

    similarity: float
    question: str
    answer: T
    states: bytes | None = None


@dataclass(frozen=True, slots=True)
class Scored(Generic[T]):
    """A candidate that the verifier read, with the score that it gave, 0 to 1."""

    candidate: Candidate[T]
    score: float


def choose(
    question: str,
    near: Iterable[Candidate[T]],
    verifier: PairVerifier,
    threshold: float,
    *,
    states: bytes | None = None,
) -> Scored[T] | None:
    """The candidate with the highest score of those read; its answer may be served if that reaches the threshold.

    None where none was read: there is no candidate, or rules exclude all.

    Args:
        question: what is asked.
        near: the nearest first; drawn as far as needed.
        verifier: what reads two questions together.
        threshold: the verifier's score that is needed, from the calibration.
        states: what the embedder knows of the question.
    """
    best: Scored[T] | None = None
    most = _MOST_READ if len(question) <= _SHORT else 1
    for candidate in near:
        if candidate.similarity < NEAR:
            break
        stored = candidate.question
        if difference(question, stored) is not None or verifier.truncates(question, stored):
            continue
        known = {question: states, stored: candidate.states}
        given = {text: each for text, each in known.items() if each is not None}
        score = verifier.score(question, stored, candidate.similarity, given)
        if best is None or score > best.score:
            best = Scored(candidate, score)
        most -= 1
        # The first that will do. To read on for a higher score found no better answers (ten replays, 1.86 % wrong
        # beside 1.87 %) and took half as many readings again.
        if score >= threshold or most == 0:
            break
    return best

"""The lookup: which stored answer a request gets, if any.

1. Bypass. What must not be cached isn't asked (`tenantgate.cache.core.question.cacheable`), and so a `Question` it is.
2. Exact. An entry of the very same request is served, if it is as fresh as the client wants.
3. Fitness. A text that the models can't read, or of a language in which they weren't measured, isn't compared.
4. Neighbours. The nearest stored questions of the same tenant and partition, in the round trip of the exact entry.
5. Rules. Two questions are kept apart where one says what the other doesn't (`tenantgate.cache.core.judge`).
6. Verifier. A model reads both questions together and gives a score.
7. Threshold. The score must reach what the operator's bound on wrong answers needs.
8. Guard. What is found is served only to a request that the route's guard has let pass.
9. Probe. Some answers that would do are left out, so that the provider's can be compared with them.

Whatever isn't known is a miss, and a store that fails is a bypass: the request goes on as if there were no cache.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantgate.cache.core import entry as entries
from tenantgate.cache.core.judge import Candidate, Scored, choose
from tenantgate.cache.core.plan import BypassReason, MissReason, may_serve
from tenantgate.cache.core.ports import UnavailableError
from tenantgate.cache.core.reads import StoreReader
from tenantgate.cache.core.similar import NOWHERE, Place

if TYPE_CHECKING:
    from tenantgate.cache.core.bound import Plan
    from tenantgate.cache.core.entry import Entry
    from tenantgate.cache.core.fitness import Unfit
    from tenantgate.cache.core.pending import Doubt
    from tenantgate.cache.core.ports import AnswerStore, BoundLearner, Neighbour, Sealer
    from tenantgate.cache.core.question import Question
    from tenantgate.cache.core.similar import SimilarLevel

__all__ = ["Bypass", "Hit", "Level", "Lookup", "Miss", "Resources", "look_up"]


class Level(enum.StrEnum):
    """How an answer was found."""

    EXACT = "exact"
    SIMILAR = "similar"


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored answer is served; `similarity` is the cosine of the two questions, None for the same request."""

    name: str
    entry: Entry
    level: Level
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Miss:
    """The provider is asked, and its answer may be stored at `place`.

    `refresh` says that the client wanted none of the answers that are stored. `comparison` names the stored answer with
    which the provider's is to be compared.
    """

    reason: MissReason | Unfit = MissReason.NOT_FOUND
    refresh: bool = False
    place: Place = NOWHERE
    comparison: Doubt | None = None


@dataclass(frozen=True, slots=True)
class Bypass:
    """The request goes past the cache, and nothing is stored; `failure` is the store's, if that is why."""

    reason: BypassReason
    failure: UnavailableError | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was decided; `damaged` names entries that were met and could not be opened."""

    decision: Hit | Miss | Bypass
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """What lookups of one tenant work with.

    `similar` is None while that level is off, `exact` whether the other one is on. `guard_passed` tells whether the
    route's guard has let the request pass; it is asked where there is something to serve. `now` is in Unix seconds.
    """

    store: AnswerStore
    sealer: Sealer
    now: float
    similar: SimilarLevel | None = None
    exact: bool = True
    guard_passed: Callable[[], bool] = lambda: True


def look_up(question: Question, using: Resources) -> Lookup:
    """The decision about a question, which is none of those that must not be cached (step 1)."""
    stored = _Stored(question, using)
    decision: Hit | Miss | Bypass
    try:
        decision = _decide(question, using, stored)
    except UnavailableError as failure:
        decision = Bypass(failure.reason, failure)
    match decision:
        case Miss() | Bypass(failure=UnavailableError()) if question.control.only_if_cached:
            decision = Miss(MissReason.ONLY_IF_CACHED)
    return Lookup(decision, tuple(stored.damaged))


def _decide(question: Question, using: Resources, stored: _Stored) -> Hit | Miss | Bypass:
    reads = StoreReader(question, using.store, using.sealer, using.similar)
    hit, refresh = None, question.control.no_cache
    if using.exact and not question.control.no_cache:
        entry = stored.entry(question.name, reads.exact())  # step 2
        if entry is not None and stored.is_fresh(entry):
            hit = Hit(question.name, entry, Level.EXACT)
        refresh = entry is not None
    judged = None if hit is not None else _judge(reads, using, question, stored)  # steps 3 to 7
    hit = hit or (None if judged is None else judged.hit)
    if hit is not None and not using.guard_passed():  # step 8
        return Bypass(BypassReason.GUARD)
    comparison = None if judged is None else _sample(judged, question)  # step 9
    if hit is not None and comparison is None:
        return hit
    reason = MissReason.PROBE if hit is not None else reads.place.unfit or MissReason.NOT_FOUND
    return Miss(reason, refresh, reads.place, comparison)


@dataclass(frozen=True, slots=True)
class _Judged:
    """The neighbour with the highest score, if one was read, and the score that it needs."""

    best: Scored[Hit] | None
    threshold: float
    learner: BoundLearner | None
    plan: Plan | None

    @property
    def hit(self) -> Hit | None:
        """That neighbour's answer, if it may be served."""
        best = self.best
        return best.candidate.answer if best is not None and best.score >= self.threshold else None


def _judge(reads: StoreReader, using: Resources, question: Question, stored: _Stored) -> _Judged | None:
    """The neighbours in the light of rules, verifier and threshold; None where they weren't searched."""
    found = reads.neighbours()
    level, embedding = using.similar, reads.place.embedding
    if found is None or level is None or level.verifier is None or embedding is None:
        return None
    plan = None
    if level.learner is not None:
        plan = level.learner.plan(question.keys, using.sealer, found.plan)
    threshold = level.threshold if plan is None else plan.threshold
    candidates = stored.candidates(found.neighbours)
    best = choose(embedding.text, candidates, level.verifier, threshold, states=embedding.states)
    return _Judged(best, threshold, level.learner, plan)


def _sample(judged: _Judged, question: Question) -> Doubt | None:
    """The neighbour with which the provider's answer is compared, if this request is drawn for that; counts it."""
    learner, plan, best, served = judged.learner, judged.plan, judged.best, judged.hit is not None
    if learner is None or plan is None:
        return None
    drawn = None
    if best is not None and not question.control.only_if_cached:
        drawn = learner.doubt(plan, best.candidate.answer.name, best.score, served=served)
    score = None if best is None else best.score
    learner.saw(question.keys, score, hit=served and drawn is None)
    return drawn


class _Stored:
    """Entries of the question's tenant, opened; `damaged` collects the names of those that can't be."""

    def __init__(self, question: Question, using: Resources) -> None:
        self._keys, self._control = question.keys, question.control
        self._sealer, self._now = using.sealer, using.now
        self.damaged: list[str] = []

    def entry(self, name: str, sealed: bytes | None) -> Entry | None:
        """The entry of this name, if there is one and it can be opened."""
        if sealed is None:
            return None
        plain = self._sealer.open(sealed, key=self._keys.entry(name).encode())
        entry = None if plain is None else entries.decode(plain)
        if entry is None:
            self.damaged.append(name)
        return entry

    def is_fresh(self, entry: Entry) -> bool:
        """Whether it is what the client accepts."""
        age_s, ttl_s = entry.age_s(self._now), entry.remaining_s(self._now)
        return may_serve(self._control, age_s=age_s, ttl_s=ttl_s)

    def candidates(self, neighbours: Iterable[Neighbour]) -> Iterator[Candidate[Hit]]:
        """Those that can be compared and that the client accepts, opened one at a time."""
        for near in neighbours:
            entry = self.entry(near.name, near.value)
            if entry is not None and entry.question is not None and self.is_fresh(entry):
                hit = Hit(near.name, entry, Level.SIMILAR, near.similarity)
                yield Candidate(near.similarity, entry.question, hit, entry.states)

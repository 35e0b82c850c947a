"""The lookup: which stored answer a request gets, if any.

1. Bypass. What must not be cached isn't asked (`tenantgate.cache.core.question.cacheable`), and so a `Question` it is.
2. Exact. An entry of the very same request is served, if it is as fresh as the client wants.
3. Fitness. A text that the models can't read, or of a language in which they weren't measured, isn't compared. To tell
   the language takes longest, so it is asked for where there is something to compare.
4. Neighbours. The stored questions of the same tenant, partition and bucket (`tenantgate.cache.core.bucket`), in the
   round trip of the exact entry. Most questions have none, and need no model.
5. Rules. Two questions are kept apart where one says what the other doesn't (`tenantgate.cache.core.judge`). What is
   left is embedded, and the nearest come first.
6. Verifier. A model reads both questions together and gives a score.
7. Threshold. The score must reach what the operator's bound on wrong answers needs.
8. Guard. What is found is served only to a request that the route's guard has let pass.
9. Probe. Some answers that would do are left out, exact ones too, so that the provider's can be compared with them.

Whatever isn't known is a miss, and a store that fails is a bypass: the request goes on as if there were no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from tenantgate.cache.core.cache_control import BypassReason, MissReason, Status
from tenantgate.cache.core.judge import Candidate, Scored, choose, difference
from tenantgate.cache.core.outcome import Bypass, Hit, Level, Lookup, Miss
from tenantgate.cache.core.ports import UnavailableError
from tenantgate.cache.core.similar import Place
from tenantgate.cache.core.store_reads import StoreReader

if TYPE_CHECKING:
    from tenantgate.cache.core.entry import Entry
    from tenantgate.cache.core.evidence import Plan
    from tenantgate.cache.core.pending import Doubt
    from tenantgate.cache.core.ports import AnswerStore, BoundLearner, LeaseWish, Neighbour, Sealer
    from tenantgate.cache.core.question import Question
    from tenantgate.cache.core.similar import SimilarLevel
    from tenantgate.models.ports import Reading

__all__ = ["Resources", "look_up"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What lookups of one tenant work with.

    `similar` is None while that level is off, `exact` whether the other one is on. `guard_passed` tells whether the
    route's guard has let the request pass; it is asked where there is something to serve.
    `now` is in Unix seconds. `wish` is for the lease by which others wait for this request.
    """

    store: AnswerStore
    sealer: Sealer
    now: float
    similar: SimilarLevel | None = None
    exact: bool = True
    guard_passed: Callable[[], bool] = lambda: True
    wish: LeaseWish | None = None


def look_up(question: Question, using: Resources) -> Lookup:
    """The decision about a question; what must not be cached never becomes one (step 1)."""
    reader = StoreReader(question, using.store, using.sealer, using.similar, using.wish)
    decision: Hit | Miss | Bypass
    try:
        decision = _decide(question, using, reader)
    except UnavailableError as failure:
        decision = Bypass(failure.reason, failure)
    match decision:
        case Miss() | Bypass(failure=UnavailableError()) if question.control.only_if_cached:
            decision = Miss(MissReason.ONLY_IF_CACHED)
    return Lookup(decision, tuple(reader.damaged), reader.misplaced, reader.leased)


def _decide(question: Question, using: Resources, reader: StoreReader) -> Hit | Miss | Bypass:
    hit, refresh, judged, stale = None, question.control.no_cache, None, None
    if using.exact and not question.control.no_cache:
        entry = reader.exact()  # step 2
        if entry is not None and question.accepts(entry, using.now):
            hit = Hit(question.name, entry, Level.EXACT)
        elif entry is not None and entry.remaining_s(using.now) <= 0:
            stale = Hit(question.name, entry, Level.STALE, status=Status.STALE)
        else:
            refresh = entry is not None
    if hit is None:
        judged = _judge(question, using, reader)  # steps 3 to 7
        hit = None if judged is None else judged.hit
    if hit is not None and not using.guard_passed():  # step 8
        return Bypass(BypassReason.GUARD)
    # Step 9.
    comparison = _repeat(question, using, reader, hit) if judged is None else _sample(question, judged)
    if hit is not None and comparison is None:
        return hit
    reason = MissReason.PROBE if hit is not None else reader.place.unfit or MissReason.NOT_FOUND
    return Miss(reason, refresh, reader.place, comparison, hit or stale)


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


def _judge(question: Question, using: Resources, reader: StoreReader) -> _Judged | None:
    """The neighbours in the light of rules, verifier and threshold; None where they weren't searched."""
    found = reader.neighbours()  # steps 3 and 4
    level, text = using.similar, question.text
    if found is None or level is None or level.verifier is None or text is None:
        return None
    learner, threshold, plan = level.learner, level.threshold, None
    if learner is not None:
        plan = learner.plan(question.keys, using.sealer, found.plan)
        threshold = plan.threshold
    opened = _candidates(question, using, reader, found.neighbours)
    kept = (each for each in opened if difference(text, each[1].question or "") is None)
    alike = list(islice(kept, level.candidates))
    if alike and (unfit := level.other_language(text)) is not None:
        reader.place = Place(unfit=unfit)
        return None
    alike = [each for each in alike if level.other_language(each[1].question or "") is None]
    best = None
    if alike:
        asked = level.reading(text)
        near = sorted((_near(level, asked, hit) for hit in alike), key=lambda each: -each.similarity)
        best = choose(text, near, level.verifier, threshold, states=asked.states)  # steps 5 to 7
    return _Judged(best, threshold, learner, plan)


def _candidates(
    question: Question, using: Resources, reader: StoreReader, neighbours: Iterable[Neighbour]
) -> Iterator[tuple[str, Entry]]:
    """The neighbours that can be compared and that the client accepts, opened one at a time."""
    for near in neighbours:
        entry = reader.neighbour(near)
        if entry is not None and entry.question is not None and question.accepts(entry, using.now):
            yield near.name, entry


def _near(level: SimilarLevel, asked: Reading, stored: tuple[str, Entry]) -> Candidate[Hit]:
    name, entry = stored
    known = level.reading(entry.question or "")
    similarity = float(asked.vector @ known.vector)
    hit = Hit(name, entry, Level.SIMILAR, similarity)
    return Candidate(similarity, entry.question or "", hit, known.states)


def _repeat(question: Question, using: Resources, reader: StoreReader, hit: Hit | None) -> Doubt | None:
    """The exact hit, if it is drawn: the provider's next answer to the same question is compared with it."""
    learner = None if using.similar is None else using.similar.learner
    if learner is None or hit is None or question.control.only_if_cached:
        return None
    drawn = learner.repeat(question.keys, hit.name)
    # Only what is compared is learnt from.
    return drawn if drawn is not None and reader.place.bucket is not None else None


def _sample(question: Question, judged: _Judged) -> Doubt | None:
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

"""Every outcome of a lookup, on a store of dictionaries; and what holds of all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core import entry as entries
from tenantgate.cache.core import judge, similar
from tenantgate.cache.core.bucket import bucket
from tenantgate.cache.core.cache_control import BypassReason, MissReason
from tenantgate.cache.core.entry import Entry
from tenantgate.cache.core.evidence import Plan
from tenantgate.cache.core.fitness import Unfit
from tenantgate.cache.core.lookup import Resources, look_up
from tenantgate.cache.core.outcome import Bypass, Hit, Lookup, Miss
from tenantgate.cache.core.partition import Keys, partition_of
from tenantgate.cache.core.pending import Doubt
from tenantgate.cache.core.ports import NO_STATES, HeldBackError, RefusedError, Sealer, UnavailableError
from tenantgate.cache.core.question import Cacheable, Question, cacheable, question_of
from tenantgate.cache.core.similar import NOWHERE, Place, SimilarLevel
from tenantgate.cache.core.testing import HashingEmbedder, MemoryStore, WordVerifier
from tenantgate.cache.core.text_parts import read
from tenantgate.llm.chat import ChatReply, parse_request
from tenantgate.store.sealing import TenantSealer
from tenantgate.tenant import TenantId

ASKED, ALIKE = "please tell me what a sextant is made of", "please tell me what a sextant is made of now"
YEAR, OTHER_YEAR = "how many cars did we sell in the year 2023", "how many cars did we sell in the year 2024"
NOW = 1000.0


class English:
    """All texts are English, but one."""

    def language(self, text: str) -> str:
        return "de" if text.startswith("wie ") else "en"


def sealer_of(tenant: str) -> Sealer:
    return TenantSealer("k" * 32, TenantId(tenant))


def ask(
    text: Any, tenant: str = "acme", *, control: str = "", namespace: str = "n", **parameters: Any
) -> Question:
    body = {"messages": [{"role": "user", "content": text}], **parameters}
    request = parse_request(json.dumps(body).encode())
    asked = cacheable(request, TenantId(tenant), (control,))
    assert isinstance(asked, Cacheable)
    sealer = sealer_of(tenant)
    return question_of(asked, partition_of(asked.tenant, namespace, asked.request, sealer), sealer)


def level_of(embedder: Any, *args: Any, **more: Any) -> SimilarLevel:
    return SimilarLevel(embedder.read, embedder.truncates, *args, **more)


@dataclass
class Site:
    """A store, a level, and what is done with them."""

    store: MemoryStore = field(default_factory=MemoryStore)
    level: SimilarLevel | None = field(
        default_factory=lambda: level_of(HashingEmbedder(), WordVerifier(), English(), 0.7)
    )

    def keep(self, question: Question, answer: str = "An answer.", *, ttl_s: int = 300) -> None:
        """Store an answer that was given a hundred seconds ago."""
        tenant = str(question.partition.tenant)
        sealer = sealer_of(tenant)
        place = NOWHERE if self.level is None else self.level.place(question, sealer)
        text = question.text if place.bucket else None
        entry = Entry(text, ChatReply(answer, "stop", "m"), NOW - 100, ttl_s, place.bucket)
        key = question.keys.entry(question.name)
        self.store.values[key] = sealer.seal(entries.encode(entry), key=key.encode())
        if place.bucket is not None:
            names = self.store.buckets.setdefault(place.bucket, [])
            if question.name in names:
                names.remove(question.name)
            names.append(question.name)

    def look_up(self, question: Question, **using: Any) -> Lookup:
        tenant = str(question.partition.tenant)
        resources = Resources(self.store, sealer_of(tenant), NOW, similar=self.level)
        return look_up(question, replace(resources, **using))


def outcome(found: Lookup) -> tuple[str, str]:
    """The decision's kind and its level or reason."""
    match found.decision:
        case Hit(level=level):
            return "hit", level.value
        case Miss(reason, refresh):
            return "refresh" if refresh else "miss", reason.value
        case Bypass(reason):
            return "bypass", reason.value


def text_of(found: Lookup) -> str:
    assert isinstance(found.decision, Hit)
    return found.decision.entry.reply.text


# -- outcomes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [False, True])
@pytest.mark.parametrize(
    ("stored", "asked", "control", "result"),
    [
        (None, ASKED, "", ("miss", "")),
        (ASKED, ASKED, "", ("hit", "exact")),
        (ASKED, ALIKE, "", ("hit", "similar")),
        (ASKED, "do lions sleep in trees", "", ("miss", "")),
        (YEAR, OTHER_YEAR, "", ("miss", "")),  # near, and a rule keeps them apart
        (ASKED, "so what is that sextant made of", "", ("miss", "")),  # near, and the score is too low
        ("wie geht es dir", "wie geht es dir", "", ("hit", "exact")),
        ("wie geht es dir", "wie geht es dir now", "", ("miss", "language")),  # a neighbour would be served
        (ASKED, "wie geht es dir", "", ("miss", "")),  # none would, so the language isn't asked for
        (ASKED, ASKED + " 🙂", "", ("miss", "characters")),
        (ASKED, "word " * 450, "", ("miss", "too_long")),  # for the embedder
        (ASKED, "word " * 390, "", ("miss", "")),
        (ASKED, " ", "", ("miss", "no_text")),
        (ASKED, [{"type": "image_url", "image_url": {"url": "data:1"}}], "", ("miss", "no_text")),
        (ASKED, ASKED, "no-cache", ("refresh", "")),
        (ASKED, ALIKE, "no-cache", ("refresh", "")),
        (ASKED, ASKED, "max-age=100", ("hit", "exact")),
        (ASKED, ASKED, "max-age=99", ("refresh", "")),
        (ASKED, ALIKE, "max-age=99", ("miss", "")),
        (ASKED, ALIKE, "min-fresh=201", ("miss", "")),
        (ASKED, ASKED, "only-if-cached", ("hit", "exact")),
        (ASKED, ALIKE, "only-if-cached", ("hit", "similar")),
        (None, ASKED, "only-if-cached", ("miss", "only_if_cached")),
        (ASKED, ASKED, "only-if-cached, no-cache", ("miss", "only_if_cached")),
    ],
)
def test_outcomes(
    stored: str | None, asked: Any, control: str, result: tuple[str, str], expected: bool
) -> None:
    site, question = Site(), ask(asked, control=control)
    if stored is not None:
        site.keep(ask(stored))
    if expected:
        site.store.expected.add(question.name)
    assert outcome(site.look_up(question)) == result


def test_a_hit_says_which_entry_it_is_and_how_near() -> None:
    site, stored = Site(), ask(ASKED)
    site.keep(stored)
    exact, similar = (site.look_up(ask(text)).decision for text in (ASKED, ALIKE))
    assert isinstance(exact, Hit)
    assert isinstance(similar, Hit)
    assert (exact.name, exact.similarity) == (stored.name, None)
    assert similar.name == stored.name
    assert similar.similarity is not None
    assert 0.6 < similar.similarity < 1


def test_an_entry_whose_time_is_over_is_not_served() -> None:
    site = Site()
    site.keep(ask(ASKED), ttl_s=100)
    found = site.look_up(ask(ASKED))
    assert outcome(found) == ("miss", "")
    assert isinstance(found.decision, Miss)
    assert found.decision.spare is not None
    assert (found.decision.spare.level, found.decision.spare.status) == ("stale", "Stale")
    assert outcome(site.look_up(ask(ALIKE))) == ("miss", "")


def test_a_level_that_is_off_is_not_asked() -> None:
    site = Site()
    site.keep(ask(ASKED))
    assert outcome(site.look_up(ask(ASKED), exact=False)) == ("hit", "similar")
    site.level = None
    assert outcome(site.look_up(ask(ASKED))) == ("hit", "exact")
    missed = site.look_up(ask(ALIKE))
    assert missed == Lookup(Miss())
    assert outcome(site.look_up(ask(ASKED), exact=False)) == ("miss", "")


# -- what a miss leaves ----------------------------------------------------------------------------------


def test_a_miss_says_where_its_answer_belongs() -> None:
    question = ask(ASKED)
    missed = Site().look_up(question).decision
    assert isinstance(missed, Miss)
    about = question.partition.fingerprint.encode() + bucket(read(ASKED))
    assert missed.place == Place(
        question.keys.bucket(sealer_of("acme").name(b"bucket" + about)), searched=True
    )


@pytest.mark.parametrize("control", ["no-cache", ""])
def test_where_nothing_is_searched_the_answer_is_found_later(control: str) -> None:
    site = Site()
    assert site.level is not None
    if not control:
        site.level = replace(site.level, verifier=None)  # it is still loading
    missed = site.look_up(ask(ASKED, control=control)).decision
    assert isinstance(missed, Miss)
    assert missed.place.bucket is not None
    assert not missed.place.searched
    assert "neighbours" not in site.store.round_trips


@pytest.mark.parametrize("asked", ["", ASKED + " 🙂", "word " * 600])
def test_what_is_not_compared_has_no_place(asked: str) -> None:
    missed = Site().look_up(ask(asked)).decision
    assert isinstance(missed, Miss)
    assert isinstance(missed.reason, Unfit)
    assert (missed.place.bucket, missed.place.searched) == (None, False)


def test_the_language_is_asked_for_where_it_decides() -> None:
    class Noting(English):
        asked: ClassVar[list[str]] = []

        def language(self, text: str) -> str:
            self.asked.append(text)
            return super().language(text)

    german, later = "wie geht es dir now", "wie lange dauert das"
    site = Site(level=level_of(HashingEmbedder(), WordVerifier(), Noting(), 0.7))
    for text in (ASKED, "wie geht es dir"):
        site.keep(ask(text))
    steps: list[tuple[str, str, tuple[str, str], list[str], list[str]]] = [
        ("acme", ASKED, ("hit", "exact"), [], ["neighbours"]),
        ("acme", "do lions sleep in trees", ("miss", ""), [], ["neighbours"]),
        ("acme", later, ("miss", ""), [], ["neighbours"]),
        ("acme", ALIKE, ("hit", "similar"), [ALIKE, ASKED], ["neighbours"]),
        ("acme", german, ("miss", "language"), [german], ["neighbours"]),
        ("globex", later, ("miss", ""), [], ["neighbours"]),
    ]
    for tenant, text, result, languages, trips in steps:
        Noting.asked.clear()
        site.store.round_trips.clear()
        found = site.look_up(ask(text, tenant))
        assert (outcome(found), Noting.asked, site.store.round_trips) == (result, languages, trips)
        if result[1] == "language":
            assert isinstance(found.decision, Miss)
            assert found.decision.place == Place(unfit=Unfit.LANGUAGE)


def test_a_text_that_is_longer_than_the_embedder_reads_is_never_taken_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(_text: str) -> None:
        raise AssertionError

    site, digits = Site(), "1 " * 50_000
    site.keep(ask(ASKED))
    monkeypatch.setattr(similar, "read_wording", never)
    monkeypatch.setattr(judge, "read", never)
    assert outcome(site.look_up(ask(digits))) == ("miss", "too_long")
    with pytest.raises(AssertionError):
        site.look_up(ask(ALIKE))


def test_what_can_not_be_opened_is_named_and_never_served() -> None:
    site, stored = Site(), ask(ASKED)
    site.keep(stored)
    site.store.values[stored.keys.entry(stored.name)] = b"not sealed here"
    for text in (ASKED, ALIKE):
        found = site.look_up(ask(text))
        assert outcome(found) == ("miss", "")
        assert set(found.damaged) == {stored.name}


# -- guard -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [ASKED, ALIKE])
@pytest.mark.parametrize("control", ["", "only-if-cached"])
def test_what_the_guard_has_not_let_pass_is_not_served(asked: str, control: str) -> None:
    site = Site()
    site.keep(ask(ASKED))
    found = site.look_up(ask(asked, control=control), guard_passed=lambda: False)
    assert found.decision == Bypass(BypassReason.GUARD)


def test_the_guard_is_asked_only_where_there_is_something_to_serve() -> None:
    def never() -> bool:
        raise AssertionError

    assert outcome(Site().look_up(ask(ASKED), guard_passed=never)) == ("miss", "")


# -- probes ----------------------------------------------------------------------------------------------


@dataclass
class Learner:
    """A threshold that moves, and samples that are drawn always or never: of neighbours, and of exact hits."""

    threshold: float
    drawn: bool
    repeated: bool = False
    seen: list[tuple[float | None, bool]] = field(default_factory=list)

    def state(self, keys: Keys) -> str:
        return keys.bound("f")

    def plan(self, keys: Keys, sealer: Any, stored: bytes | None) -> Plan:
        return Plan(self.threshold if stored is None else float(stored))

    def doubt(self, plan: Plan, name: str, score: float, *, served: bool) -> Doubt | None:
        return Doubt(name, int(score * 10), served) if self.drawn else None

    def repeat(self, keys: Keys, name: str) -> Doubt | None:
        return Doubt(name, None, probe=True) if self.repeated else None

    def saw(self, keys: Keys, score: float | None, *, hit: bool) -> None:
        self.seen.append((None if score is None else round(score, 1), hit))


def learning(threshold: float, *, drawn: bool, repeated: bool = False) -> tuple[Site, Learner]:
    site, learner = Site(), Learner(threshold, drawn, repeated)
    assert site.level is not None
    site.level = replace(site.level, learner=learner)
    site.keep(ask(ASKED))
    return site, learner


@pytest.mark.parametrize(
    ("threshold", "drawn", "asked", "control", "result", "probe", "seen"),
    [
        (0.7, False, ALIKE, "", ("hit", "similar"), None, [(0.9, True)]),
        (0.7, True, ALIKE, "", ("miss", "probe"), True, [(0.9, False)]),
        (0.95, False, ALIKE, "", ("miss", ""), None, [(0.9, False)]),
        (0.95, True, ALIKE, "", ("miss", ""), False, [(0.9, False)]),
        (0.7, True, ALIKE, "only-if-cached", ("hit", "similar"), None, [(0.9, True)]),
        (0.7, True, "do lions sleep in trees", "", ("miss", ""), None, [(None, False)]),
        (0.7, True, ASKED, "", ("hit", "exact"), None, []),
        (0.7, True, ALIKE, "no-cache", ("refresh", ""), None, []),
        (math.inf, False, ALIKE, "", ("miss", ""), None, [(0.9, False)]),
    ],
)
def test_a_sample_of_what_would_be_served_is_compared_instead(
    threshold: float,
    drawn: bool,
    asked: str,
    control: str,
    result: tuple[str, str],
    probe: bool | None,
    seen: Any,
) -> None:
    site, learner = learning(threshold, drawn=drawn)
    found = site.look_up(ask(asked, control=control))
    assert outcome(found) == result
    comparison = found.decision.comparison if isinstance(found.decision, Miss) else None
    assert comparison == (None if probe is None else Doubt(ask(ASKED).name, 9, probe))
    assert learner.seen == seen


@pytest.mark.parametrize(
    ("stored", "asked", "control", "result", "repeated", "trips"),
    [
        (ASKED, ASKED, "", ("miss", "probe"), True, ["neighbours"]),
        (ASKED, ASKED, "only-if-cached", ("hit", "exact"), False, ["neighbours"]),
        (ASKED, ASKED, "no-cache", ("refresh", ""), False, []),
        (ASKED, ALIKE, "", ("hit", "similar"), False, ["neighbours"]),
        (ASKED + " 🙂", ASKED + " 🙂", "", ("hit", "exact"), False, ["get"]),  # isn't compared
    ],
)
def test_a_sample_of_exact_hits_is_compared_with_the_next_answer(
    stored: str, asked: str, control: str, result: tuple[str, str], repeated: bool, trips: list[str]
) -> None:
    site, learner = learning(0.7, drawn=False, repeated=True)
    site.keep(ask(stored))
    found = site.look_up(ask(asked, control=control))
    assert outcome(found) == result
    assert site.store.round_trips == trips
    if repeated:
        assert isinstance(found.decision, Miss)
        assert found.decision.comparison == Doubt(ask(asked).name, None, probe=True)
        assert found.decision.place.bucket is not None  # its new answer is found by similarity again
        assert learner.seen == []


def test_the_plan_that_is_stored_counts() -> None:
    site, learner = learning(0.7, drawn=False)
    site.store.values[learner.state(ask(ASKED).keys)] = b"0.95"
    assert outcome(site.look_up(ask(ALIKE))) == ("miss", "")


def test_what_the_guard_stops_is_neither_probed_nor_counted() -> None:
    site, learner = learning(0.7, drawn=True, repeated=True)
    for asked in (ASKED, ALIKE):
        assert outcome(site.look_up(ask(asked), guard_passed=lambda: False)) == ("bypass", "guard")
    assert learner.seen == []


# -- round trips -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "control", "expected", "exact", "trips"),
    [
        ("do lions sleep in trees", "", False, True, ["neighbours"]),
        (ALIKE, "", False, True, ["neighbours"]),
        (ASKED, "", False, True, ["neighbours"]),
        (ASKED, "", True, True, ["get"]),
        (ALIKE, "", True, True, ["get", "neighbours"]),
        (ASKED, "max-age=1", False, True, ["neighbours", "neighbours"]),
        (ASKED, "max-age=1", True, True, ["get", "neighbours"]),
        (ASKED, "no-cache", False, True, []),
        (ASKED, "", False, False, ["neighbours"]),
        ("wie geht es dir", "", False, True, ["neighbours"]),
        (ASKED + " 🙂", "", False, True, ["get"]),
    ],
)
def test_round_trips(asked: str, control: str, expected: bool, exact: bool, trips: list[str]) -> None:
    site, question = Site(), ask(asked, control=control)
    site.keep(ask(ASKED))
    if expected:
        site.store.expected.add(question.name)
    site.look_up(question, exact=exact)
    assert site.store.round_trips == trips


@pytest.mark.parametrize(("candidates", "result"), [(1, ("miss", "")), (2, ("hit", "similar"))])
def test_so_many_neighbours_are_considered(candidates: int, result: tuple[str, str]) -> None:
    site = Site()
    assert site.level is not None
    site.level = replace(site.level, candidates=candidates)
    site.keep(ask("convert miles to kilometers"))
    site.keep(ask("so could you please convert miles to kilometers"))  # its score is too low
    for _ in range(2):
        site.keep(ask("convert kilometers to miles"))  # the latest, which a rule excludes
    assert outcome(site.look_up(ask("please convert miles to kilometers"))) == result


def test_an_exact_hit_costs_no_embedding() -> None:
    class Refusing(HashingEmbedder):
        def read(self, text: str) -> Any:
            raise AssertionError

    site, question = Site(), ask(ASKED)
    site.keep(question)
    assert site.level is not None
    site.level = replace(site.level, reading=Refusing().read)
    site.store.expected.add(question.name)
    assert outcome(site.look_up(question)) == ("hit", "exact")


# -- a store that fails ----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["get", "neighbours"])
@pytest.mark.parametrize(
    ("failure", "reason"), [(UnavailableError("x"), "redis_failed"), (HeldBackError("x"), "breaker_open")]
)
@pytest.mark.parametrize("control", ["", "only-if-cached"])
def test_a_store_that_fails_is_a_bypass(
    operation: str, failure: UnavailableError, reason: str, control: str
) -> None:
    site, question = Site(), ask(ASKED, control=control)
    site.keep(question)
    site.store.failures[operation] = failure
    if operation == "get":
        site.store.expected.add(question.name)
    found = site.look_up(question)
    if control:
        assert found == Lookup(Miss(MissReason.ONLY_IF_CACHED))
    else:
        assert found == Lookup(Bypass(BypassReason(reason), failure))


def test_where_the_neighbours_are_refused_the_exact_level_works_on() -> None:
    site = Site()
    site.keep(ask(ASKED))
    site.store.failures["neighbours"] = RefusedError("x")
    assert outcome(site.look_up(ask(ASKED))) == ("hit", "exact")
    assert site.look_up(ask(ALIKE)) == Lookup(Miss())
    assert site.store.round_trips == ["neighbours", "get"] * 2
    site.store.failures["get"] = RefusedError("y")
    assert outcome(site.look_up(ask(ALIKE))) == ("bypass", "redis_refused")


# -- laws ------------------------------------------------------------------------------------------------

TEXTS = st.sampled_from([ASKED, ALIKE, YEAR, OTHER_YEAR, "wie geht es dir", ""])
WHO = st.tuples(
    st.sampled_from(["acme", "globex", "acme ", "{acme}", "a:b"]),
    st.sampled_from(["n", "m"]),
    st.sampled_from([0, 1]),
)


def asked_by(who: tuple[str, str, int], text: str) -> Question:
    tenant, namespace, temperature = who
    return ask(text, tenant, namespace=namespace, temperature=temperature)


@given(st.lists(st.tuples(WHO, TEXTS), max_size=8), WHO, TEXTS)
def test_a_hit_is_always_of_the_same_tenant_and_partition(
    stored: list[tuple[tuple[str, str, int], str]], who: tuple[str, str, int], text: str
) -> None:
    site = Site()
    for other, kept in stored:
        site.keep(asked_by(other, kept), json.dumps(other))
    found = site.look_up(asked_by(who, text))
    if isinstance(found.decision, Hit):
        assert tuple(json.loads(text_of(found))) == who
    elif (who, text) in stored:
        pytest.fail("its own answer was not found")


@given(st.lists(st.tuples(WHO, TEXTS), min_size=1, max_size=6), WHO, TEXTS)
def test_a_store_that_mixes_tenants_up_gets_nothing_served(
    stored: list[tuple[tuple[str, str, int], str]], who: tuple[str, str, int], text: str
) -> None:
    site, question = Site(), asked_by(who, text)
    for other, kept in stored:
        site.keep(asked_by(other, kept), other[0])
    # Whatever any tenant has lies under this one's keys, too.
    for key, value in list(site.store.values.items()):
        site.store.values[question.keys.entry(key.rpartition(":")[2])] = value
    for vectors, held in list(site.store.buckets.items()):
        moved = question.keys.base + vectors.partition("}:")[2]
        site.store.buckets.setdefault(moved, []).extend(held)
    found = site.look_up(question)
    assert not isinstance(found.decision, Hit) or text_of(found) == who[0]


@given(st.binary(max_size=60) | st.just(b"\x01" + b"0" * 60), st.sampled_from([ASKED, ALIKE]))
def test_unknown_bytes_are_a_miss(value: bytes, asked: str) -> None:
    site, stored = Site(), ask(ASKED)
    site.keep(stored)
    site.store.values[stored.keys.entry(stored.name)] = value
    assert isinstance(site.look_up(ask(asked)).decision, Miss)


class Scripted:
    """A verifier with one score for all."""

    fingerprint = "scripted"

    def __init__(self, score: float, most: int = 10_000) -> None:
        self._score, self._most = score, most

    def score(self, a: str, b: str, similarity: float, states: Mapping[str, bytes] = NO_STATES) -> float:
        return self._score

    def truncates(self, a: str, b: str) -> bool:
        return len(a) + len(b) > self._most


def test_what_the_verifier_would_not_read_to_its_end_is_not_compared() -> None:
    level = level_of(HashingEmbedder(), Scripted(1.0, most=len(ALIKE)), English(), 0.7)
    assert outcome(Site(level=level).look_up(ask(ALIKE))) == ("miss", "too_long")


@given(st.floats(0, 1) | st.just(math.nan), st.floats(0, 1) | st.just(math.inf))
def test_nothing_is_served_below_the_threshold(score: float, threshold: float) -> None:
    level = level_of(HashingEmbedder(), Scripted(score), English(), threshold)
    site = Site(level=level)
    site.keep(ask(ASKED))
    assert isinstance(site.look_up(ask(ALIKE)).decision, Hit) == (score >= threshold)


# -- names in buckets, which whoever can write to Redis can write -----------------------------------------


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"namespace": "another route"},
        {"model": "another"},
        {"temperature": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
)
@pytest.mark.parametrize("asked", [ALIKE, ASKED])
def test_an_entry_of_another_partition_is_not_served_from_this_ones_bucket(
    asked: str, elsewhere: dict[str, Any]
) -> None:
    site = Site()
    assert site.level is not None
    stored, question = ask(ASKED, **elsewhere), ask(asked)
    site.keep(stored)
    bucket_name = site.level.place(question, sealer_of("acme")).bucket
    assert bucket_name is not None
    assert bucket_name not in site.store.buckets
    site.store.buckets[bucket_name] = [stored.name]
    found = site.look_up(question)
    assert outcome(found) == ("miss", "")
    assert (found.misplaced, found.damaged) == (1, ())


def test_an_entry_that_names_no_bucket_is_found_exactly_only() -> None:
    site = Site()
    question = ask(ASKED)
    site.keep(question)
    key = question.keys.entry(question.name)
    plain = sealer_of("acme").open(site.store.values[key], key=key.encode())
    assert plain is not None
    entry = entries.decode(plain)
    assert entry is not None
    older = entries.encode(replace(entry, bucket=None))
    site.store.values[key] = sealer_of("acme").seal(older, key=key.encode())
    assert outcome(site.look_up(question)) == ("hit", "exact")
    found = site.look_up(ask(ALIKE))
    assert (outcome(found), found.misplaced) == (("miss", ""), 0)

"""Coalescing on a store and leases in memory, with all interleavings that a scheduler draws."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.cache.core import entry as entries
from tenantgate.cache.core.coalescing import Flight, Role, Seats, joins, lease_value, token_of, wish_of
from tenantgate.cache.core.entry import Entry
from tenantgate.cache.core.lookup import Resources, look_up
from tenantgate.cache.core.outcome import Hit, Level, Miss
from tenantgate.cache.core.partition import Keys, partition_of, parts_of
from tenantgate.cache.core.pending import Doubt
from tenantgate.cache.core.ports import Held, Leased, LeaseWish, RefusedError, UnavailableError
from tenantgate.cache.core.question import Cacheable, Question, cacheable, question_of
from tenantgate.cache.core.testing import MemoryStore
from tenantgate.llm.chat import ChatReply, parse_request
from tenantgate.store.sealing import TenantSealer
from tenantgate.tenant import TenantId

NOW: Final = 1000.0
TOKEN, OTHER = "0" * 32, "f" * 32
SEALERS: Final = {tenant: TenantSealer("k" * 32, TenantId(tenant)) for tenant in ("acme", "globex")}


def ask(
    text: str = "q", tenant: str = "acme", user: str = "", *, control: str = "", stream: bool = False
) -> Question:
    body = {"messages": [{"role": "user", "content": text}], "user": user, "stream": stream}
    request = parse_request(json.dumps(body).encode())
    asked = cacheable(request, TenantId(tenant), (control,))
    assert isinstance(asked, Cacheable)
    apart = parts_of(["user"], asked.request, lambda _name: ())
    return question_of(
        asked, partition_of(asked.tenant, "n", asked.request, SEALERS[tenant], apart=apart), SEALERS[tenant]
    )


def sealed(question: Question, text: str, *, ttl_s: int = 300, stored_at: float = NOW) -> bytes:
    key = question.keys.entry(question.name)
    entry = Entry(None, ChatReply(text, "stop", "m", None), stored_at, ttl_s)
    return SEALERS[str(question.partition.tenant)].seal(entries.encode(entry), key=key.encode())


# -- one request at a time -------------------------------------------------------------------------------------------


@dataclass
class Answering:
    """Leases that answer as they are told, and note what they are asked."""

    held: Held | None = None
    failure: UnavailableError | None = None
    asked: int = 0
    waits: list[tuple[str, int]] = field(default_factory=list)
    at_end: Callable[[], object] = lambda: None

    def lease(self, keys: Keys, name: str, wish: LeaseWish) -> Leased:
        del keys, name, wish
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return Leased(self.held)

    def wait(self, keys: Keys, token: str, wait_ms: int) -> None:
        del keys
        self.waits.append((token, wait_ms))
        self.at_end()


def flight(
    leases: Any,
    question: Question | None = None,
    *,
    store: MemoryStore | None = None,
    most_ms: float = 1e9,
    seats: Seats | None = None,
    guard: bool = True,
    miss: Miss = Miss(),  # noqa: B008
    leased: Leased | None = None,
) -> Flight:
    @contextlib.contextmanager
    def waiting() -> Iterator[float]:
        yield most_ms

    question, store = question or ask(), store or MemoryStore()
    sealer = SEALERS[str(question.partition.tenant)]
    wish = wish_of(question, sealer, TOKEN, life_ms=1000, stale_s=0)
    using = Resources(store, sealer, NOW, guard_passed=lambda: guard, wish=wish)
    return joins(question, miss, using, leases, leased, seats=seats or Seats(9, 9), waiting=waiting)


def lease(question: Question, token: str = OTHER) -> bytes:
    return lease_value(SEALERS[str(question.partition.tenant)], question.name, token).encode()


def test_the_first_leads() -> None:
    assert flight(Answering()) == Flight(Role.LED, token=TOKEN)


@pytest.mark.parametrize(
    ("leased", "role"), [(Leased(), Role.LED), (Leased(Held(None, b"?", 9)), Role.APART)]
)
def test_what_the_lookup_has_found_of_the_lease_is_not_asked_again(leased: Leased, role: Role) -> None:
    leases = Answering()
    assert flight(leases, leased=leased).role is role
    assert leases.asked == 0


def test_what_was_stored_since_the_lookup_is_served_at_once() -> None:
    question = ask()
    leases = Answering(Held(sealed(question, "An answer.")))
    found = flight(leases, question)
    assert (found.role, found.token, leases.waits) == (Role.SERVED, None, [])
    assert found.hit is not None
    assert (found.hit.entry.reply.text, found.hit.level, found.hit.status) == (
        "An answer.",
        Level.COALESCED,
        "Coalesced",
    )


def test_an_answer_that_the_client_does_not_accept_is_not_served() -> None:
    question = ask(control="max-age=10")
    leases = Answering(Held(sealed(question, "An answer.", stored_at=NOW - 20)))
    assert flight(leases, question) == Flight(Role.IN_VAIN)


@pytest.mark.parametrize(
    ("left_ms", "most_ms", "waited_ms"),
    [
        (700, 5000, 700),
        (5000, 5000, 1000),
        (700, 300.9, 300),
        (700, 0, None),
        (700, -5, None),
        (-2, 500, None),
    ],
)
def test_a_wait_is_bounded_by_the_lease_its_life_and_the_phase(
    left_ms: int, most_ms: float, waited_ms: int | None
) -> None:
    question = ask()
    leases = Answering(Held(None, lease(question), left_ms))
    role = Role.CROWDED if waited_ms is None else Role.IN_VAIN
    assert flight(leases, question, most_ms=most_ms).role is role
    assert leases.waits == ([] if waited_ms is None else [(OTHER, waited_ms)])


@pytest.mark.parametrize("stream", [True, False])
def test_after_the_wait_the_leaders_answer_is_served(stream: bool) -> None:
    question, store = ask(stream=stream), MemoryStore()
    leases = Answering(Held(None, lease(question), 500))

    def store_it() -> None:
        store.values[question.keys.entry(question.name)] = sealed(question, "An answer.")

    leases.at_end = store_it
    found = flight(leases, question, store=store)
    assert found.role is Role.SERVED
    assert found.hit is not None
    assert found.hit.entry.reply.text == "An answer."


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"*" * 64,
        OTHER.encode(),
        (OTHER + "0" * 32).encode(),
        lease(ask("another question")),
        lease(ask(tenant="globex")),
        lease(ask(user="another user")),
        lease(ask())[:-1],
        lease(ask()) + b"\n",
        lease(ask()).upper(),
    ],
)
def test_nobody_waits_for_a_lease_that_somebody_else_wrote(value: bytes) -> None:
    leases = Answering(Held(None, value, 500))
    assert flight(leases).role is Role.APART
    assert leases.waits == []


def test_a_lease_is_read_back_by_its_tenant() -> None:
    question = ask()
    assert token_of(SEALERS["acme"], question.name, lease(question)) == OTHER


@pytest.mark.parametrize("failure", [UnavailableError("redis: gone"), RefusedError("redis: WRONGTYPE")])
@pytest.mark.parametrize("when", ["lease", "wait", "get"])
def test_a_store_that_fails_keeps_no_request_from_the_provider(failure: UnavailableError, when: str) -> None:
    def fail() -> None:
        raise failure

    question, store, seats = ask(), MemoryStore(), Seats(1, 1)
    leases = Answering(Held(None, lease(question), 500))
    if when == "lease":
        leases.failure = failure
    elif when == "wait":
        leases.at_end = fail
    else:
        store.failures["get"] = failure
    assert flight(leases, question, store=store, seats=seats) == Flight(Role.APART)
    assert seats.take("acme"), "its seat is free again"


def test_a_request_that_the_guard_did_not_let_pass_neither_leads_nor_follows() -> None:
    assert flight(Answering(), guard=False) == Flight(Role.APART)


def test_seats() -> None:
    seats = Seats(2, 3)
    assert [seats.take("a"), seats.take("a"), seats.take("a")] == [True, True, False]
    assert [seats.take("b"), seats.take("b"), seats.take("c")] == [True, False, False]
    seats.leave("a")
    assert [seats.take("c"), seats.take("a")] == [True, False]


def test_who_finds_no_seat_does_not_wait() -> None:
    question, seats = ask(), Seats(1, 1)
    leases = Answering(Held(None, lease(question), 500))
    assert seats.take("acme")
    assert flight(leases, question, seats=seats) == Flight(Role.CROWDED)
    assert leases.waits == []


@pytest.mark.parametrize(
    ("control", "wished"),
    [("", True), ("max-age=10", True), ("no-cache", False), ("max-age=0", False), ("only-if-cached", False)],
)
def test_a_client_that_wants_a_new_answer_or_a_stored_one_has_no_lease(control: str, wished: bool) -> None:
    wish = wish_of(ask(control=control), SEALERS["acme"], TOKEN, life_ms=1000, stale_s=7)
    assert (wish is not None) is wished
    assert wish is None or wish == LeaseWish(TOKEN, lease(ask(), TOKEN).decode(), 1000, 7)
    assert flight(Answering(), ask(control=control)).role is (Role.LED if wished else Role.APART)


@pytest.mark.parametrize("change", [{"refresh": True}, {"comparison": Doubt(OTHER, 3, probe=True)}])
def test_where_the_providers_own_answer_is_wanted_a_request_may_lead_and_never_follows(
    change: dict[str, Any],
) -> None:
    question, miss = ask(), replace(Miss(), **change)
    assert flight(Answering(), question, miss=miss) == Flight(Role.LED, token=TOKEN)
    for held in (Held(sealed(question, "An answer.")), Held(None, lease(question), 500)):
        leases = Answering(held)
        assert flight(leases, question, miss=miss) == Flight(Role.APART)
        assert leases.waits == []


# -- many at once: one thread runs at a time, and which is drawn -----------------------------------------------------


@dataclass
class Actor:
    thread: threading.Thread
    go: threading.Semaphore
    ready: Callable[[], bool] = lambda: True
    until: float | None = None
    done: bool = False


class Scheduler:
    """Runs threads in turns: each until it pauses. Time passes when it is drawn, or when all wait for it."""

    def __init__(self, draw: Callable[[int], int], *, hasty: bool) -> None:
        self._draw, self._hasty = draw, hasty
        self._actors: list[Actor] = []
        self._paused = threading.Semaphore(0)
        self._mine = threading.local()
        self.now_ms = 0.0
        self.failures: list[BaseException] = []

    def add(self, work: Callable[[], None]) -> None:
        def run() -> None:
            self._mine.actor = actor
            actor.go.acquire()
            try:
                work()
            except BaseException as error:
                self.failures.append(error)
            actor.done = True
            self._paused.release()

        actor = Actor(threading.Thread(target=run, daemon=True), threading.Semaphore(0))
        self._actors.append(actor)
        actor.thread.start()

    def pause(self, ready: Callable[[], bool] = lambda: True, until: float | None = None) -> None:
        """For a thread: let others run, until it is `ready` or it is so late."""
        actor: Actor = self._mine.actor
        actor.ready, actor.until = ready, until
        self._paused.release()
        actor.go.acquire()

    def run(self) -> None:
        while alive := [a for a in self._actors if not a.done]:
            able = [a for a in alive if a.ready() or (a.until is not None and self.now_ms >= a.until)]
            ends = [a.until for a in alive if a not in able and a.until is not None]
            assert able or ends, "deadlock"
            choice = self._draw(len(able) + bool(ends and (self._hasty or not able)))
            if choice == len(able):
                self.now_ms = min(ends)
                continue
            able[choice].go.release()
            self._paused.acquire()
        if self.failures:
            raise self.failures[0]


@dataclass
class World:
    """A store, leases, seats and a provider that requests share."""

    turns: Scheduler
    seats: Seats
    life_ms: int = 100
    store: MemoryStore = field(default_factory=MemoryStore)
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    asked: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    admitted: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)
    most_waiting: int = 0
    most_of_one: int = 0
    ended: list[Role | None] = field(default_factory=list)

    # `AnswerStore`, with a pause before each round trip.

    def expects(self, name: str) -> bool:
        return self.store.expects(name)

    def get(self, keys: Keys, name: str) -> bytes | None:
        self.turns.pause()
        return self.store.get(keys, name)

    def neighbours(self, *args: Any, **more: Any) -> Any:
        raise AssertionError("there is no similar level here")

    # `Leases`

    def lease(self, keys: Keys, name: str, wish: LeaseWish) -> Leased:
        self.turns.pause()
        if (entry := self.store.values.get(keys.entry(name))) is not None:
            return Leased(Held(entry))
        held, until = self.leases.get(keys.lease(name), ("", 0.0))
        if self.turns.now_ms < until:
            return Leased(Held(None, held.encode(), int(until - self.turns.now_ms)))
        self.leases[keys.lease(name)] = wish.value, self.turns.now_ms + wish.life_ms
        return Leased()

    def wait(self, keys: Keys, token: str, wait_ms: int) -> None:
        tenant = keys.tenant.slug
        self.waiting[tenant] += 1
        self.most_waiting = max(self.most_waiting, self.waiting.total())
        self.most_of_one = max(self.most_of_one, self.waiting[tenant])
        self.turns.pause(lambda: token in self.gone, self.turns.now_ms + wait_ms)
        self.waiting[tenant] -= 1

    # A request from its lookup to its log phase.

    def request(self, who: tuple[str, str, str], number: int, fate: str) -> None:
        tenant, user, text = who
        question, sealer = ask(text, tenant, user), SEALERS[tenant]
        wish = wish_of(question, sealer, f"{number:032x}", life_ms=self.life_ms, stale_s=0)
        using = Resources(self, sealer, NOW, wish=wish)
        lookup = look_up(question, using)
        decision = lookup.decision
        found: Flight | None = None
        if isinstance(decision, Miss):
            found = joins(
                question,
                decision,
                using,
                self,
                lookup.leased,
                seats=self.seats,
                waiting=lambda: contextlib.nullcontext(1e9),
            )
            decision = found.hit or decision
        self.ended.append(None if found is None else found.role)
        if isinstance(decision, Hit):
            assert decision.entry.reply.text in self.admitted.get(who, []), "another's answer"
            return
        self.asked[who] += 1
        self.turns.pause()
        if fate == "killed":
            return
        if fate == "answered":
            answer = f"{who} {number}"
            self.admitted.setdefault(who, []).append(answer)
            self.turns.pause()
            self.store.values[question.keys.entry(question.name)] = sealed(question, answer)
            self.turns.pause()
        if found is not None and found.token is not None:
            place = question.keys.lease(question.name)
            if self.leases.get(place, ("",))[0] == lease_value(sealer, question.name, found.token):
                del self.leases[place]
                self.gone.add(found.token)


WHO = st.tuples(st.sampled_from(["acme", "globex"]), st.sampled_from(["", "u"]), st.sampled_from(["q", "r"]))
FATES = st.sampled_from(["answered", "answered", "failed", "killed"])


def play(data: st.DataObject, world_of: Callable[[Scheduler], World], fates: Any, *, hasty: bool) -> World:
    requests = data.draw(st.lists(st.tuples(WHO, fates), min_size=2, max_size=6))
    turns = Scheduler(lambda n: data.draw(st.integers(0, n - 1)), hasty=hasty)
    world = world_of(turns)
    for number, (who, fate) in enumerate(requests):
        turns.add(lambda who=who, number=number, fate=fate: world.request(who, number, fate))
    turns.run()
    assert len(world.ended) == len(requests), "each gets an answer, or asks the provider"
    assert not world.waiting.total()
    return world


@given(st.data(), st.integers(0, 2), st.integers(0, 3))
@settings(max_examples=150)
def test_whoever_follows_gets_an_equal_requests_answer_or_asks_by_itself(
    data: st.DataObject, each: int, most: int
) -> None:
    world = play(data, lambda turns: World(turns, Seats(each, most)), FATES, hasty=True)
    assert world.most_of_one <= each
    assert world.most_waiting <= most


@given(st.data())
@settings(max_examples=100)
def test_where_all_goes_well_the_provider_is_asked_once(data: st.DataObject) -> None:
    """No leader fails or is slow, and there is room for all that wait."""
    world = play(data, lambda turns: World(turns, Seats(9, 9)), st.just("answered"), hasty=False)
    assert set(world.asked.values()) == {1}
    assert Role.IN_VAIN not in world.ended

"""The smaller decisions: cache directives, pending misses, entries, admission, replay, the breaker."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core import entry as entries
from tenantgate.cache.core.admit import NotStored, admit
from tenantgate.cache.core.breaker import Breaker
from tenantgate.cache.core.entry import Entry
from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.pending import Pending, PendingMisses
from tenantgate.cache.core.plan import CacheControl, may_serve
from tenantgate.cache.core.replay import hit_headers, replay
from tenantgate.llm.chat import ChatReply, ChatRequest, parse_request
from tenantgate.tenant import TenantId

KEYS = Keys(TenantId("acme"))
REPLY = ChatReply("Hello.", "stop", "m", (3, 2, 5))
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

# -- plan ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "control"),
    [
        ((), CacheControl()),
        (("no-store",), CacheControl(no_store=True)),
        (("No-Cache",), CacheControl(no_cache=True)),
        (("max-age=0",), CacheControl(no_cache=True, max_age=0)),
        (("max-age=60, min-fresh=5",), CacheControl(max_age=60, min_fresh=5)),
        (('max-age="60"',), CacheControl(max_age=60)),
        (("only-if-cached", "no-store"), CacheControl(no_store=True, only_if_cached=True)),
        (("max-age=-1, max-age=5",), CacheControl()),
        (("max-age=1e3",), CacheControl()),
        (("max-age=99999999999999999999",), CacheControl()),
        (("max-age=٣",), CacheControl()),
        (("private, x=y, ,=",), CacheControl()),
        (("no-storey",), CacheControl()),
    ],
)
def test_directives_of_a_request(lines: tuple[str, ...], control: CacheControl) -> None:
    assert CacheControl.parse(lines) == control


@given(st.lists(st.text(max_size=30), max_size=3))
def test_no_directive_raises(lines: list[str]) -> None:
    CacheControl.parse(tuple(lines))


@pytest.mark.parametrize(
    ("control", "age", "ttl", "served"),
    [
        (CacheControl(), 10, 1, True),
        (CacheControl(), 10, 0, False),
        (CacheControl(max_age=10), 10, 5, True),
        (CacheControl(max_age=9), 10, 5, False),
        (CacheControl(min_fresh=5), 0, 5, True),
        (CacheControl(min_fresh=6), 0, 5, False),
    ],
)
def test_an_entry_is_served_while_it_is_what_the_client_wants(
    control: CacheControl, age: float, ttl: float, served: bool
) -> None:
    assert may_serve(control, age_s=age, ttl_s=ttl) is served


# -- pending ---------------------------------------------------------------------------------------------


def miss(question: str = "q") -> Pending:
    return Pending(KEYS, "n", question, stream=False)


def test_a_miss_is_given_back_once() -> None:
    held = PendingMisses()
    held.put("t", miss(), 0.0)
    assert held.take("t") == miss()
    assert held.take("t") is None
    assert held.take("other") is None


def test_misses_are_bounded_in_number_bytes_and_age() -> None:
    few = PendingMisses(most=2)
    for token in "abc":
        few.put(token, miss(), 0.0)
    assert (few.take("a"), len(few)) == (None, 2)
    small = PendingMisses(most_bytes=5000)
    small.put("a", miss("x" * 1500), 0.0)
    small.put("b", miss("x" * 1500), 0.0)
    assert small.take("a") is None
    assert small.take("b") is not None
    small.put("huge", miss("x" * 9000), 0.0)
    assert len(small) == 0
    brief = PendingMisses(age_s=10)
    brief.put("a", miss(), 0.0)
    brief.put("b", miss(), 11.0)
    assert brief.take("a") is None
    assert brief.take("b") is not None


# -- entry -----------------------------------------------------------------------------------------------


@given(
    st.none() | st.text(max_size=40),
    st.builds(
        ChatReply, text=st.text(max_size=40), finish_reason=st.just("stop"), model=st.text(max_size=9),
        usage=st.none() | st.just((1, 2, 3)), tool_calls=st.sampled_from([(), (CALL,)]),
    ),
    st.floats(0, 1e10), st.integers(1, 10**9),
)  # fmt: skip
def test_an_entry_survives_its_bytes(question: str | None, reply: ChatReply, at: float, ttl: int) -> None:
    entry = Entry(question, reply, at, ttl)
    assert entries.decode(entries.encode(entry)) == entry


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b"[2]", b"[1]", b"[1,2,3,4,5,6,7,8,9]", b"[" * 9999, b"[1e999]"]
)
def test_other_bytes_are_no_entry(data: bytes) -> None:
    assert entries.decode(data) is None


@given(st.binary(max_size=60))
def test_no_bytes_raise(data: bytes) -> None:
    entries.decode(data)


def test_ages_never_run_backwards() -> None:
    entry = Entry("q", REPLY, 100.0, 60)
    assert entry.age_s(90.0) == 0
    assert entry.age_s(130.0) == 30
    assert entry.remaining_s(130.0) == 30


# -- admit -----------------------------------------------------------------------------------------------


def record(
    *, status: Any = 200, reason: str | None = "stop", headers: Any = None, text: Any = "Hello.",
    meta: Any = None, **message: Any,
) -> dict[str, Any]:  # fmt: skip
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
    payload = json.dumps({"choices": [choice]})
    return {
        "response": {"status": status, "headers": headers or {}},
        "ai": {"proxy": {"payload": {"response": payload}, "meta": meta or {}}},
    }


@pytest.mark.parametrize("reason", ["stop", "STOP", "end_turn", "stop_sequence", "COMPLETE", "eos"])
def test_complete_answers_are_stored_and_say_stop(reason: str) -> None:
    for got in (
        admit(record(reason=reason), stream=False),
        admit(record(reason=None), stream=True, stream_reason=reason),
    ):
        assert isinstance(got, ChatReply)
        assert (got.text, got.finish_reason) == ("Hello.", "stop")


@pytest.mark.parametrize(
    ("given_record", "outcome"),
    [
        (record(status=500), NotStored.STATUS),
        (record(status=429), NotStored.STATUS),
        (record(status="200"), NotStored.STATUS),
        (record(status=206), NotStored.STATUS),
        (record(reason="length"), NotStored.INCOMPLETE),
        (record(reason="max_tokens"), NotStored.INCOMPLETE),
        (record(reason="content_filter"), NotStored.INCOMPLETE),
        (record(reason="SAFETY"), NotStored.INCOMPLETE),
        (record(reason=None), NotStored.INCOMPLETE),
        (record(reason="tool_calls", text=None, tool_calls=[CALL]), NotStored.TOOL_CALL),
        (record(tool_calls=[CALL]), NotStored.TOOL_CALL),
        (record(text=""), NotStored.NOT_TEXT),
        (record(refusal="no"), NotStored.NOT_TEXT),
        (record(headers={"cache-control": "no-store"}), NotStored.NO_STORE),
        (record(headers={"cache-control": ["private", "max-age=0, No-Store"]}), NotStored.NO_STORE),
        ({}, NotStored.STATUS),
        ({"response": {"status": 200}}, NotStored.NO_REPLY),
        ({"response": {"status": 200}, "ai": {"proxy": {"payload": []}}}, NotStored.NO_REPLY),
        ({"response": {"status": 200}, "ai": {"proxy": {"payload": {"response": "{"}}}}, NotStored.NOT_TEXT),
    ],
)
def test_nothing_else_is(given_record: dict[str, Any], outcome: NotStored) -> None:
    assert admit(given_record, stream=False) is outcome


def test_a_stream_counts_by_what_was_seen_of_its_end_only() -> None:
    assert admit(record(reason="stop"), stream=True) is NotStored.INCOMPLETE
    assert admit(record(reason="stop"), stream=True, stream_reason="length") is NotStored.INCOMPLETE
    assert admit(record(), stream=True, stream_reason="tool_calls") is NotStored.TOOL_CALL


def test_tool_calls_are_stored_where_asked_for_but_not_from_streams() -> None:
    calling = record(reason="tool_calls", text=None, tool_calls=[CALL])
    got = admit(calling, stream=False, tool_calls=True)
    assert isinstance(got, ChatReply)
    assert (got.text, got.tool_calls, got.finish_reason) == ("", (CALL,), "tool_calls")
    assert admit(calling, stream=True, stream_reason="tool_calls", tool_calls=True) is NotStored.TOOL_CALL
    lost = record(reason="tool_calls")
    assert admit(lost, stream=False, tool_calls=True) is NotStored.TOOL_CALL
    cut = record(reason="length", text=None, tool_calls=[CALL])
    assert admit(cut, stream=False, tool_calls=True) is NotStored.TOOL_CALL


def test_a_streams_model_comes_from_kongs_meta() -> None:
    meta = {"request_model": "asked", "response_model": "used"}
    got = admit(record(meta=meta), stream=False)
    assert isinstance(got, ChatReply)
    assert got.model == "used"


# -- replay ----------------------------------------------------------------------------------------------


def ask(**body: Any) -> ChatRequest:
    request = parse_request(json.dumps({"messages": [{"role": "user", "content": "q"}], **body}).encode())
    assert isinstance(request, ChatRequest)
    return request


def test_an_answer_is_replayed_as_the_client_asks_whichever_way_it_came() -> None:
    entry = Entry("q", REPLY, 100.0, 60)
    body, kind = replay(entry, ask(), 110.0, identifier="i")
    assert kind.startswith("application/json")
    told = json.loads(body)
    assert told["choices"][0]["message"]["content"] == "Hello."
    assert (told["id"], told["created"], told["usage"]["total_tokens"]) == ("i", 110, 5)
    body, kind = replay(entry, ask(stream=True), 110.0, identifier="i")
    assert kind.startswith("text/event-stream")
    assert body.startswith(b"data: {")


def test_a_hit_says_what_it_is() -> None:
    entry = Entry("q", REPLY, 100.0, 60)
    assert hit_headers("n", entry, 110.9, similarity=None) == {
        "X-Cache-Status": "Hit", "X-Cache-Key": "n", "X-Cache-Ttl": "49", "Age": "10"
    }  # fmt: skip
    assert hit_headers("n", entry, 999.0, similarity=1.00001)["X-Cache-Similarity"] == "1.0000"
    assert hit_headers("n", entry, 999.0, similarity=0.5)["X-Cache-Ttl"] == "0"


# -- breaker ---------------------------------------------------------------------------------------------


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_try() -> None:
    breaker = Breaker(failures=3, pause_s=1.0)
    for _ in range(2):
        breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(0.0)
    assert not breaker.open
    breaker.failed(0.0)
    assert breaker.open
    assert not breaker.allows(0.9)
    assert breaker.allows(1.0)
    assert not breaker.allows(1.5)  # someone is trying
    breaker.failed(1.5)
    assert not breaker.allows(2.4)
    assert breaker.allows(2.5)
    breaker.succeeded()
    assert not breaker.open
    assert breaker.allows(2.5)


@given(st.lists(st.sampled_from(["ok", "fail", "wait"]), max_size=40))
def test_an_open_breaker_always_tries_again(events: list[str]) -> None:
    breaker, now = Breaker(), 0.0
    for event in events:
        now += 0.3
        if event == "ok":
            breaker.succeeded()
        elif event == "fail":
            breaker.failed(now)
    assert breaker.allows(now + breaker.pause_s)

"""Entries as bytes: odd text survives, anything else is None."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.entry import Entry, decode, encode
from tenantgate.llm.chat import ChatReply

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
WHOLE = Entry("q", ChatReply("a", "stop", "m", (1, 2, 3)), 100.0, 60)


@given(st.none() | ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_any_text_survives(question: str | None, text: str, model: str) -> None:
    # JSON joins two halves of a pair, wherever Python holds them apart.
    def joined(value: str) -> str:
        return str(json.loads(json.dumps(value)))

    entry = Entry(question, ChatReply(text, "stop", model), 1.0, 1)
    found = decode(encode(entry))
    assert found is not None
    assert found.question == (None if question is None else joined(question))
    assert (found.reply.text, found.reply.model) == (joined(text), joined(model))


@pytest.mark.parametrize(("version", "fields"), [(1, 9), (2, 10)])
def test_an_older_entry_is_read_and_names_no_bucket(version: int, fields: int) -> None:
    data = json.loads(encode(replace(WHOLE, bucket="b")))[:fields]
    assert decode(json.dumps([version, *data[1:]]).encode()) == WHOLE


def test_a_megabyte_survives() -> None:
    entry = Entry("q" * (1 << 20), ChatReply("🙂" * (1 << 18), "stop", "m"), 1.0, 1)
    assert decode(encode(entry)) == entry


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 4),
        (0, "1"),
        (0, None),
        (5, [1]),
        (5, "abc"),
        (5, {"a": 1}),
        (6, None),
        (6, "x"),
        (7, None),
        (7, "x"),
        (8, None),
        (8, [1]),
        (8, ["ab cd"]),
    ],
)
def test_one_wrong_field_makes_it_no_entry(place: int, value: object) -> None:
    fields = json.loads(encode(WHOLE))
    fields[place] = value
    assert decode(json.dumps(fields).encode()) is None


@given(st.integers(0, 200))
def test_a_cut_entry_is_none(length: int) -> None:
    data = encode(WHOLE)
    if length < len(data):
        assert decode(data[:length]) is None


def test_its_time_runs_out() -> None:
    assert WHOLE.remaining_s(100.0) == 60
    assert WHOLE.remaining_s(159.9) > 0
    assert WHOLE.remaining_s(160.0) == 0
    assert WHOLE.remaining_s(200.0) < 0


@given(
    st.none() | st.text(max_size=40),
    st.builds(
        ChatReply,
        text=st.text(max_size=40),
        finish_reason=st.just("stop"),
        model=st.text(max_size=9),
        usage=st.none() | st.just((1, 2, 3)),
        tool_calls=st.sampled_from([(), (CALL,)]),
    ),
    st.floats(0, 1e10),
    st.integers(1, 10**9),
    st.none() | st.text(max_size=9),
)
def test_an_entry_survives_its_bytes(
    question: str | None, reply: ChatReply, at: float, ttl: int, bucket: str | None
) -> None:
    entry = Entry(question, reply, at, ttl, bucket)
    assert decode(encode(entry)) == entry


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b"[2]", b"[1]", b"[1,2,3,4,5,6,7,8,9]", b"[" * 9999, b"[1e999]"]
)
def test_other_bytes_are_no_entry(data: bytes) -> None:
    assert decode(data) is None


@given(st.binary(max_size=60))
def test_no_bytes_raise(data: bytes) -> None:
    decode(data)


def test_ages_never_run_backwards() -> None:
    entry = WHOLE
    assert entry.age_s(90.0) == 0
    assert entry.age_s(130.0) == 30
    assert entry.remaining_s(130.0) == 30

"""Server-sent events: what is read of them, and that nothing of them is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm.stream import (
    DONE,
    finished_chunks,
    loads,
    parse_events,
    parse_lines,
    write_events,
    write_lines,
)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("", []),
        ("\n\n\n", []),
        ('data: {"a":1}\n\n', [{"data": {"a": 1}}]),
        ('data:{"a":1}\n\n', [{"data": {"a": 1}}]),
        ('\ufeffdata: {"a":1}', [{"data": {"a": 1}}]),
        ('data: {"a":\r\ndata: 1}\r\n\r\n', [{"data": {"a": 1}}]),
        ("data: x\rdata: y\r\r", [{"data": "x\ny"}]),
        ("data:  two\n\n", [{"data": " two"}]),
        ("data\n\n", [{"data": ""}]),
        ("data: 1\n\ndata: [DONE]\n\n", [{"data": "1"}, DONE]),
        ('data: {"a":1,"a":2}\n\n', [{"data": '{"a":1,"a":2}'}]),
        ("event: e\nid: 1\n: c\ndata: x\n\n", [{"data": "x", "lines": ["event: e", "id: 1", ": c"]}]),
        (": ping\n\ndata: x", [{"lines": [": ping"]}, {"data": "x"}]),
        ("data: a\u2028b\n\n", [{"data": "a\u2028b"}]),
        ("datax: y\n\n", [{"lines": ["datax: y"]}]),
    ],
)
def test_events_are_read_as_the_standard_says(text: str, events: list[dict[str, Any]]) -> None:
    assert parse_events(text) == events


LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)
DATA = (
    st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=12)
    | st.dictionaries(LINE, st.integers() | LINE | st.none(), max_size=3)
    | st.lists(st.integers() | LINE, max_size=3)
)
OTHER_LINE = LINE.filter(lambda line: line and line.partition(":")[0] != "data" and line[0] != "\ufeff")
EVENT = st.fixed_dictionaries(
    {"data": DATA}, optional={"lines": st.lists(OTHER_LINE, min_size=1, max_size=3)}
)


@given(st.lists(EVENT, max_size=4))
def test_written_events_are_read_again(events: list[dict[str, Any]]) -> None:
    read = parse_events(write_events(events).decode())
    # A text that is an object or a list of JSON is read as one.
    again = [{**e, "data": _object(e["data"])} for e in events]
    assert read == again


def _object(data: Any) -> Any:
    found = parse_lines(data) if isinstance(data, str) and "\n" not in data else None
    return found[0]["data"] if found and isinstance(found[0]["data"], list | dict) else data


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    parse_events(text)
    parse_lines(text)
    finished_chunks(text)


def test_events_are_written_byte_for_byte() -> None:
    events = [{"data": {"a": "é\n"}}, {"lines": ["event: e"], "data": "x\ny"}, {"lines": [": p"]}, DONE]
    assert write_events(events) == (
        b'data: {"a":"\\u00e9\\n"}\n\nevent: e\ndata: x\ndata: y\n\n: p\n\ndata: [DONE]\n\n'
    )


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ('data: {"a":1}\n\ndata: [DONE]\n\n', [{"a": 1}]),
        ('data: {"a":1}\n\n: ping\n\ndata: [DONE]', [{"a": 1}]),
        ("data: [DONE]\n\n", []),
        ('data: {"a":1}\n\n', None),
        ('data: [DONE]\n\ndata: {"a":1}\n\n', None),
        ("", None),
    ],
)
def test_a_stream_without_its_end_was_cut_off(text: str, chunks: list[Any] | None) -> None:
    assert finished_chunks(text) == chunks


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ('{"a":1}\n\n[2]\n', [{"data": {"a": 1}}, {"data": [2]}]),
        ('\ufeff{"a":1}', [{"data": {"a": 1}}]),
        ("\n \n", None),
        ('{"a":1}\n{"a":\n', None),
        ('{"a":1,"a":2}\n', None),
        ("[" * 100_000, None),
    ],
)
def test_lines_are_json_or_none(text: str, events: list[dict[str, Any]] | None) -> None:
    assert parse_lines(text) == events
    if events:
        assert parse_lines(write_lines(events).decode()) == events


def test_a_name_twice_is_no_json() -> None:
    assert loads('{"a":{"b":1}}') == json.loads('{"a":{"b":1}}')
    with pytest.raises(ValueError, match="a name twice"):
        loads('{"a":{"b":1,"b":1}}')

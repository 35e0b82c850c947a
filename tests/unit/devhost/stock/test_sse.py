from __future__ import annotations

import pytest

from tenantgate.devhost.stock.sse import TERMINATOR, Frames

STREAM = b'data: {"a": 1}\n\nevent: x\ndata: {"b": 2}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_no_cut_loses_or_doubles_an_event(cut: int) -> None:
    frames = Frames()
    events = [
        e for part in (STREAM[:cut], STREAM[cut:]) if part for e in frames.feed(part, "text/event-stream")
    ]
    assert [e.data for e in events if e.data] == [b'{"a": 1}', b'{"b": 2}', TERMINATOR]


def test_a_cut_between_an_events_lines_loses_its_name_as_in_kong() -> None:
    frames = Frames()
    assert frames.feed(b"event: x\nda", "text/event-stream") == []
    (event, *_) = frames.feed(b"ta: 1\n\n", "text/event-stream")
    assert (event.data, event.event) == (b"1", None)
    (event, *_) = frames.feed(b"event: x\ndata: 2\n\n", "text/event-stream")
    assert (event.data, event.event) == (b"2", b"x")


def test_plain_json_lines_are_events() -> None:
    events = Frames().feed(b'{"a": 1}\n{"b": 2}\n', None)
    assert [e.data for e in events] == [b'{"a": 1}', b'{"b": 2}']


def test_an_array_is_cut_at_its_elements() -> None:
    frames = Frames()
    pieces = [b'[{"t": "a,]\\"}"}\n', b',\r\n{"t": [1, {"x"', b": 2}]}\n", b',\r\n{"t": 3}\n]']
    got = [e.data for p in pieces for e in frames.feed(p, "application/json")]
    assert got == [b'{"t": "a,]\\"}"}', b'{"t": [1, {"x": 2}]}', b'{"t": 3}', TERMINATOR]

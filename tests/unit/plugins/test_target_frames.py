"""Readers of a stream's bytes (frames.lua), which may come in any pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lua_rig import exchange, state
from tenantgate.devhost import mock_aws
from tenantgate.devhost.lua_state import LuaError
from tenantgate.paths import plugins_dir

MODULE = "kong.plugins.tenantgate-target.frames"
LUA = state({"untrusted_lua_sandbox_requires": MODULE}, f"{plugins_dir()}/?.lua;;")
READ = LUA.compile(
    f"""
    local shared = kong.ctx.shared
    local reader, found = require("{MODULE}")[shared.kind](), {{}}
    for _, piece in ipairs(shared.pieces) do
      for _, event in ipairs(reader:feed(piece)) do
        found[#found + 1] = {{event.name or false, event.failed == true, event.data}}
      end
    end
    return found
    """,
    "read",
)


def read(kind: str, pieces: list[bytes]) -> Any:
    x = exchange(shared={"kind": kind, "pieces": pieces})
    return LUA.values.to_python(LUA.run(x, "test", READ)) or []  # no events are an empty table


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    at = sorted({min(place, len(whole)) for place in places})
    return [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: a\n\n", [("a", False)]),
        (b"data:a\n\ndata:  b\n\n", [("a", False), (" b", False)]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("a", False), ("b", False)]),
        (b"event: ping\ndata: {}\n\n", [("{}", "ping")]),
        (b"event: ping\n\ndata: a\n\n", [("a", False)]),
        (b"data: a\ndata: b\n\n", [("a\nb", False)]),
        (b": comment\nid: 1\nretry: 5\ndata: a\n\n", [("a", False)]),
        (b"data: cut off", []),
        (b"data: cut off\n", []),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_server_sent_events(text: bytes, events: list[tuple[str, Any]]) -> None:
    assert [(data, name) for name, _, data in read("sse", [text])] == events


LINES = st.sampled_from([b"data: {}", b"data:x", b"event: e", b"", b": c", b"data", "data: \u00e9".encode()])


@given(
    st.lists(LINES, max_size=12), st.sampled_from([b"\n", b"\r\n"]), st.lists(st.integers(0, 120), max_size=6)
)
def test_the_pieces_of_a_stream_make_no_difference(lines: list[bytes], end: bytes, places: list[int]) -> None:
    whole = b"".join(line + end for line in lines)
    assert read("sse", cut(whole, places)) == read("sse", [whole])


MESSAGES = st.lists(
    st.tuples(st.sampled_from(["messageStart", "contentBlockDelta"]), st.text(max_size=20), st.booleans()),
    max_size=5,
)


@given(MESSAGES, st.lists(st.integers(0, 900), max_size=6))
def test_amazons_messages_are_read_from_any_pieces(
    messages: list[tuple[str, str, bool]], places: list[int]
) -> None:
    payloads = [json.dumps({"text": text}).encode() for _, text, _ in messages]
    whole = b"".join(
        mock_aws.message(kind, payload, failed=failed)
        for (kind, _, failed), payload in zip(messages, payloads, strict=True)
    )
    found = read("aws", cut(whole, places))
    assert found == [
        [kind, failed, payload.decode()]
        for (kind, _, failed), payload in zip(messages, payloads, strict=True)
    ]


@pytest.mark.parametrize("junk", [b"\0\0\0\1" + b"x" * 20, b"\xff" * 16])
def test_what_is_no_event_stream_of_amazons_ends_the_reply(junk: bytes) -> None:
    with pytest.raises(LuaError, match="of the plugin's own"):
        read("aws", [junk])

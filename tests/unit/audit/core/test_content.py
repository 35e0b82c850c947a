"""Bodies as they come: cut off anywhere, of any shape, with anything hidden in escapes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.audit.core.content import Part, complete, read

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def begins(part: Any, whole: Any) -> bool:
    """Whether `part` is a beginning of `whole`."""
    if isinstance(whole, dict):
        return isinstance(part, dict) and all(k in whole and begins(v, whole[k]) for k, v in part.items())
    if isinstance(whole, list):
        return isinstance(part, list) and all(begins(p, w) for p, w in zip(part, whole, strict=False))
    if isinstance(whole, str):
        # Half of a character that takes two escapes may be left.
        return isinstance(part, str) and whole.startswith(
            part.rstrip("".join(map(chr, range(0xD800, 0xDC00))))
        )
    return bool(part == whole)


@given(st.dictionaries(st.text(), JSON, max_size=3), st.booleans(), st.integers(0, 400))
def test_any_beginning_can_be_read_as_a_beginning(value: Any, ascii_only: bool, at: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        whole = complete(text[:at])
    except ValueError:
        assert at < 1
        return
    assert begins(json.loads(whole), value)


def test_all_of_a_cut_off_text_is_there() -> None:
    text = json.dumps({"messages": [{"role": "user", "content": 'a "b" \\ c \u00e9'}]})
    found = read(text[:60].encode(), len(text))
    assert found is not None
    assert found.cut
    assert found.messages[0].parts[0].fields["content"] == 'a "b" \\ c '


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("text", [Part("text", {"content": "text"})]),
        (None, []),
        (3, []),
        (
            [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:x"}}, 3],
            [Part("text", {"content": "a"}), Part("image"), Part("other")],
        ),
        ('{"mail": "a\\u0040b"}', [Part("text", {"content": '{"mail": "a@b"}'})]),
    ],
)
def test_content_of_any_shape(content: Any, parts: list[Part]) -> None:
    raw = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    found = read(raw, len(raw))
    assert found is not None
    assert list(found.messages[0].parts) == parts


def test_tool_calls_and_their_results() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"to": "a\\u0040b"}'}}
    bad = {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "a@b"}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call, bad, {"type": "custom"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "pirate", "name": "jack", "content": "arr"},
    ]
    raw = json.dumps(
        {"messages": messages, "temperature": 0.5, "stream": True, "tools": [1, 2], "seed": "x"}
    ).encode()
    found = read(raw, len(raw))
    assert found is not None
    assistant, tool, pirate = found.messages
    assert [dict(p.fields) for p in assistant.parts] == [
        {"id": "c1", "name": "f", "arguments": '{"to": "a@b"}'},
        {"id": "c2", "name": "f", "arguments": ""},
        {},
    ]
    assert tool.parts == (Part("tool_call_response", {"id": "c1", "response": "done"}),)
    assert (pirate.role, pirate.parts[0].fields["name"]) == ("other", "jack")
    assert found.settings == {"temperature": 0.5, "stream": True, "tools": 2}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"x",
        b'{"a": 1}',
        b'{"messages": {}}',
        b"\xff",
        b'{"messages":[{"content":"\xff"}]}',
        b"[" * 9999,
    ],
)
def test_what_is_no_chat_is_none(raw: bytes) -> None:
    assert read(raw, len(raw)) is None

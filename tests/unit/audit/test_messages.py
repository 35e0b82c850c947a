"""Messages to the audit worker: what is sent arrives, also between two releases."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.audit.core.content import RawContent
from tenantgate.audit.messages import Content, LeftOut, Message, Pipeline, Settings, decode, encode, unpacker

names = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
bodies = st.none() | st.binary(max_size=50)
raws = st.builds(
    RawContent,
    bodies,
    st.integers(0, 10**9),
    bodies,
    st.integers(0, 10**9),
    st.dictionaries(names, names, max_size=3),
)
messages = st.one_of(
    st.builds(Pipeline, st.dictionaries(names, values, max_size=3), st.floats(0, 1e10)),
    st.builds(Settings, names, names, st.dictionaries(names, values, max_size=3)),
    st.builds(Content, names, names, raws),
    st.builds(LeftOut, names, names),
)


def received(data: bytes) -> list[Any]:
    reader = unpacker()
    reader.feed(data)
    return list(reader)


@given(st.lists(messages, max_size=4))
def test_what_is_sent_arrives_in_order(sent: list[Message]) -> None:
    assert [decode(value) for value in received(b"".join(map(encode, sent)))] == sent


def test_a_text_that_is_no_utf_8_arrives() -> None:
    message = LeftOut("p", b"\xff\xfe".decode("utf-8", "surrogateescape"))
    assert decode(received(encode(message))[0]) == message


@pytest.mark.parametrize(
    ("old", "message"),
    [
        (["policy", "p", "r", {"content": "off"}], Settings("p", "r", {"content": "off"})),
        (
            ["content", "p", "id", b"in", 2, None, 0, {"x-user": "u"}],
            Content("p", "id", RawContent(b"in", 2, None, 0, {"x-user": "u"})),
        ),
        (["shed", "p", "id"], LeftOut("p", "id")),
    ],
)
def test_lists_of_the_first_version_are_read(old: list[Any], message: Message) -> None:
    assert decode(received(msgpack.packb(old))[0]) == message


def test_fields_and_types_of_a_later_release_are_ignored() -> None:
    later = {**received(encode(LeftOut("p", "id")))[0], "v": 3, "reason": "a word"}
    assert decode(later) == LeftOut("p", "id")
    assert decode({"v": 3, "type": "farewell"}) is None


@pytest.mark.parametrize("bad", [[], ["content", "p"], ["else"], {}, {"v": 2, "type": "content"}, 7, None])
def test_what_is_no_message_is_an_error(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        decode(bad)


def test_no_content_shows_in_a_repr() -> None:
    content = Content("p", "id", RawContent(b"secret", 6, b"secret", 6, {"x": "secret"}))
    settings, pipeline = Settings("p", "r", {"encryption_key": "secret"}), Pipeline({"sinks": "secret"}, 0.0)
    assert "secret" not in f"{content!r} {settings!r} {pipeline!r}"

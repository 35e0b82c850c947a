"""Values that come with an event's first message, and those that go with its last."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kong_pdk.exception import PDKException

from tenantgate.kong.ahead import Ahead
from tenantgate.kong.pdk import ServedKong
from tenantgate.kong.wire import Call, Decoder, Reply, pack, pack_as_kong

from .test_pdk import Channel

TEXTS = st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
PLAIN = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)
TABLES = st.dictionaries(TEXTS.filter(lambda name: name != "body"), PLAIN, max_size=4)


def as_kong_sends(value: dict[str, Any], body: bytes | None) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    argument = {"InstanceId": 1, "EventName": "access", "Takes": True}
    argument["Shared"] = {"table": [text] if body is None else [text, body]}
    decoder = Decoder()
    decoder.feed(pack_as_kong([0, 1, "plugin.HandleEvent", [argument]]))
    call = decoder.next()
    assert isinstance(call, Call)
    return call.argument


@given(value=TABLES, body=st.none() | st.binary())
def test_what_comes_ahead_is_what_was_sent(value: dict[str, Any], body: bytes | None) -> None:
    ahead = Ahead.of(as_kong_sends(value, body))
    assert ahead is not None
    assert ahead.knows("table")
    found = ahead.get("table")
    held = found.pop("body", None)
    assert found == value
    assert (held.encode("utf-8", "surrogateescape") if isinstance(held, str) else held) == body


@given(value=TABLES, body=st.none() | st.binary())
def test_what_is_told_arrives_and_is_known_from_then_on(value: dict[str, Any], body: bytes | None) -> None:
    ahead = Ahead({}, takes=True)
    given_value = value if body is None else {**value, "body": body}
    assert ahead.set("table", given_value)
    assert ahead.get("table") == given_value
    decoder = Decoder()
    decoder.feed(pack([1, 1, None, {"Shared": ahead.told()}]))
    reply = decoder.next()
    assert isinstance(reply, Reply)
    text, *bodies = reply.result["Shared"]["table"]
    assert json.loads(text) == value
    assert bodies == ([] if body is None else [body])


def test_lua_gets_no_null() -> None:
    ahead = Ahead({}, takes=True)
    assert ahead.set("table", {"a": None, "b": [{"c": None, "d": "null"}], "e": b"\xff"})
    assert json.loads(ahead.told()["table"][0]) == {"b": [{"d": "null"}], "e": "\udcff"}


def test_what_is_too_large_for_one_message_goes_by_itself_and_comes_last() -> None:
    ahead = Ahead({}, takes=True)
    assert ahead.set("small", "before")
    assert not ahead.set("large", "x" * 300_000)
    assert not ahead.set("small", "y" * 300_000)
    assert ahead.told() == {}


@pytest.mark.parametrize("argument", [{}, {"Shared": None}, {"Shared": [], "Takes": "yes"}, {"Record": "{}"}])
def test_from_a_kong_without_our_lua_nothing_comes(argument: dict[str, Any]) -> None:
    assert Ahead.of(argument) is None


@pytest.mark.parametrize("packed", [None, [], "text", [1], [None, b"body"]])
def test_what_is_no_value_is_none(packed: Any) -> None:
    ahead = Ahead.of({"Shared": {"table": packed}})
    assert ahead is not None
    assert ahead.get("table") is None


def test_a_phase_makes_no_call_for_what_is_known_and_can_be_told() -> None:
    channel = Channel()
    channel.ahead = Ahead({"asked": ['"known"']}, takes=True, record="{}")
    kong = ServedKong(channel, 1e9)
    assert kong.call("kong.ctx.shared.get", "asked") == "known"
    assert kong.call("kong.log.serialize") == "{}"
    kong.call("kong.ctx.shared.set", "told", {"a": 1})
    assert kong.call("kong.ctx.shared.get", "told") == {"a": 1}
    assert channel.sent == []
    kong.call("kong.ctx.shared.get", "another")
    assert [m["Method"] for m in channel.sent] == ["kong.ctx.shared.get"]


def test_where_kong_answers_no_call_none_is_made() -> None:
    channel = Channel()
    channel.ahead = Ahead({}, alone=True)
    with pytest.raises(PDKException):
        ServedKong(channel, 1e9).call("kong.request.get_headers")
    assert channel.sent == []

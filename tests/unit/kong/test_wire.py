"""Framing of Kong's MessagePack-RPC."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.kong.wire import (
    Call,
    Decoder,
    MalformedError,
    Reply,
    TooLargeError,
    pack,
    pack_as_kong,
    reply,
)

texts = st.binary(max_size=40).map(lambda b: b.decode("utf-8", "surrogateescape"))
values = st.recursive(
    st.integers(-(2**53), 2**53) | st.booleans() | texts | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, min_size=1, max_size=4),
    max_leaves=12,
)


@given(values, st.integers(1, 7))
def test_any_value_survives_in_any_pieces(value: Any, size: int) -> None:
    for data in (pack_as_kong([0, 5, "plugin.Step", [value]]), pack([0, 5, "plugin.Step", [value]])):
        decoder = Decoder()
        found = None
        for start in range(0, len(data), size):
            assert found is None
            decoder.feed(data[start : start + size])
            found = decoder.next()
        assert found == Call(5, "plugin.Step", value)
        assert not decoder.pending


def test_a_reply_is_built_around_a_packed_result() -> None:
    decoder = Decoder()
    decoder.feed(reply(70000, pack({"a": 1})) + pack([1, 2, "error", None]))
    assert decoder.next() == Reply(70000, None, {"a": 1})
    assert decoder.pending
    assert decoder.next() == Reply(2, "error", None)
    assert decoder.next() is None


def test_kong_packs_texts_as_raw_and_empty_tables_as_arrays() -> None:
    assert pack_as_kong("x" * 40)[:1] == b"\xda"  # raw16, never str8
    assert pack_as_kong(b"x" * 40)[:1] == b"\xc4"  # bin8
    assert pack_as_kong({}) == b"\x90"
    assert msgpack.unpackb(pack_as_kong({"a": None, "b": 1})) == {"b": 1}


@pytest.mark.parametrize(
    "data", [b"\x05", b"\xc1", b"\x92\x00\x01", b"\x94\x02\x01\xa1a\x90", b"\x94\x00\xa1a\xa1a\x90"]
)
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    decoder = Decoder()
    decoder.feed(data)
    with pytest.raises(MalformedError):
        decoder.next()


def test_a_message_over_the_limit_is_told_by_its_id() -> None:
    decoder = Decoder(limit=1000)
    decoder.feed(pack_as_kong([0, 77, "plugin.Step", [{"Data": "x" * 5000}]])[:900])
    assert decoder.next() is None
    with pytest.raises(TooLargeError, match="over 1000 bytes") as caught:
        decoder.feed(b"x" * 900)
    assert caught.value.msgid == 77

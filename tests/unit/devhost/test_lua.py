from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.devhost import lua

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_was_encoded_decodes_to_the_same(value: object) -> None:
    assert lua.decode(lua.encode(value)) == value


@given(st.binary())
def test_bytes_survive_as_text(raw: bytes) -> None:
    assert lua.to_bytes(lua.from_bytes(raw)) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello",
        b'{"a": 1',
        b'"\\ud800"',
        b'"\\udc00"',
        b'"\\ud800\\u0041"',
        b'"\\\\\\ud800"',
        b"[" * 1001 + b"]" * 1001,
        b"[" * 10_000 + b"]" * 10_000,
        b"1 2",
    ],
)
def test_what_cjson_refuses_is_missing(raw: bytes) -> None:
    assert lua.decode(raw) is lua.MISSING


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"a\nb"', "a\nb"),
        (b'"\xff"', "\udcff"),
        (b"[" * 900 + b"]" * 900, None),
    ],
)
def test_what_cjson_takes_is_decoded(raw: bytes, value: object) -> None:
    got = lua.decode(raw)
    assert got is not lua.MISSING
    assert value is None or got == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, b"1"),
        (0.1, b"0.1"),
        (12345678901234567890, b"1.234567890123457e+19"),
        ({"a": lua.MISSING, "b": None}, b'{"b":null}'),
        ("a/b\udcff", b'"a/b\xff"'),
        ([], b"[]"),
    ],
)
def test_numbers_and_absence_are_written_as_lua_has_them(value: object, text: bytes) -> None:
    assert lua.encode(value) == text


@pytest.mark.parametrize("value", [None, 0, "", [], True])
def test_only_nil_and_false_are_false(value: object) -> None:
    assert lua.truthy(value)
    assert not lua.truthy(False)
    assert not lua.truthy(lua.MISSING)


@pytest.mark.parametrize("value", [1, None, True])
def test_a_number_or_null_cant_be_indexed(value: object) -> None:
    with pytest.raises(TypeError):
        lua.get(value, "content")


def test_words_are_runs_of_bytes_between_ascii_spaces() -> None:
    assert lua.words("one  two\nthree\u00a0four") == 3

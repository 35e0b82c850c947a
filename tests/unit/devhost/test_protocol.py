from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.devhost import lua
from tenantgate.devhost.protocol import EMPTY_MAP, Binary, pack


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        ("a" * 40, b"\xda\x00\x28" + b"a" * 40),  # str8 would be 0xd9
        ("caf\udce9", b"\xa4caf\xe9"),
        ({}, b"\x90"),
        (EMPTY_MAP, b"\x80"),
        ([], b"\x90"),
        (2.0, b"\x02"),
        (Binary(b"\xff"), b"\xc4\x01\xff"),
        ({"a": lua.MISSING}, b"\x90"),
        ({"a": None}, b"\x81\xa1a\xc0"),
        (True, b"\xc3"),
    ],
)
def test_values_are_packed_as_lua_packs_them(value: object, packed: bytes) -> None:
    assert pack(value) == packed


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=20)
            | st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=20)
        ),
        max_leaves=20,
    )
)
def test_what_is_packed_can_be_read(value: object) -> None:
    assert msgpack.unpackb(pack(value), raw=False, strict_map_key=False) == value


@pytest.mark.parametrize("size", [31, 32, 65535, 65536])
def test_long_strings_and_lists_are_whole(size: int) -> None:
    assert msgpack.unpackb(pack("x" * size), raw=False) == "x" * size
    assert msgpack.unpackb(pack([1] * size)) == [1] * size


def test_what_lua_cant_pack_is_an_error() -> None:
    with pytest.raises(TypeError):
        pack(object())

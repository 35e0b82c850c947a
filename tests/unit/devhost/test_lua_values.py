from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lua_rig import state
from tenantgate.devhost import lua
from tenantgate.devhost.pdk_event import PdkError

VALUES = state().values
TEXTS = st.binary(max_size=20).map(lua.from_bytes)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, min_size=1, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON.filter(lambda v: v is not None))
def test_a_value_comes_back_from_lua_as_it_was(value: Any) -> None:
    assert VALUES.to_python(VALUES.to_lua(value)) == value


@given(JSON)
def test_arrays_that_are_marked_stay_arrays(value: Any) -> None:
    wrapped = {"in": [value, []]}
    assert VALUES.to_python(VALUES.to_lua(wrapped, arrays=True)) == wrapped


def test_an_empty_list_is_an_empty_table() -> None:
    assert VALUES.to_python(VALUES.to_lua([])) == {}


def test_nothing_is_nil() -> None:
    assert VALUES.to_lua(lua.MISSING) is None
    assert VALUES.to_lua(None) is None


def test_large_numbers_are_doubles() -> None:
    assert VALUES.to_python(VALUES.to_lua(10**30)) == 1e30


def test_a_python_object_is_refused() -> None:
    with pytest.raises(PdkError, match="a object is no value for Lua"):
        VALUES.to_lua({"a": object()})

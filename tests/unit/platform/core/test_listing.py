from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.errors import ConfigError
from tenantgate.platform.core.listing import Page, read_page

PAGE: dict[str, Any] = {"version": 3, "data": [{"id": "acme", "later": 1}], "next_cursor": None}


def test_a_page_has_its_entries_with_members_that_are_not_known() -> None:
    raw = json.dumps({**PAGE, "also": "later"}).encode()
    assert read_page(raw) == Page(3, {"acme": {"id": "acme", "later": 1}}, None)
    assert read_page(json.dumps({**PAGE, "next_cursor": "x"}).encode()).next_cursor == "x"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 0}, "version: must be a whole number from 1"),
        ({"version": True}, "version: "),
        ({"version": 2**53}, "version: "),
        ({"data": None}, "data: must be a list"),
        ({"data": [1]}, "data[0].id: must be a tenant's id"),
        ({"data": [{"id": "~catalog"}]}, "data[0].id: must be a tenant's id"),
        ({"data": [{"id": "a"}, {"id": "a"}]}, "data[1].id: a is there twice"),
        ({"next_cursor": ""}, "next_cursor: "),
        ({"next_cursor": "x" * 1001}, "next_cursor: "),
    ],
)
def test_a_page_that_is_none_is_refused_by_its_member(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_page(json.dumps({**PAGE, **change}).encode())
    assert str(error.value).startswith(problem)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "data", "x"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(
    st.binary(max_size=20)
    | st.fixed_dictionaries(dict.fromkeys(PAGE, json_values)).map(lambda v: json.dumps(v).encode())
)
def test_whatever_comes_is_a_page_or_said_to_be_none(raw: bytes) -> None:
    try:
        page = read_page(raw)
    except ConfigError:
        return
    assert page.version > 0


def test_a_deeply_nested_answer_is_refused() -> None:
    with pytest.raises(ConfigError, match="isn't JSON"):
        read_page(b"[" * 1_000_000)

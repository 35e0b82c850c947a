"""A request's Cache-Control, in the spellings that clients send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.cache_control import CacheControl, may_serve

SECONDS = st.integers(0, 10**9)


@pytest.mark.parametrize(
    ("lines", "control"),
    [
        ((), CacheControl()),
        (("no-store",), CacheControl(no_store=True)),
        (("No-Cache",), CacheControl(no_cache=True)),
        (("max-age=0",), CacheControl(no_cache=True, max_age=0)),
        (("max-age=60, min-fresh=5",), CacheControl(max_age=60, min_fresh=5)),
        (('max-age="60"',), CacheControl(max_age=60)),
        (("only-if-cached", "no-store"), CacheControl(no_store=True, only_if_cached=True)),
        (("max-age=-1, max-age=5",), CacheControl()),
        (("max-age=1e3",), CacheControl()),
        (("max-age=99999999999999999999",), CacheControl()),
        (("max-age=٣",), CacheControl()),
        (("private, x=y, ,=",), CacheControl()),
        (("no-storey",), CacheControl()),
        (("NO-STORE , No-Cache",), CacheControl(no_store=True, no_cache=True)),
        (("\tno-store\t",), CacheControl(no_store=True)),
        (("max-age=",), CacheControl()),
        (("max-age",), CacheControl()),
        (("max-age=5, max-age=9",), CacheControl(max_age=5)),
        (("min-fresh=-1",), CacheControl()),
        (("max-age=00",), CacheControl(no_cache=True, max_age=0)),
        (("x-no-store, no-store-please",), CacheControl()),
        (("",), CacheControl()),
    ],
)
def test_spellings(lines: tuple[str, ...], control: CacheControl) -> None:
    assert CacheControl.parse(lines) == control


@given(st.permutations(["no-store", "max-age=7", "min-fresh=3", "only-if-cached", "x=1"]))
def test_neither_order_nor_lines_matter(directives: list[str]) -> None:
    assert CacheControl.parse(tuple(directives)) == CacheControl.parse((", ".join(sorted(directives)),))


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_what_is_served_is_fresh_by_every_bound(age: int, ttl: int, max_age: int, min_fresh: int) -> None:
    control = CacheControl(max_age=max_age, min_fresh=min_fresh)
    assert may_serve(control, age_s=age, ttl_s=ttl) == (age <= max_age and ttl > 0 and ttl >= min_fresh)


@given(st.lists(st.text(max_size=30), max_size=3))
def test_no_directive_raises(lines: list[str]) -> None:
    CacheControl.parse(tuple(lines))


@pytest.mark.parametrize(
    ("control", "age", "ttl", "served"),
    [
        (CacheControl(), 10, 1, True),
        (CacheControl(), 10, 0, False),
        (CacheControl(max_age=10), 10, 5, True),
        (CacheControl(max_age=9), 10, 5, False),
        (CacheControl(min_fresh=5), 0, 5, True),
        (CacheControl(min_fresh=6), 0, 5, False),
    ],
)
def test_an_entry_is_served_while_it_is_what_the_client_wants(
    control: CacheControl, age: float, ttl: float, served: bool
) -> None:
    assert may_serve(control, age_s=age, ttl_s=ttl) is served

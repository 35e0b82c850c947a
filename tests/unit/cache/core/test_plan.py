"""A request's Cache-Control, in the spellings that clients send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.plan import CacheControl, may_serve

SECONDS = st.integers(0, 10**9)


@pytest.mark.parametrize(
    ("lines", "control"),
    [
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

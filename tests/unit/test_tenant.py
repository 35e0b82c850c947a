from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.errors import ConfigError
from tenantgate.tenant import TenantId

HOSTILE = ["a:b", "{x}", "a b", "🙂", "x" * 10_000, "~", "~" + "0" * 64, "\x00", "a\nb", "\udc80", "A", "a"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_slug_is_short_and_safe_in_a_key(text: str) -> None:
    slug = TenantId(text).slug
    assert 0 < len(slug) <= 65
    assert not set(slug) & set(":{} \n\x00*?[]")


def test_hostile_ids_stay_apart() -> None:
    assert len({TenantId(text).slug for text in HOSTILE}) == len(HOSTILE)


@given(st.text(min_size=1), st.text(min_size=1))
def test_slugs_are_equal_only_for_equal_ids(a: str, b: str) -> None:
    assert (TenantId(a).slug == TenantId(b).slug) == (a == b)
    assert (TenantId(a) == TenantId(b)) == (a == b)


def test_an_id_compares_with_ids_only() -> None:
    assert TenantId("a") != "a"
    assert hash(TenantId("a")) == hash(TenantId("a"))


@pytest.mark.parametrize("text", ["", None, 3])
def test_no_tenant_without_an_id(text: object) -> None:
    with pytest.raises(ConfigError, match="tenant id"):
        TenantId(text)  # type: ignore[arg-type]


def test_the_repr_of_a_long_id_is_short() -> None:
    assert len(repr(TenantId("x" * 10_000))) < 90

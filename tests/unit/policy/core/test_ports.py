"""Versions as values: digests, differences, successors, notes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_rig import NOTE
from tenantgate.errors import ConfigError
from tenantgate.policy.core.ports import (
    PublishNote,
    difference,
    digest_of,
    pages,
    successor,
    tenant_bytes,
    tenant_text,
)

HASHES = st.binary(min_size=32, max_size=32)
INDEXES = st.dictionaries(st.text(min_size=1, max_size=3), HASHES, max_size=6)


@given(INDEXES, INDEXES)
def test_a_difference_leads_from_one_index_to_the_other(old: dict[str, bytes], new: dict[str, bytes]) -> None:
    delta = difference(old, new)
    made = {tenant: hashed for tenant, hashed in {**old, **delta}.items() if hashed is not None}
    assert made == new
    assert all(old.get(tenant) != hashed for tenant, hashed in delta.items())


@given(INDEXES, INDEXES)
def test_digests_are_equal_for_equal_indexes_alone(one: dict[str, bytes], two: dict[str, bytes]) -> None:
    assert digest_of(one) == digest_of(dict(reversed(one.items())))
    assert (digest_of(one) == digest_of(two)) == (one == two)


@given(INDEXES, st.dictionaries(st.text(min_size=1, max_size=3), st.none() | HASHES, max_size=6))
def test_a_successor_counts_what_really_changes(
    old: dict[str, bytes], changes: dict[str, bytes | None]
) -> None:
    info, delta = successor(old, changes, head=4, note=NOTE, least=1)
    new = {t: h for t, h in {**old, **changes}.items() if h is not None}
    assert delta == difference(old, new)
    assert (info.number, info.changed, info.digest) == (5, len(delta), digest_of(new))
    assert successor(old, changes, head=4, note=NOTE, least=9)[0].number == 9


@given(st.text(st.characters(exclude_categories=()), max_size=5))
def test_any_tenant_id_can_be_stored(tenant: str) -> None:
    assert tenant_text(tenant_bytes(tenant)) == tenant


@given(st.lists(st.integers(), max_size=9), st.integers(1, 4))
def test_pages_are_all_items_in_order(items: list[int], size: int) -> None:
    found = list(pages(items, size))
    assert [item for page in found for item in page] == items
    assert all(0 < len(page) <= size for page in found)


@pytest.mark.parametrize("text", ["x" * 2001, "a\0b", "\ud800"])
def test_a_note_is_text_that_every_store_takes(text: str) -> None:
    PublishNote("é", "x" * 2000, 0.0)
    for author, message in ((text, ""), ("", text)):
        with pytest.raises(ConfigError, match="author" if author else "message"):
            PublishNote(author, message, 0.0)

"""Which entries this process expects in the store."""

from __future__ import annotations

import pytest

from tenantgate.cache.core.recent_names import RecentNames


def test_the_oldest_is_forgotten_first() -> None:
    names = RecentNames(2)
    for name in ("a", "b", "a", "c"):
        names.add(name)
    names.discard("d")
    assert [name in names for name in "abcd"] == [True, False, True, False]


def test_what_is_gone_is_not_expected() -> None:
    names = RecentNames(2)
    names.add("a")
    names.discard("a")
    assert "a" not in names


@pytest.mark.parametrize("most", [0, 1, 3])
def test_no_more_than_so_many_are_remembered(most: int) -> None:
    names = RecentNames(most)
    for i in range(10):
        names.add(str(i))
    assert sum(str(i) in names for i in range(10)) == most

from __future__ import annotations

import pytest

from tenantgate.store.redis_nodes import _slots

ASKED = ("asked", 1)


def test_each_slot_has_the_node_that_holds_it() -> None:
    found = _slots(
        [[0, 99, [b"a", 7, b"id", []], [b"replica", 8, b"id", []]], [200, 16383, [b"b", 9, b"id"]]], ASKED
    )
    assert [found[slot] for slot in (0, 99, 100, 199, 200, 16383)] == [
        ("a", 7),
        ("a", 7),
        None,
        None,
        ("b", 9),
        ("b", 9),
    ]


@pytest.mark.parametrize("host", [b"", None, b"?"])
def test_a_node_without_a_host_is_reached_as_the_one_that_was_asked(host: bytes | None) -> None:
    assert _slots([[0, 16383, [host, 7, b"id", []]]], ASKED)[5] == ("asked", 7)


@pytest.mark.parametrize(
    "answer", [[[0, 20_000, [b"a", 7]]], [[0, 1]], [[0, 1, [b"a", b"x"]]], 5, [[0, 1, []]]]
)
def test_what_is_no_map_is_refused(answer: object) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        _slots(answer, ASKED)

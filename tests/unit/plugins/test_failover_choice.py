from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failover_lua import Module
from tenantgate.policy.core.records import FAILURES

CHOICE = Module("choice")


def targets(*texts: str) -> list[dict[str, Any]]:
    """``provider/name`` with ``@url`` and ``:window``, both as needed."""
    out = []
    for text in texts:
        rest, _, window = text.partition(":")
        model, _, url = rest.partition("@")
        provider, name = model.split("/")
        out.append(
            {"provider": provider, "name": name, **({"url": url} if url else {})}
            | ({"context_window": int(window)} if window else {})
        )
    return out


def following(found: list[dict[str, Any]], tried: set[int], current: int, outcome: str) -> int | None:
    return CHOICE.raw("next")(CHOICE.table(found), CHOICE.table(dict.fromkeys(tried, True)), current, outcome)


@pytest.mark.parametrize(
    "outcome", ["error", "http_429", "http_500", "http_503", "http_529", "timeout", "refused"]
)
def test_the_next_in_the_list(outcome: str) -> None:
    found = targets("a/m", "a/m", "b/m")
    assert following(found, {1}, 1, outcome) == 2
    assert following(found, {1, 2}, 2, outcome) == 3
    assert following(found, {1, 3}, 3, outcome) == 2
    assert following(found, {1, 2, 3}, 3, outcome) is None


@pytest.mark.parametrize("outcome", ["http_401", "http_403"])
@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("a/m", "b/m", "a/m"), 3),
        (("a/m", "b/m", "a/n"), 2),
        (("a/m@u", "a/m@v", "a/m@u"), 3),
        (("a/m", "b/m"), 2),
        (("a/m",), None),
    ],
)
def test_a_credential_that_is_refused(outcome: str, texts: tuple[str, ...], expected: int | None) -> None:
    """Another one of the same model, then another model."""
    assert following(targets(*texts), {1}, 1, outcome) == expected


@pytest.mark.parametrize(
    ("texts", "tried", "expected"),
    [
        (("a/m:10", "b/m:5", "c/m:20"), {1}, 3),
        (("a/m:10", "b/m:10"), {1}, None),
        (("a/m:10", "b/m"), {1}, None),
        (("a/m", "b/m:20"), {1}, None),
        (("a/m:10", "b/m:20", "c/m:15"), {1, 2}, None),
        (("a/m:10", "b/m:20", "c/m:30"), {1, 2}, 3),
    ],
)
def test_a_prompt_that_is_too_long_needs_a_larger_window(
    texts: tuple[str, ...], tried: set[int], expected: int | None
) -> None:
    assert following(targets(*texts), tried, max(tried), "context_length") == expected


def classes(found: list[dict[str, Any]], tried: set[int], current: int, left: int) -> set[str]:
    made = CHOICE.classes(found, dict.fromkeys(tried, True), current, list(FAILURES), left)
    return set(made)


def test_classes_that_find_a_next_target() -> None:
    every = {*FAILURES, "refused"}
    assert classes(targets("a/m", "b/m"), {1}, 1, 1) == every - {"context_length"}
    assert classes(targets("a/m:1", "b/m:2"), {1}, 1, 1) == every
    assert classes(targets("a/m", "b/m"), {1}, 1, 0) == set()
    assert classes(targets("a/m", "b/m"), {1, 2}, 2, 1) == set()


@given(
    st.lists(st.sampled_from(["a/m", "a/m:10", "b/m:20", "b/n", "a/m@u"]), min_size=1, max_size=6),
    st.lists(st.sampled_from([*FAILURES]), max_size=8),
)
def test_no_target_is_tried_twice(texts: list[str], outcomes: list[str]) -> None:
    found, tried, current = targets(*texts), {1}, 1
    for outcome in outcomes:
        number = following(found, tried, current, outcome)
        if number is None:
            break
        assert number not in tried
        assert 1 <= number <= len(found)
        tried.add(number)
        current = number

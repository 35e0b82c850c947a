"""Affinity: what counts as the same conversation, and where it goes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.routing.core.affinity import affinity_key, beginning, score
from tenantgate.tenant import TenantId

SYSTEM = {"role": "system", "content": "You are terse."}
FIRST = {"role": "user", "content": "Hi"}
ACME = TenantId("acme")


def best(key: bytes, weights: dict[str, int]) -> str:
    return max(weights, key=lambda name: score(key, name, weights[name]))


def key(n: int) -> bytes:
    return affinity_key(ACME, "smart", str(n).encode())


def test_later_turns_are_the_same_conversation() -> None:
    turns = [SYSTEM, FIRST, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "More"}]
    assert beginning([SYSTEM, FIRST]) == beginning(turns)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "You are verbose."}, FIRST],
        [SYSTEM, {"role": "user", "content": "Ho"}],
        [FIRST],
        [{"role": "user", "content": "You are terse."}, FIRST],
        [{"role": "system", "content": "You are terse.Hi"}],
        [SYSTEM, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        [SYSTEM, {"role": "user", "content": "Hi" + "x" * 20_000}],
        [SYSTEM, {"role": "user", "content": "Hi" + "x" * 20_001}],
    ],
)
def test_others_are_not(messages: list[dict[str, Any]]) -> None:
    assert beginning(messages) != beginning([SYSTEM, FIRST])


@pytest.mark.parametrize("content", [None, 7, [], [1, None, {"text": 3}], {"text": "x"}, "\ud800"])
def test_any_content_has_a_beginning(content: Any) -> None:
    assert len(beginning([{"role": content, "content": content}])) == 16


def test_tenants_and_models_have_keys_of_their_own() -> None:
    keys = {affinity_key(TenantId(t), m, b"p") for t in ("a", "b", "ab") for m in ("m", "bm", "")}
    assert len(keys) == 9


def test_shares_follow_weights() -> None:
    weights = {"a": 300, "b": 100, "none": 0}
    counts = Counter(best(key(n), weights) for n in range(2000))
    assert counts["none"] == 0
    assert 1400 < counts["a"] < 1600


@given(st.integers(), st.sets(st.text(min_size=1, max_size=5), min_size=2, max_size=6), st.data())
def test_only_the_conversations_of_a_target_that_is_gone_move(n: int, names: set[str], data: Any) -> None:
    weights = {name: data.draw(st.integers(1, 500)) for name in sorted(names)}
    gone = data.draw(st.sampled_from(sorted(names)))
    chosen = best(key(n), weights)
    rest = {name: weight for name, weight in weights.items() if name != gone}
    if chosen != gone:
        assert best(key(n), rest) == chosen

"""What the guards' verdicts mean: whom a stored answer may go to, and which replies are for everybody."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.guard_verdicts import let_pass, made_for_one


@pytest.mark.parametrize(
    ("verdict", "passed"),
    [
        (None, False),
        ({}, True),
        ({"action": "pass"}, True),
        ({"action": "alert", "recover": False}, True),
        ({"action": "mask", "recover": True}, False),
    ],
)
def test_requests(verdict: dict[str, Any] | None, passed: bool) -> None:
    assert let_pass(verdict) is passed


@pytest.mark.parametrize(
    ("verdict", "own"),
    [
        (None, False),
        ({}, False),
        ({"action": "pass"}, False),
        ({"action": "alert", "rules": {"cards": {"mode": "alert"}}}, False),
        ({"action": "mask"}, True),
        ({"action": "block"}, True),
        ({"action": "of tomorrow"}, True),
        ({"action": "pass", "recovered": 1}, True),
        ({"action": "pass", "rules": {"cards": {"mode": "block", "exempted": 1}}}, True),
        ({"action": "pass", "rules": {"cards": {"exempted": 0}}}, True),
    ],
)
def test_replies(verdict: dict[str, Any] | None, own: bool) -> None:
    assert made_for_one(verdict) is own


ODD = (
    st.none()
    | st.booleans()
    | st.text(max_size=3)
    | st.lists(st.integers())
    | st.dictionaries(st.text(), st.none())
)


@given(ODD, ODD)
def test_no_verdict_raises(rules: object, action: Any) -> None:
    made_for_one({"rules": rules, "action": action})
    made_for_one({"rules": {"r": rules}})
    let_pass({"recover": rules})

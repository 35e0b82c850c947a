"""Exemptions end, have a reason, and cover what they name."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.errors import ConfigError
from tenantgate.guard.core.exemptions import Exemption, State, approve, covering, in_force, read


def exemption(**changes: Any) -> Exemption:
    values = {"id": "x1", "rule": "block", "reason": "why", "by": "ann", "created": 1000.0, "until": 2000.0}
    return Exemption(**{**values, **changes})


def test_exemptions_end_by_themselves_and_need_a_second_person_where_asked() -> None:
    asked = exemption(state=State.REQUESTED)
    assert in_force([asked], 1500) == ()
    with pytest.raises(ConfigError, match="second person"):
        approve(asked, " Ann ")
    granted = approve(asked, "bob")
    assert in_force([granted], 1500, approval=True) == (granted,)
    assert in_force([granted], 2000, approval=True) == ()
    assert in_force([exemption()], 1500, approval=True) == ()
    assert read(granted.to_json()) == granted


def test_an_exemption_covers_its_rule_and_where_it_names_one_its_hash() -> None:
    whole, hashed = exemption(id="all"), exemption(id="one", fingerprint="f1")
    assert covering([hashed, whole], "block", lambda: "f1") is hashed
    assert covering([hashed, whole], "block", lambda: "f2") is whole
    assert covering([hashed], "block", lambda: "") is None
    assert covering([whole], "other", lambda: "f1") is None


def test_no_hash_is_computed_that_no_exemption_names() -> None:
    assert covering([exemption()], "block", pytest.fail) is not None
    assert covering([exemption(rule="other", fingerprint="f1")], "block", pytest.fail) is None


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"state": "active"}', "\ud800", '{"state":"x"}'])
def test_a_damaged_exemption_is_none(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    "changes", [{"reason": " "}, {"by": ""}, {"until": 999.0}, {"until": 1000.0 + 400 * 86_400}]
)
def test_an_exemption_needs_a_reason_a_name_and_an_end(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        exemption(**changes)

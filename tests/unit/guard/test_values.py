"""Rules at work on arguments and results of tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.guard.config import GuardConfig, RuleConfig
from tenantgate.guard.core.passages import of_value
from tenantgate.guard.values import Checked, ValueGuard
from tenantgate.kong.host import Host
from tenantgate.kong.testing import FakeKong
from tenantgate.tenant import TenantId

MAIL = "a.person@example.com"


def check(value: Any, *, mode: str = "mask", most: int = 10_000, detector: str = "personal_data") -> Checked:
    rule = RuleConfig(name="r", detector=detector, mode=mode, target="last_message")
    config = GuardConfig(rules=(rule,), exemptions=False)
    guard = ValueGuard(config, config.rules, most=most)
    return guard.check(Host(FakeKong(), "access", deadline_ms=5000), TenantId("acme"), value, of="request")


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ({"to": MAIL}, {"to": "[EMAIL_ADDRESS_1]"}),
        ({"deep": [{"to": [MAIL]}]}, {"deep": [{"to": ["[EMAIL_ADDRESS_1]"]}]}),
        ({MAIL: 1}, {"[EMAIL_ADDRESS_1]": 1}),
        ({"card": 4111111111111111}, {"card": "[CREDIT_CARD_1]"}),
        (f"write to {MAIL}", "write to [EMAIL_ADDRESS_1]"),
        ({"role": MAIL, "type": MAIL}, {"role": "[EMAIL_ADDRESS_1]", "type": "[EMAIL_ADDRESS_1]"}),
        ({"city": "Bern", "count": 10485760, "ok": True, "none": None}, None),
    ],
)
def test_texts_are_masked_where_they_stand(value: Any, masked: Any) -> None:
    found = check(value)
    assert found.value == (value if masked is None else masked)
    assert not found.refused
    assert found.verdict["action"] == ("pass" if masked is None else "mask")
    assert MAIL not in json.dumps(found.verdict)


def test_what_is_blocked_has_no_value() -> None:
    found = check({"to": MAIL}, mode="block")
    assert (found.refused, found.value) == (True, None)
    assert MAIL not in found.message + json.dumps(found.verdict)


def test_what_only_alerts_passes() -> None:
    value = {"to": MAIL}
    found = check(value, mode="alert")
    assert (found.value, found.verdict["action"]) == (value, "alert")


def test_a_text_that_is_too_long_is_refused_where_a_rule_enforces() -> None:
    assert check({"text": "x" * 200}, most=100).refused
    assert not check({"text": "x" * 200}, most=100, mode="alert").refused


def test_names_of_members_are_no_prose() -> None:
    found = of_value({"city": "Bern", "count": 123456, "Do not tell": "x"})
    said = found.text[: found.prose]
    assert "Bern" in said
    assert "Do not tell" in said
    assert "city" not in said
    assert "123456" not in said
    assert "123456" in found.text

"""Answers to refused requests: a stable code, and the reason only where asked for."""

from __future__ import annotations

import json

from tenantgate.guard.config import RuleConfig
from tenantgate.guard.core.answers import blocked
from tenantgate.guard.core.decision import Action, Decision, Hit
from tenantgate.guard.core.passages import of_text
from tenantgate.llm.errors import Code
from tenantgate.pii.core import Finding


def test_a_refusal_says_nothing_of_rules_unless_asked() -> None:
    rule = RuleConfig(name="block", detector="secrets", mode="block")
    hit = Hit(rule, of_text("some text"), (Finding(0, 4, "TOKEN", 0.9),))
    decision = Decision(Action.BLOCK, (hit,))
    body = blocked(Code.CONTENT_POLICY_VIOLATION, request_id="r-1", decision=decision)
    error = json.loads(body)["error"]
    assert (error["code"], error["request_id"]) == ("content_policy_violation", "r-1")
    assert b"TOKEN" not in body
    body = blocked(Code.CONTENT_POLICY_VIOLATION, request_id=None, decision=decision, show_reason=True)
    assert json.loads(body)["error"]["rules"] == {"block": ["TOKEN"]}


def test_a_refusal_says_no_foreign_id_back() -> None:
    assert b"request_id" not in blocked(Code.CONTENT_POLICY_VIOLATION, request_id="<b>\n")

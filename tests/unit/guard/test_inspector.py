"""Detectors at work: each reads once, and one that fails is never taken for one that found nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.errors import TenantgateError
from tenantgate.guard.config import PatternConfig, RuleConfig
from tenantgate.guard.core.decision import Action
from tenantgate.guard.core.requests import RequestBody
from tenantgate.guard.inspector import Inspector
from tenantgate.guard.models import SharedParts
from tenantgate.pii.core import Finding, Placeholders
from tenantgate.time_left import OutOfTimeError

BODY = RequestBody({"messages": [{"role": "user", "content": "a key here"}]})


class Finder(SharedParts):
    """Operators' patterns that find ``key``, for as many readings as may succeed."""

    def __init__(self, successes: int = 1000) -> None:
        super().__init__()
        self.readings, self._successes = 0, successes

    def patterns(self, rule: RuleConfig) -> Finder:
        return self

    def find(self, text: str) -> tuple[Finding, ...]:
        self.readings += 1
        if self.readings > self._successes:
            raise TenantgateError("gone")
        at = text.find("key")
        return (Finding(at, at + 3, "KEY", 0.9),) if at >= 0 else ()


def rule(name: str, mode: str = "mask", **more: Any) -> RuleConfig:
    patterns = (PatternConfig(name="KEY", regex="key"),)
    return RuleConfig(name=name, detector="patterns", mode=mode, patterns=patterns, **more)


def inspector(*rules: RuleConfig, parts: Finder, reject: bool = True) -> Inspector:
    return Inspector(rules, parts, reject_unchecked=reject)


def passages(made: Inspector) -> Any:
    return BODY.passages(made.targets)


def test_equal_rules_read_a_target_once() -> None:
    parts = Finder()
    made = inspector(rule("one", "alert"), rule("two", "block"), parts=parts)
    decision = made.inspect(passages(made))
    assert (decision.action, len(decision.hits), parts.readings) == (Action.BLOCK, 2, 1)
    made = inspector(rule("one", "alert"), rule("two", "alert", target="last_message"), parts=Finder())
    assert len(made.inspect(passages(made)).hits) == 2


@pytest.mark.parametrize("mode", ["mask", "block"])
def test_a_detector_that_fails_fails_the_inspection_where_its_rule_enforces(mode: str) -> None:
    made = inspector(rule("one", mode), parts=Finder(0))
    with pytest.raises(TenantgateError, match="gone"):
        made.inspect(passages(made))


@pytest.mark.parametrize(("mode", "reject"), [("alert", True), ("mask", False), ("block", False)])
def test_else_it_is_a_failure_of_its_rule_alone(mode: str, reject: bool) -> None:
    secrets = RuleConfig(name="two", detector="secrets", mode="block")
    made = inspector(rule("one", mode), secrets, parts=Finder(0), reject=reject)
    decision = made.inspect(passages(made))
    assert (decision.action, set(decision.failures)) == (Action.PASS, {"one"})


def test_a_rule_that_is_not_to_read_has_no_time() -> None:
    parts = Finder()
    made = inspector(rule("one", "alert"), parts=parts)
    decision = made.inspect(passages(made), unread=made.rules)
    assert isinstance(decision.failures["one"], OutOfTimeError)
    assert parts.readings == 0


def test_masking_reads_the_changed_text_once_more() -> None:
    parts = Finder()
    made = inspector(rule("one"), parts=parts)
    masked = made.mask(BODY, Placeholders(), decision=made.inspect(passages(made)))
    assert masked.value["messages"][0]["content"] == "a [KEY_1] here"
    assert parts.readings == 2


def test_a_detector_that_fails_on_the_changed_text_fails_masking_at_once() -> None:
    parts = Finder(1)
    made = inspector(rule("one"), parts=parts, reject=False)
    with pytest.raises(TenantgateError, match="gone"):
        made.mask(BODY, Placeholders(), decision=made.inspect(passages(made)))
    assert parts.readings == 2

"""Rules that can't hold are refused, with their name."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.errors import ConfigError
from tenantgate.fields import check, parse
from tenantgate.guard.config import DEFAULT_RULES, GuardConfig, RuleConfig


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"detector": "injection", "mode": "mask"}, "masked"),
        ({"detector": "denied_topics"}, "examples"),
        ({"detector": "patterns"}, "expressions"),
        ({"detector": "secrets", "target": "reply", "mode": "block"}, "tenant-response-guardrails"),
        ({"detector": "personal_data", "kinds": ["SHOE_SIZE"]}, "SHOE_SIZE"),
        ({"detector": "injection", "kinds": ["TOKEN"]}, "no kinds"),
    ],
)
def test_rules_that_make_no_sense_are_refused_by_name(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse(GuardConfig, {"rules": [{"name": "mine", **rule}]})
    assert "rules.mine" in str(error.value)


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two rules"):
        check(GuardConfig(rules=(RuleConfig(name="twice", detector="secrets"),) * 2))


def test_a_new_tenant_is_only_watched() -> None:
    config = parse(GuardConfig, {})
    assert config.effective == DEFAULT_RULES
    assert not config.enforces

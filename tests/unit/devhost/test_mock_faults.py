from __future__ import annotations

from typing import Any

import pytest

from tenantgate.devhost.mock_faults import FAULTS, Behaviour, Rule, Rules

USUAL = Behaviour()


def answers(rules: list[dict[str, Any]], *requests: tuple[int, str, str]) -> list[int]:
    """The statuses by which these requests (port, path, model) are answered."""
    made = Rules(USUAL)
    made.rules = [Rule.of(rule) for rule in rules]
    return [made.choose(port=port, path=path, model=model).status for port, path, model in requests]


@pytest.mark.parametrize(
    ("rules", "statuses"),
    [
        ([], [200, 200, 200]),
        ([{"status": 500}], [500, 500, 500]),
        ([{"port": 1, "status": 500}], [500, 500, 200]),
        ([{"path": "/b", "status": 500}], [200, 500, 200]),
        ([{"model": "n", "status": 500}], [200, 200, 500]),
        ([{"times": 1, "status": 500}], [500, 200, 200]),
        ([{"skip": 1, "times": 1, "status": 500}], [200, 500, 200]),
        ([{"times": 1, "status": 500}, {"status": 429}], [500, 429, 429]),
        ([{"port": 1, "skip": 1, "status": 500}, {"port": 2, "status": 429}], [200, 500, 429]),
    ],
)
def test_the_first_rule_that_is_for_a_request_decides(
    rules: list[dict[str, Any]], statuses: list[int]
) -> None:
    assert answers(rules, (1, "/a", "m"), (1, "/b", "m"), (2, "/a", "n")) == statuses


@pytest.mark.parametrize("rule", [{"fault": "burn"}, {"nonsense": 1}, {"status": 500, "seen": 4}])
def test_what_is_no_rule(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"fault: must be one of|a rule has no"):
        Rule.of(rule)


@pytest.mark.parametrize(
    ("behaviour", "billed"),
    [
        ({}, True),
        ({"status": 500}, False),
        ({"context_length": True}, False),
        ({"fault": "redirect"}, False),
        *(({"fault": fault}, True) for fault in FAULTS if fault != "redirect"),
    ],
)
def test_errors_alone_cost_nothing(behaviour: dict[str, Any], billed: bool) -> None:
    assert Behaviour(**behaviour).billed is billed

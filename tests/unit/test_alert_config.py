"""Receivers of alerts in tenants.yaml: what they need, where they may be, and what the engine gets of them."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.config import load_text
from tenantgate.config.load import TenantsFileError
from tenantgate.config.render import entities

FILE = """
version: 1
gateway:
  egress: {allow: [api.openai.com, alerts.example.com]}
  alerts: {receivers: [%s]}
tenants:
  - id: acme
    api_keys: ['${{ env "DECK_ACME" }}']
    models: [{provider: openai, model: gpt-4o-mini, credential: '{vault://env/K}'}]
    budgets: [{name: month, max_budget: 5, steps: [{at: 80%%, do: notify, to: %s}]}]
    %s
"""
OPS = "{name: ops, type: webhook, url: 'https://alerts.example.com/x', secret: '{vault://env/S}'}"
AUDIT = "audit: {content: 'off'}"


def engine(tree: dict[str, Any]) -> dict[str, Any]:
    (found,) = [p for s in tree["services"] for p in s["plugins"] if p["name"] == "tenantgate"]
    config: dict[str, Any] = found["config"]
    return config


def test_the_engine_gets_the_receivers_with_their_references() -> None:
    config = engine(entities(load_text(FILE % (OPS, "ops", AUDIT))))
    (receiver,) = config["audit"]["receivers"]
    assert receiver["secret"] == "{vault://env/S}", "which Kong resolves"
    assert receiver["url"] == "https://alerts.example.com/x"


@pytest.mark.parametrize(
    ("receivers", "to", "audit", "problem"),
    [
        (OPS, "ops", "", "alerts are events of the audit log"),
        (OPS, "nobody", AUDIT, "no receiver 'nobody'"),
        (
            OPS.replace("alerts.example.com", "evil.example.com"),
            "ops",
            AUDIT,
            "isn't in gateway.egress.allow",
        ),
        (OPS.replace("secret", "headers").replace("'{vault://env/S}'", "{A: b}"), "ops", AUDIT, "secret"),
        (f"{OPS}, {OPS}", "ops", AUDIT, "two are called ops"),
        (OPS.replace("webhook", "mail"), "ops", AUDIT, "type"),
    ],
)
def test_each_problem_of_a_receiver_is_told(receivers: str, to: str, audit: str, problem: str) -> None:
    with pytest.raises(TenantsFileError) as failed:
        load_text(FILE % (receivers, to, audit))
    assert problem in "\n".join(map(str, failed.value.problems))

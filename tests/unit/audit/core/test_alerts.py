"""Events in the shapes of their receivers: signed, escaped, and of one tenant."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from tenantgate.audit.core.alerts import (
    alertmanager_alerts,
    event_of,
    signature,
    signing_key,
    slack_message,
    webhook_body,
)
from tenantgate.audit.core.event import Event
from tenantgate.audit.core.record import of_event
from tenantgate.errors import ConfigError
from tenantgate.llm.chat import canonical
from tenantgate.tenant import TenantId

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the specification's example


def record(kind: str = "budget_crossed", **more: str) -> dict[str, Any]:
    values = {
        "type": kind,
        "message": "Budget month: 100% reached, 500 of 500 USD used; requests are refused.",
        "budget": "month",
        "per": "tenant",
        "mode": "enforce",
        "unit": "USD",
        "max_budget": "500",
        "spend": "500.0001",
        "at": "100%",
        "do": "block",
        "window_end": "2026-02-01T00:00:00Z",
        **more,
    }
    return of_event(Event(TenantId("acme"), "budget-1", 1_767_225_600_000, values))


@given(
    identifier=st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True),
    seconds=st.integers(0, 4_000_000_000),
    body=st.text(),
)
def test_the_signature_is_that_of_the_published_package(identifier: str, seconds: int, body: str) -> None:
    raw = body.encode("utf-8", "replace")
    theirs = Webhook(SECRET).sign(identifier, datetime.fromtimestamp(seconds, UTC), raw.decode())
    assert signature(signing_key(SECRET), identifier=identifier, seconds=seconds, body=raw) == theirs


def test_any_text_may_be_a_secret_but_no_broken_one() -> None:
    assert signing_key("geheim") == b"geheim"
    with pytest.raises(ConfigError, match="base64"):
        signing_key("whsec_***")


def test_a_webhook_has_litellm_s_names() -> None:
    sent = json.loads(webhook_body(record()))
    assert (sent["type"], sent["timestamp"]) == ("budget.budget_crossed", "2026-01-01T00:00:00.000Z")
    data = sent["data"]
    assert {k: data[k] for k in ("event", "event_group", "spend", "max_budget")} == {
        "event": "budget_crossed",
        "event_group": "team",
        "spend": "500.0001",
        "max_budget": "500",
    }
    assert (data["tenant"], data["budget"]) == ("acme", "month")
    assert data["event_message"].startswith("Budget month")


def labels(alerts: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(alert["labels"], sort_keys=True) for alert in alerts]


def test_an_alertmanager_s_alert_ends_with_the_window_or_by_a_recovery_with_the_same_labels() -> None:
    raised = alertmanager_alerts(record())
    assert raised[0]["endsAt"] == "2026-02-01T00:00:00Z"
    assert raised[0]["startsAt"] == "2026-01-01T00:00:00.000Z"
    assert raised[0]["labels"] == {
        "alertname": "TenantgateBudgetExhausted",
        "severity": "critical",
        "tenant": "acme",
        "budget": "month",
        "per": "tenant",
        "mode": "enforce",
    }
    over = alertmanager_alerts(record("budget_recovered", at="100%"))
    assert labels(raised)[0] in labels(over)
    assert all("startsAt" not in alert and alert["endsAt"] for alert in over)


@pytest.mark.parametrize(("at", "names"), [("80%", 3), ("100%", 2), ("120%", 2), ("", 3)])
def test_a_recovery_resolves_what_is_below_again(at: str, names: int) -> None:
    assert len(alertmanager_alerts(record("budget_recovered", at=at))) == names


def test_what_is_no_alert_is_none_to_an_alertmanager() -> None:
    assert alertmanager_alerts(record("budget_raised")) == []


def test_slack_gets_no_mentions_and_no_links() -> None:
    sent = slack_message(record(message="<!channel> a & b")).decode()
    assert "<!channel>" not in sent
    assert "&lt;!channel&gt; a &amp; b" in sent
    shown = json.loads(sent)
    assert shown["blocks"][1]["fields"][0]["text"] == "*Tenant*\nacme"


@pytest.mark.parametrize(("to", "mine"), [("", True), ("ops", True), ("oncall", False)])
def test_an_event_goes_to_whom_it_names_or_to_all(to: str, mine: bool) -> None:
    made = record(**({"to": to} if to else {}))
    assert (event_of(canonical(made), "ops") is not None) == mine


def test_a_request_that_speaks_of_events_is_none() -> None:
    raw = canonical({"id": "1", "content": {"event": {"type": "budget_crossed"}}})
    assert event_of(raw, "ops") is None

"""Records of events in the shapes that receivers of alerts take. Pure.

Each shape has only what the event's own record has: one tenant's.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from tenantgate.errors import ConfigError

__all__ = ["alertmanager_alerts", "event_of", "signature", "signing_key", "slack_message", "webhook_body"]

_PREFIX: Final = "whsec_"
_MARK: Final = b'"event":{'
_GROUPS: Final = {"key": "key", "end_user": "customer"}
"""LiteLLM's ``event_group`` by our `per`; all else concerns the tenant, its team."""
_ALERTS: Final = {
    "threshold_crossed": ("TenantgateBudgetThreshold", "warning"),
    "budget_crossed": ("TenantgateBudgetExhausted", "critical"),
    "projected_limit_exceeded": ("TenantgateBudgetProjected", "warning"),
}
_WHOLE: Final = 100.0
_ICONS: Final = {"budget_crossed": ":no_entry:", "budget_recovered": ":white_check_mark:"}


def event_of(raw: bytes, receiver: str) -> dict[str, Any] | None:
    """The record if it is of an event for this receiver; else None."""
    if _MARK not in raw:  # most records, which nobody has to take apart
        return None
    record: dict[str, Any] = json.loads(raw)
    event = record.get("event")
    if not isinstance(event, dict) or event.get("to", receiver) != receiver:
        return None
    return record


def signing_key(secret: str) -> bytes:
    """The key of a secret: what is encoded behind ``whsec_``, or the text itself.

    Raises:
        ConfigError: what is behind ``whsec_`` is no base64.
    """
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError("secret: what follows whsec_ must be base64") from None


def signature(key: bytes, *, identifier: str, seconds: int, body: bytes) -> str:
    """The header ``webhook-signature``.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    digest = hmac.digest(key, f"{identifier}.{seconds}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(digest).decode("ascii")


def webhook_body(record: Mapping[str, Any]) -> bytes:
    """The payload as Standard Webhooks recommends it: ``type``, ``timestamp``, ``data``.

    Of the data ``event``, ``event_group``, ``event_message``, ``spend``, ``max_budget``, ``projected_spend`` and
    ``projected_exceeded_date`` are called as in LiteLLM's webhooks; amounts are exact decimals, as texts.
    """
    event = dict(record["event"])
    kind, message = event.pop("type"), event.pop("message", "")
    data = {
        "id": record["id"],
        "tenant": record["tenant"],
        "event": kind,
        "event_group": _GROUPS.get(event.get("per", ""), "team"),
        "event_message": message,
        **event,
    }
    return _json({"type": f"budget.{kind}", "timestamp": record["time"], "data": data})


def alertmanager_alerts(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The alerts that the event raises or resolves, for ``POST /api/v2/alerts``; none where it does neither.

    An alert's labels are the same when it is raised and when it is resolved. One that isn't resolved ends with the
    budget's window.
    Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml (``postableAlert``).
    """
    event = record["event"]
    kind = event["type"]
    if kind in _ALERTS:
        ends = event.get("window_end")
        return [_alert(record, kind, starts=record["time"], ends=ends)]
    if kind != "budget_recovered":
        return []
    whole = float(str(event.get("at", "0")).rstrip("%") or 0) >= _WHOLE
    over = [name for name in _ALERTS if not (whole and name == "threshold_crossed")]
    return [_alert(record, name, ends=record["time"]) for name in over]


def _alert(
    record: Mapping[str, Any], kind: str, *, ends: str | None, starts: str | None = None
) -> dict[str, Any]:
    event, (name, severity) = record["event"], _ALERTS[kind]
    labels = {"alertname": name, "severity": severity, "tenant": record["tenant"]}
    labels |= {label: event[label] for label in ("budget", "per", "subject", "mode") if event.get(label)}
    shown = ("spend", "max_budget", "unit", "at", "do", "window_end", "projected_exceeded_date")
    notes = {"summary": event.get("message", ""), **{n: event[n] for n in shown if event.get(n)}}
    times = {"startsAt": starts, "endsAt": ends}
    return {"labels": labels, "annotations": notes, **{n: t for n, t in times.items() if t}}


def slack_message(record: Mapping[str, Any]) -> bytes:
    """The message for an incoming webhook.

    Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
    """
    event = record["event"]
    text = _slack_text(event.get("message", ""))
    icon = _ICONS.get(event["type"], ":warning:")
    shown = {
        "Tenant": record["tenant"],
        "Budget": event.get("budget"),
        "Spent": _amount(event, "spend"),
        "Limit": _amount(event, "max_budget"),
        "Used up": event.get("projected_exceeded_date"),
        "Window ends": event.get("window_end"),
    }
    fields = [{"type": "mrkdwn", "text": f"*{k}*\n{_slack_text(v)}"} for k, v in shown.items() if v]
    blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": f"{icon} {text}"}}]
    blocks.append({"type": "section", "fields": fields})
    return _json({"text": text, "blocks": blocks})


def _amount(event: Mapping[str, Any], name: str) -> str:
    return f"{event[name]} {event.get('unit', '')}".strip() if event.get(name) else ""


def _slack_text(text: str) -> str:
    """Without what Slack takes for links and mentions."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

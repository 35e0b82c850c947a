"""Receivers of alerts: sinks of the spool that take events only.

Each event is a request of its own, sent again until it is taken, for a day: an alert that is older helps nobody, and
while it waits the spool can't let go of the records behind it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tenantgate.audit.config import SinkConfig
from tenantgate.audit.core.alerts import (
    alertmanager_alerts,
    event_of,
    signature,
    signing_key,
    slack_message,
    webhook_body,
)
from tenantgate.audit.core.ports import Queued, SinkError
from tenantgate.audit.delivery_thread import Batching
from tenantgate.audit.sinks import HttpSink
from tenantgate.errors import ConfigError
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.alert_config import Receiver

__all__ = ["BATCHING", "AlertSink", "sink_name"]

_log: Final = logging.getLogger("tenantgate.audit")
BATCHING: Final = Batching(size=500, flush_s=0.05)
_OLD_S: Final = 86_400.0
_ALERTMANAGER: Final = "/api/v2/alerts"

_alerts: Final = metrics.counter(
    "tenantgate_budget_alerts_delivered_total",
    "Alerts by receiver, and what became of them: delivered, refused, expired.",
    ("receiver", "outcome"),
)


def sink_name(receiver: str) -> str:
    """Name of a receiver among the sinks, none of which has a dot in its own."""
    return f"alerts.{receiver}"


class AlertSink(HttpSink):
    """`tenantgate.audit.core.ports.Sink` of one receiver."""

    freezes = False  # each event is a request of its own, with an id; the records between them aren't sent

    def __init__(self, receiver: Receiver, clock: Callable[[], float] = time.time) -> None:
        super().__init__(
            SinkConfig(
                name=sink_name(receiver.name),
                type="http",
                url=_address(receiver),
                headers=receiver.headers,
                timeout_ms=receiver.timeout_ms,
                gzip=False,
                ssl_verify=receiver.ssl_verify,
            )
        )
        self._receiver, self._clock = receiver, clock
        self._sent: set[str] = set()  # of the batch that is under way

    def send(self, batch: Sequence[Queued]) -> None:
        """Deliver the events of the batch that are for this receiver; the others are done with."""
        for queued in batch:
            record = event_of(queued.record, self._receiver.name)
            if record is not None and queued.id not in self._sent:
                _alerts.inc(receiver=self._receiver.name, outcome=self._tell(record))
                self._sent.add(queued.id)
        self._sent.clear()

    def _tell(self, record: Mapping[str, Any]) -> str:
        """Deliver one event; what became of it."""
        if self._clock() - datetime.fromisoformat(record["time"]).timestamp() > _OLD_S:
            return "expired"
        body = self._body_of(record)
        if body is None:
            return "delivered"  # nothing that this kind of receiver could show
        identifier, now = str(record["id"]), int(self._clock())
        signed = {}
        if self._receiver.type == "webhook":
            signed = {
                "webhook-id": identifier,
                "webhook-timestamp": str(now),
                "webhook-signature": self._signature(identifier, now, body),
            }
        try:
            self._deliver(body, identifier, signed)
        except SinkError as error:
            if error.retry:
                raise
            logs.event(_log, logging.ERROR, "a receiver refuses an alert", receiver=self._receiver.name)
            return "refused"
        return "delivered"

    def _body_of(self, record: Mapping[str, Any]) -> bytes | None:
        if self._receiver.type == "webhook":
            return webhook_body(record)
        if self._receiver.type == "slack":
            return slack_message(record)
        alerts = alertmanager_alerts(record)
        return json.dumps(alerts).encode() if alerts else None

    def _signature(self, identifier: str, seconds: int, body: bytes) -> str:
        try:
            key = signing_key(self._receiver.secret or "")
        except ConfigError as error:
            raise SinkError(f"{self.name}: {error}", retry=True) from None
        return signature(key, identifier=identifier, seconds=seconds, body=body)


def _address(receiver: Receiver) -> str:
    base = receiver.url.rstrip("/")
    if receiver.type == "alertmanager":
        return base if base.endswith(_ALERTMANAGER) else base + _ALERTMANAGER
    if receiver.type == "slack" and receiver.secret:
        return f"{base}/{receiver.secret.lstrip('/')}"
    return receiver.url

"""Alerts to a webhook: off the request's path, a bounded number of them, tried again with growing pauses.

An alert says which rule found what kind of thing for which tenant, never a text.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import logging
import random
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tenantgate import __version__
from tenantgate.http_limits import within
from tenantgate.store.shared import Shared
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.guard.config import WebhookConfig
    from tenantgate.tenant import TenantId

__all__ = ["SIGNATURE", "Webhook", "shared"]

SIGNATURE: Final = "X-Tenantgate-Signature"
"""``sha256=`` and the HMAC of the body under the configured secret, in hexadecimal."""

_log: Final = logging.getLogger("tenantgate.guard")
_WAITING: Final = 1000  # alerts
_RECEIVERS: Final = 1024  # of a process
_TRIES: Final = 6
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0

_alerts: Final = metrics.counter(
    "tenantgate_guard_webhook_alerts_total", "Alerts for the webhook by what became of them.", ("outcome",)
)


@dataclass(frozen=True, slots=True)
class _Alert:
    tenant: TenantId
    rule: str
    fields: Mapping[str, Any]


class Webhook:
    """One receiver, with one thread of the process that sends to it."""

    def __init__(self, config: WebhookConfig) -> None:
        self._config = config
        self._url = urlsplit(config.url or "")
        self._waiting: deque[_Alert] = deque()
        self._suppressed: Counter[tuple[TenantId, str]] = Counter()
        self._tokens = float(config.per_minute)
        self._refilled = time.monotonic()
        self._lock = threading.Lock()
        self._thread = BackgroundThread("guard-webhook", self._step, log=_log, failed="webhook failed")

    def alert(self, tenant: TenantId, rule: str, fields: Mapping[str, Any]) -> None:
        """Send an alert soon. Over the limit it is only counted; the rule's next alert says how many were."""
        with self._lock:
            if len(self._waiting) >= _WAITING or not self._take():
                self._suppressed[tenant, rule] += 1
                _alerts.inc(outcome="suppressed")
                return
            self._waiting.append(_Alert(tenant, rule, fields))
        self._thread.wake()

    def _take(self) -> bool:
        now = time.monotonic()
        limit = float(self._config.per_minute)
        self._tokens = min(limit, self._tokens + (now - self._refilled) * limit / 60)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _step(self) -> float | None:
        with self._lock:
            if not self._waiting:
                return None
            alert = self._waiting.popleft()
            suppressed = self._suppressed.pop((alert.tenant, alert.rule), 0)
        self._send(alert, suppressed)
        return 0.0

    def _send(self, alert: _Alert, suppressed: int) -> None:
        body = json.dumps(
            {
                "type": "tenantgate.guard.alert",
                "tenant": alert.tenant.slug,
                "rule": alert.rule,
                **alert.fields,
                "suppressed": suppressed,
            },
            separators=(",", ":"),
        ).encode()
        for n in range(_TRIES):
            try:
                status = self._post(body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                logs.event(_log, logging.WARNING, "webhook failed", **logs.describe(error))
                status = 0
            if 200 <= status < 300:
                _alerts.inc(outcome="sent")
                return
            if 300 <= status < 500 and status not in (408, 425, 429):
                break  # a receiver that doesn't take it now won't take it later
            if n + 1 < _TRIES:
                pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**n)
                self._thread.pause(pause * (0.5 + random.random() / 2))
        _alerts.inc(outcome="failed")

    def _post(self, body: bytes) -> int:
        timeout = self._config.timeout_ms / 1000
        host, port = self._url.hostname or "", self._url.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
            if self._url.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout)
        )
        headers = {"Content-Type": "application/json", "User-Agent": f"tenantgate/{__version__}"}
        if self._config.secret:
            digest = hmac.new(self._config.secret.encode(), body, hashlib.sha256).hexdigest()
            headers[SIGNATURE] = f"sha256={digest}"
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        with contextlib.closing(connection), within(connection, timeout):
            connection.request("POST", path, body, headers)
            return connection.getresponse().status


_webhooks: Final[Shared[Webhook]] = Shared(_RECEIVERS)


def shared(config: WebhookConfig) -> Webhook:
    """The webhook of this configuration, one for the whole process."""
    return _webhooks.get(config, lambda: Webhook(config))

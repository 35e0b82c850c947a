"""Alerts to a receiver that answers, fails first, or doesn't want them."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread
from typing import Any

import pytest

from tenantgate.guard import webhook as guard_webhook
from tenantgate.guard.config import WebhookConfig
from tenantgate.guard.webhook import SIGNATURE, Webhook
from tenantgate.tenant import TenantId

ACME = TenantId("acme")
SECRET = "secret-of-the-tests"
PATIENCE_S = 20.0


@dataclass
class Receiver:
    url: str = ""
    statuses: list[int] = field(default_factory=list)
    got: Queue[tuple[dict[str, str], bytes]] = field(default_factory=Queue)

    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.got.get(timeout=PATIENCE_S)[1]))


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(guard_webhook, "_FIRST_PAUSE_S", 0.001)
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            # Before the answer, after which the next one comes in a thread of its own.
            state.got.put(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(state.statuses.pop(0) if state.statuses else 204)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/hook?a=b"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_alert_arrives_signed(receiver: Receiver) -> None:
    Webhook(WebhookConfig(url=receiver.url, secret=SECRET)).alert(ACME, "secrets", {"kinds": {"JWT": 1}})
    headers, body = receiver.got.get(timeout=PATIENCE_S)
    assert json.loads(body) == {
        "type": "tenantgate.guard.alert",
        "tenant": "acme",
        "rule": "secrets",
        "kinds": {"JWT": 1},
        "suppressed": 0,
    }
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers[SIGNATURE.lower()] == f"sha256={digest}"


def test_it_is_tried_again(receiver: Receiver) -> None:
    receiver.statuses = [503, 429, 204]
    Webhook(WebhookConfig(url=receiver.url)).alert(ACME, "secrets", {})
    assert [receiver.body()["rule"] for _ in range(3)] == ["secrets"] * 3


def test_what_is_refused_is_given_up(receiver: Receiver) -> None:
    receiver.statuses = [400, 204]
    webhook = Webhook(WebhookConfig(url=receiver.url))
    webhook.alert(ACME, "first", {})
    webhook.alert(ACME, "second", {})
    assert [receiver.body()["rule"] for _ in range(2)] == ["first", "second"]


def test_over_the_limit_alerts_are_only_counted(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook = Webhook(WebhookConfig(url=receiver.url, per_minute=2))
    for _ in range(5):
        webhook.alert(ACME, "secrets", {})
    counted = sum(receiver.body()["suppressed"] for _ in range(2))  # those refused before a sent one left
    webhook._tokens = 1.0
    webhook.alert(TenantId("globex"), "secrets", {})
    assert receiver.body() == {
        "type": "tenantgate.guard.alert",
        "tenant": "globex",
        "rule": "secrets",
        "suppressed": 0,
    }
    webhook._tokens = 1.0
    webhook.alert(ACME, "secrets", {})
    assert counted + receiver.body()["suppressed"] == 3

"""Receivers of alerts at real servers: each event once, signed, and again until it is taken."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tenantgate.alert_config import Receiver
from tenantgate.audit import delivery_thread as audit_delivery
from tenantgate.audit.core import delivery
from tenantgate.audit.core.chain import START, link
from tenantgate.audit.core.event import Event
from tenantgate.audit.core.ports import Queued, SinkError
from tenantgate.audit.core.record import of_event
from tenantgate.audit.core.testing import MemorySpool
from tenantgate.audit.delivery_thread import Delivery
from tenantgate.audit.receivers import BATCHING, AlertSink
from tenantgate.errors import TenantgateError
from tenantgate.fields import parse
from tenantgate.tenant import TenantId

from support import until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = float(int(time.time()))  # which who verifies a signature compares


@dataclass
class Server:
    url: str = ""
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = state.statuses.pop(0) if state.statuses else 200
            if status == 200:
                state.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{listening.server_port}"
    yield state
    listening.shutdown()
    listening.server_close()
    thread.join()


def spool(kinds: list[str], *, tenant: str = "acme") -> MemorySpool:
    """Records: a request's for each empty kind, else an event's."""
    made, head, entries = MemorySpool(), START, []
    for n, kind in enumerate(kinds):
        values = {"type": kind, "message": f"number {n}", "budget": "month", "at": "80%", "to": "r"}
        record = of_event(Event(TenantId(tenant), f"e-{n}", int(NOW * 1000), values))
        if not kind:
            record = {"id": f"e-{n}", "tenant": tenant, "time": record["time"], "content": {"event": {}}}
        entry, head = link(record, head, tenant=TenantId(tenant), node="n", position=n)
        entries.append(entry)
    made.append(entries)
    return made


def queued(*kinds: str) -> list[Queued]:
    return list(spool(list(kinds)).read("s", 100))


def sink(server: Server, kind: str = "webhook", *, now: float = NOW, **more: Any) -> AlertSink:
    secret = (
        {} if kind == "alertmanager" else {"secret": SECRET if kind == "webhook" else "services/T1/B2/x3"}
    )
    given = {"name": "r", "type": kind, "url": server.url, "timeout_ms": 5000, **secret, **more}
    return AlertSink(parse(Receiver, given), clock=lambda: now)


def test_a_webhook_is_verified_by_the_published_package_and_gets_events_only(server: Server) -> None:
    made = sink(server, headers={"X-Team": "ops"})
    made.send(queued("", "budget_crossed", ""))
    assert len(server.got) == 1
    _, headers, body = server.got[0]
    assert headers["webhook-id"] == "e-1"
    assert headers["x-team"] == "ops"
    assert headers["content-type"] == "application/json"
    assert Webhook(SECRET).verify(body.decode(), headers)["data"]["event_message"] == "number 1"


def test_what_a_receiver_has_of_a_batch_it_does_not_get_again(server: Server) -> None:
    server.statuses = [200, 503]
    made, batch = sink(server), queued("threshold_crossed", "budget_crossed", "budget_recovered")
    with pytest.raises(SinkError) as failed:
        made.send(batch)
    assert failed.value.retry
    made.send(batch)
    assert [json.loads(body)["data"]["id"] for _, _, body in server.got] == ["e-0", "e-1", "e-2"]
    assert len({headers["webhook-id"] for _, headers, _ in server.got}) == 3


def test_an_alert_that_is_refused_or_a_day_old_keeps_no_other_waiting(server: Server) -> None:
    server.statuses = [400]
    sink(server).send(queued("threshold_crossed", "budget_crossed"))
    assert len(server.got) == 1
    sink(server, now=NOW + 86_401).send(queued("threshold_crossed"))
    assert len(server.got) == 1


def test_alertmanager_and_slack_get_their_own_shapes(server: Server) -> None:
    sink(server, "alertmanager").send(queued("threshold_crossed", "budget_raised", "budget_recovered"))
    sink(server, "slack").send(queued("threshold_crossed"))
    paths = [path for path, _, _ in server.got]
    assert paths == ["/api/v2/alerts", "/api/v2/alerts", "/services/T1/B2/x3"]
    raised, resolved = (json.loads(body) for _, _, body in server.got[:2])
    assert raised[0]["labels"] in [alert["labels"] for alert in resolved]
    assert "number 0" in json.loads(server.got[2][2])["text"]


def test_delivery_from_the_spool_tries_until_the_receiver_is_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(audit_delivery, "_LOOK_S", 0.02)
    server.statuses = [500, 502]
    made = spool(["", "budget_crossed", ""])
    delivering = Delivery(made, [sink(server)], [BATCHING])
    delivering.start()
    until(lambda: made.backlog("alerts.r"), lambda n: n == 0, what="records that wait")
    delivering.stop(5)
    assert len(server.got) == 1


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"type": "webhook"}, "secret"),
        ({"type": "slack"}, "secret"),
        ({"type": "alertmanager", "secret": "x"}, "secret"),
        ({"type": "mail", "secret": "x"}, "type"),
        ({"type": "webhook", "secret": "x", "url": "https://user:pw@host/"}, "url"),
    ],
)
def test_what_a_receiver_needs(given: dict[str, str], problem: str) -> None:
    given = {"name": "r", "url": "https://alerts.example.com/x", **given}
    with pytest.raises(TenantgateError, match=problem):
        parse(Receiver, given)

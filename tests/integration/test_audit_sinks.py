"""Sinks and delivery against receivers that answer, fail, refuse, hang up, and files that move."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import re
import socket
import stat
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

import pytest

from tenantgate.audit import delivery_thread as audit_delivery
from tenantgate.audit.config import SinkConfig
from tenantgate.audit.core import delivery
from tenantgate.audit.core.chain import START, link
from tenantgate.audit.core.delivery import batch_key, pause_s
from tenantgate.audit.core.ports import Entry, Queued, SinkError
from tenantgate.audit.core.testing import MemorySpool
from tenantgate.audit.delivery_thread import Batching, Delivery
from tenantgate.audit.sinks import FileSink, StdoutSink, make
from tenantgate.errors import EdgeError
from tenantgate.tenant import TenantId

from support import until

ACME = TenantId("acme")
PATIENCE_S = 20.0


def entries(count: int) -> list[Entry]:
    head, out = START, []
    for n in range(count):
        record = {
            "id": f"id-{n}",
            "tenant": "acme",
            "time": "2026-01-01T00:00:00.500Z",
            "outcome": "answered",
            "trace": {"trace_id": "a" * 32, "span_id": "b" * 16, "parent_id": "c" * 16},
            "latencies": {"request": 250},
            "response": {"status": 200},
            "content": {"state": "off"},
            "gen_ai": {"request": {"model": "m"}, "usage": {"input_tokens": 3}},
        }
        entry, head = link(record, head, tenant=ACME, node="n", position=n)
        out.append(entry)
    return out


def queued(count: int) -> list[Queued]:
    return [Queued(str(n), e.tenant, e.id, e.record) for n, e in enumerate(entries(count), 1)]


@dataclass
class Receiver:
    url: str = ""
    statuses: list[int] = field(default_factory=list)
    too_large: int = 1 << 30
    poison: str = ""
    answer: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    got: Queue[tuple[int, dict[str, str], Any]] = field(default_factory=Queue)
    paths: list[str] = field(default_factory=list)

    def next(self) -> tuple[int, dict[str, str], Any]:
        return self.got.get(timeout=PATIENCE_S)

    def sink(self, kind: str = "http", **more: Any) -> Any:
        return make(SinkConfig(name="s", type=kind, url=self.url, timeout_ms=5000, **more))


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(delivery, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(audit_delivery, "_LOOK_S", 0.02)
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            plain = gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw
            status = state.statuses.pop(0) if state.statuses else 200
            if len(plain) > state.too_large:
                status = 413
            if state.poison and state.poison in plain.decode():
                status = 400
            state.paths.append(self.path)
            state.got.put((status, {k.lower(): v for k, v in self.headers.items()}, json.loads(plain)))
            if status == 0:
                self.connection.close()
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(state.answer)))
            self.end_headers()
            with contextlib.suppress(OSError):  # who reads only the beginning hangs up
                self.wfile.write(state.answer)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1/records?x=1"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def delivering(spool: MemorySpool, sink: Any, *, batch: int = 10, refused: Path | None = None) -> Delivery:
    batching = Batching(batch, 0.0)
    made = Delivery(spool, [sink], [batching], refused=refused)
    made.start()
    return made


# -- sinks ---------------------------------------------------------------------------------------------------


def test_http_batches_are_compressed_and_named(receiver: Receiver) -> None:
    batch = queued(3)
    receiver.sink(headers={"Authorization": "Bearer t"}).send(batch)
    _, headers, body = receiver.next()
    assert [r["id"] for r in body["records"]] == ["id-0", "id-1", "id-2"]
    assert headers["idempotency-key"] == batch_key(batch)
    assert (headers["content-encoding"], headers["authorization"]) == ("gzip", "Bearer t")
    receiver.sink(gzip=False).send(batch)
    assert "content-encoding" not in receiver.next()[1]


def test_a_connection_that_the_receiver_closed_is_made_anew(receiver: Receiver) -> None:
    receiver.headers = {"Connection": "close"}
    sink = receiver.sink()
    for _ in range(3):
        sink.send(queued(1))
        assert receiver.next()[0] == 200


@pytest.mark.parametrize(
    ("status", "again"), [(500, True), (429, True), (401, True), (302, True), (400, False), (0, True)]
)
def test_errors_say_whether_it_is_worth_trying_again(receiver: Receiver, status: int, again: bool) -> None:
    receiver.statuses = [status, status]
    with pytest.raises(SinkError) as caught:
        receiver.sink().send(queued(1))
    assert caught.value.retry is again
    assert "id-0" not in str(caught.value)


def test_spans_have_the_conventions_names(receiver: Receiver) -> None:
    receiver.sink("otlp").send(queued(1))
    body = receiver.next()[2]
    (made,) = body["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (made["traceId"], made["spanId"], made["parentSpanId"]) == ("a" * 32, "b" * 16, "c" * 16)
    assert int(made["endTimeUnixNano"]) - int(made["startTimeUnixNano"]) == 250_000_000
    attributes = {a["key"]: a["value"] for a in made["attributes"]}
    assert attributes["gen_ai.usage.input_tokens"] == {"intValue": "3"}
    assert attributes["http.response.status_code"] == {"intValue": "200"}
    assert attributes["tenantgate.tenant"] == {"stringValue": "acme"}
    assert made["status"] == {"code": 1}


@pytest.mark.parametrize(
    ("signal", "outer", "inner", "items"),
    [
        ("traces", "resourceSpans", "scopeSpans", "spans"),
        ("logs", "resourceLogs", "scopeLogs", "logRecords"),
        ("metrics", "resourceMetrics", "scopeMetrics", "metrics"),
    ],
)
def test_a_signal_is_what_opentelemetrys_own_reader_takes(
    receiver: Receiver, signal: str, outer: str, inner: str, items: str
) -> None:
    receiver.sink("otlp", signal=signal).send(queued(2))
    body = receiver.next()[2]
    (resource,) = body[outer]
    assert resource[inner][0][items]
    name, request = {
        "traces": ("trace", "ExportTraceServiceRequest"),
        "logs": ("logs", "ExportLogsServiceRequest"),
        "metrics": ("metrics", "ExportMetricsServiceRequest"),
    }[signal]
    read = pytest.importorskip("google.protobuf.json_format").ParseDict
    service = pytest.importorskip(f"opentelemetry.proto.collector.{name}.v1.{name}_service_pb2")
    # Refuses unknown members. Of ids OTLP has hex where protobuf's JSON has base64, which takes these digits, too.
    read(body, getattr(service, request)())


@pytest.mark.parametrize("rejected", ["rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"])
def test_what_a_collector_rejects_is_put_aside(receiver: Receiver, rejected: str) -> None:
    receiver.answer = json.dumps({"partialSuccess": {rejected: "2"}}).encode()
    with pytest.raises(SinkError) as caught:
        receiver.sink("otlp").send(queued(2))
    assert not caught.value.retry


def of_tenants(*tenants: str, **more: Any) -> list[Queued]:
    """A request of each, with a prompt, just now."""
    now = datetime.now(UTC).isoformat()
    content = {
        "state": "kept",
        "input_messages": [{"role": "user", "parts": [{"type": "text", "content": "write to [EMAIL_1]"}]}],
    }
    out = []
    for number, tenant in enumerate(tenants):
        record = json.loads(queued(1)[0].record) | {"tenant": tenant, "time": now, "content": content, **more}
        out.append(Queued(str(number), TenantId(tenant), f"id-{number}", json.dumps(record).encode()))
    return out


LANGFUSE_PROJECTS = {"acme": ("pk-lf-a", "sk-lf-a"), "globex": ("pk-lf-g", "sk-lf-g")}
# The attributes of https://langfuse.com/integrations/native/opentelemetry (property mapping).
LANGFUSE_DOCUMENTED = re.compile(
    r"langfuse\.(trace\.(name|tags|public|metadata\.[\w.]+|input|output)|user\.id|session\.id|release|version|environment"
    r"|observation\.(type|level|status_message|input|output|metadata\.[\w.]+|model\.name|model\.parameters"
    r"|usage_details|cost_details|prompt\.name|prompt\.version|completion_start_time))"
)


def langfuse(receiver: Receiver, tenant: str, **more: Any) -> Any:
    public, secret = LANGFUSE_PROJECTS[tenant]
    config = {"public_key": public, "secret_key": secret, "tenants": (tenant,), **more}
    url = receiver.url.removesuffix("/v1/records?x=1")
    return make(SinkConfig(name=tenant, type="langfuse", url=url, **config))


@pytest.mark.parametrize("content", [None, False, True])
def test_each_tenants_project_gets_its_own_spans_as_langfuse_documents_them(
    receiver: Receiver, content: bool | None
) -> None:
    usage = {"input_tokens": 90, "output_tokens": 30, "cache_read": {"input_tokens": 40}}
    ai = {"operation": {"name": "chat"}, "request": {"model": "m"}, "usage": usage}
    batch = of_tenants("acme", "globex", "acme", gen_ai=ai, cost={"amount": 0.25, "source": "prices"})
    for tenant, keys in LANGFUSE_PROJECTS.items():
        langfuse(receiver, tenant, content=content).send(batch)
        _, headers, body = receiver.next()
        assert receiver.paths.pop() == "/api/public/otel/v1/traces"
        assert base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode() == ":".join(keys)
        assert headers["x-langfuse-ingestion-version"] == "4"
        found = body["resourceSpans"][0]["scopeSpans"][0]["spans"]
        assert len(found) == (2 if tenant == "acme" else 1)
        for made in found:
            values = {a["key"]: next(iter(a["value"].values())) for a in made["attributes"]}
            of_langfuse = {n: v for n, v in values.items() if n.startswith("langfuse.")}
            assert all(LANGFUSE_DOCUMENTED.fullmatch(name) for name in of_langfuse)
            assert values["langfuse.observation.metadata.tenant"] == tenant
            assert values["langfuse.observation.type"] == "generation"
            assert json.loads(values["langfuse.observation.usage_details"]) == {
                "input": 50,
                "output": 30,
                "input_cached_tokens": 40,
            }
            assert json.loads(values["langfuse.observation.cost_details"]) == {"total": 0.25}
            assert ("gen_ai.input.messages" in values) is (content is True)
        assert ("EMAIL_1" in json.dumps(body)) is (content is True)


def test_langfuse_gets_no_old_requests_no_events_and_nothing_of_others(receiver: Receiver) -> None:
    sink = langfuse(receiver, "acme")
    sink.send(of_tenants("acme", time="2026-01-01T00:00:00Z"))
    sink.send(of_tenants("acme", event={"type": "budget.alert"}))
    sink.send(of_tenants("globex"))
    assert receiver.got.empty()
    receiver.statuses = [401]
    with pytest.raises(SinkError) as caught:
        sink.send(of_tenants("acme"))
    assert caught.value.retry
    assert "sk-lf-a" not in str(caught.value)


def test_any_sink_may_be_of_some_tenants(receiver: Receiver) -> None:
    receiver.sink(tenants=("globex",)).send(of_tenants("acme", "globex", "initech"))
    assert [r["tenant"] for r in receiver.next()[2]["records"]] == ["globex"]


def test_a_file_may_be_moved_away(tmp_path: Path) -> None:
    sink = FileSink("f", tmp_path / "audit.jsonl")
    sink.send(queued(2))
    (tmp_path / "audit.jsonl").rename(tmp_path / "audit.1")
    sink.send(queued(1))
    assert len((tmp_path / "audit.1").read_bytes().splitlines()) == 2
    assert json.loads((tmp_path / "audit.jsonl").read_bytes())["id"] == "id-0"
    with pytest.raises(SinkError):
        FileSink("f", tmp_path / "no" / "folder").send(queued(1))


def test_a_file_that_can_not_be_brought_to_disk_is_not_said_to_have_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sink = FileSink("f", tmp_path / "audit.jsonl")
    sink.send(queued(1))

    def failing(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(SinkError) as caught:
            sink.send(queued(3)[1:])
    assert caught.value.retry
    sink.send(queued(3)[1:])
    assert (tmp_path / "audit.jsonl").read_bytes().splitlines() == [q.record for q in queued(3)]
    FileSink("f", Path("/dev/null")).send(queued(1))


def test_a_kill_between_writing_and_the_note_of_it_doubles_nothing_in_a_file(tmp_path: Path) -> None:
    path, batch = tmp_path / "audit.jsonl", queued(5)
    FileSink("f", path).send(batch[:3])
    with path.open("ab") as out:
        out.write(batch[3].record[:40])
    sink = FileSink("f", path)
    sink.send(batch)
    sink.send(queued(6)[5:])
    assert path.read_bytes().splitlines() == [q.record for q in queued(6)]


def test_a_receiver_that_drips_does_not_hold_a_delivery() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not ended.wait(0.02):
                    connection.sendall(b"X: y\r\n")

        thread = Thread(target=drip)
        thread.start()
        sink = make(
            SinkConfig(
                name="s", type="http", url=f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_ms=200
            )
        )
        with pytest.raises(SinkError, match="TimeoutError") as caught:
            sink.send(queued(1))
        ended.set()
        thread.join()
    assert caught.value.retry


@pytest.mark.parametrize("status", [405, 410, 415])
def test_a_wrong_address_refuses_no_record(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    with pytest.raises(SinkError) as caught:
        receiver.sink().send(queued(1))
    assert caught.value.retry


def test_standard_output_gets_lines() -> None:
    out = BytesIO()
    StdoutSink("s", out).send(queued(2))
    assert [json.loads(line)["id"] for line in out.getvalue().splitlines()] == ["id-0", "id-1"]


# -- delivery ------------------------------------------------------------------------------------------------


def test_what_fails_is_tried_until_it_is_there(receiver: Receiver) -> None:
    spool = MemorySpool()
    receiver.statuses = [503, 0, 429, 500]
    made = delivering(spool, receiver.sink())
    spool.append(entries(25))
    until(lambda: spool.backlog("s"), lambda n: n == 0, what="backlog")
    made.stop(1.0)
    good = []
    while not receiver.got.empty():
        status, _, body = receiver.next()
        good += [r["id"] for r in body["records"]] if status == 200 else []
    assert good == [f"id-{n}" for n in range(25)]


def test_a_record_that_is_refused_is_put_aside_alone(receiver: Receiver, tmp_path: Path) -> None:
    spool = MemorySpool()
    receiver.poison = '"id-7"'
    spool.append(entries(20))
    made = delivering(spool, receiver.sink(), batch=20, refused=tmp_path)
    until(lambda: spool.backlog("s"), lambda n: n == 0, what="backlog")
    made.stop(1.0)
    assert json.loads((tmp_path / "refused.s.jsonl").read_bytes())["id"] == "id-7"
    good = set()
    while not receiver.got.empty():
        status, _, body = receiver.next()
        good |= {r["id"] for r in body["records"]} if status == 200 else set()
    assert good == {f"id-{n}" for n in range(20) if n != 7}


def test_a_batch_that_is_too_large_is_halved(receiver: Receiver) -> None:
    spool = MemorySpool()
    receiver.too_large = 3 * len(entries(1)[0].record)
    spool.append(entries(8))
    made = delivering(spool, receiver.sink(), batch=8)
    until(lambda: spool.backlog("s"), lambda n: n == 0, what="backlog")
    made.stop(1.0)


def test_what_is_there_is_delivered_before_the_end(receiver: Receiver) -> None:
    spool = MemorySpool()
    made = delivering(spool, receiver.sink())
    spool.append(entries(30))
    made.stop(10.0)
    assert spool.backlog("s") == 0


def test_pauses_grow_to_a_bound_and_respect_the_receivers_wish() -> None:
    assert [pause_s(n, 1.0) for n in (1, 2, 3)] == [delivery.FIRST_PAUSE_S * k for k in (1, 2, 4)]
    assert pause_s(50, 1.0) == delivery.LONGEST_PAUSE_S
    assert pause_s(1, 0.0, asked_s=7) == 7
    assert pause_s(1, 0.0, asked_s=1e9) == 3600


def test_a_spool_that_fails_for_long_is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_delivery.random, "random", lambda: 1.0)
    pauses: list[float] = []
    (lane,) = Delivery(MemorySpool(), [StdoutSink("s")])._lanes
    monkeypatch.setattr(lane.stopping, "wait", pauses.append)
    for _ in range(20):
        lane._trouble(EdgeError("spool: redis: ConnectionError"))
    assert max(pauses) == 2
    for _ in range(20):
        lane._trouble(SinkError("status 503", retry=True))
    assert max(pauses) == 60


class Forgetful(MemorySpool):
    """Whose notes of what a sink has fail for a while, as on a full disk."""

    failing: int = 0

    def ack(self, sink: str, queued: Sequence[Queued]) -> None:
        if self.failing:
            self.failing -= 1
            raise EdgeError("full")
        super().ack(sink, queued)


def received(receiver: Receiver) -> list[tuple[int, str, list[str]]]:
    out = []
    while not receiver.got.empty():
        status, headers, body = receiver.next()
        out.append((status, headers["idempotency-key"], [r["id"] for r in body["records"]]))
    return out


def test_what_a_sink_has_is_not_sent_again_because_that_could_not_be_noted(receiver: Receiver) -> None:
    spool = Forgetful()
    spool.failing = 3
    spool.append(entries(5))
    made = delivering(spool, receiver.sink())
    until(lambda: spool.backlog("s"), lambda n: n == 0, what="backlog")
    made.stop(1.0)
    assert [ids for _, _, ids in received(receiver)] == [[f"id-{n}" for n in range(5)]]


def test_a_batch_that_is_tried_again_keeps_its_key_whatever_came_meanwhile(receiver: Receiver) -> None:
    spool = MemorySpool()
    receiver.statuses = [503, 0, 502]
    spool.append(entries(20)[:5])
    made = delivering(spool, receiver.sink())
    assert receiver.next()[0] == 503
    spool.append(entries(20)[5:])
    until(lambda: spool.backlog("s"), lambda n: n == 0, what="backlog")
    made.stop(1.0)
    tries = received(receiver)
    assert tries[0][2] == [f"id-{n}" for n in range(5)]
    assert {key for _, key, ids in tries if "id-0" in ids} == {batch_key(queued(5))}


def test_a_refused_record_is_put_aside_once_though_others_fail_after_it(
    receiver: Receiver, tmp_path: Path
) -> None:
    spool = MemorySpool()
    receiver.poison = '"id-1"'
    spool.append(entries(4))
    # The batch, its first half, id-0 and id-1 come; then the receiver is down for a while.
    receiver.statuses = [200, 200, 200, 200, 503, 503, 503]
    made = delivering(spool, receiver.sink(), batch=4, refused=tmp_path)
    until(lambda: spool.backlog("s"), lambda n: n == 0, what="backlog")
    made.stop(1.0)
    aside = tmp_path / "refused.s.jsonl"
    assert [json.loads(line)["id"] for line in aside.read_bytes().splitlines()] == ["id-1"]
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    good = [i for status, _, ids in received(receiver) if status == 200 for i in ids]
    assert good == ["id-0", "id-2", "id-3"]


def test_what_can_not_be_put_aside_waits_and_what_can_is_bounded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(audit_delivery, "_REFUSED_BYTES", 500)
    made = Delivery(MemorySpool(), [], refused=tmp_path)
    for _ in range(20):
        made.keep_refused("s", queued(1))
    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    assert set(sizes) <= {"refused.s.jsonl", "refused.s.jsonl.1"}
    assert max(sizes.values()) < 500 + 2 * len(queued(1)[0].record)
    (tmp_path / "refused.t.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EdgeError):
        made.keep_refused("t", queued(1))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("size", [200, 16 << 20])
def test_of_an_answer_only_the_beginning_is_read(receiver: Receiver, size: int) -> None:
    receiver.answer = b"0" * size  # to be read whole it would take what a machine has
    sink = receiver.sink()
    tracemalloc.start()
    for _ in range(2):
        sink.send(queued(1))
        assert receiver.next()[0] == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_redirect_is_not_followed_and_nobody_else_gets_the_credential(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        receiver.statuses = [307]
        receiver.headers = {"Location": f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"}
        with pytest.raises(SinkError) as caught:
            receiver.sink(headers={"Authorization": "Bearer t"}).send(queued(1))
        assert caught.value.retry
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_a_file_that_is_moved_away_while_it_is_looked_at_is_not_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    FileSink("f", path).send(queued(3))
    opened = os.open

    def moved(name: Any, flags: int, *more: int) -> int:
        fd = opened(name, flags, *more)
        if name == path and flags & os.O_APPEND:
            path.rename(tmp_path / "audit.1")
            path.write_bytes(b"half a line")
        return fd

    monkeypatch.setattr(os, "open", moved)
    FileSink("f", path).send(queued(4)[3:])
    assert (tmp_path / "audit.1").read_bytes().splitlines() == [q.record for q in queued(4)]
    assert path.read_bytes() == b"half a line"

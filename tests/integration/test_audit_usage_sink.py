"""Sinks in the formats of billing systems, and batches that a kill doesn't change."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

import pytest

from tenantgate.audit.config import SinkConfig
from tenantgate.audit.core.chain import START, link
from tenantgate.audit.core.ports import Entry, Queued, SinkError
from tenantgate.audit.core.testing import MemorySpool
from tenantgate.audit.delivery_thread import Batching, Delivery
from tenantgate.audit.files import FileSpool
from tenantgate.audit.frozen import FrozenBatch
from tenantgate.audit.sinks import make
from tenantgate.tenant import TenantId
from usage_rig import record

from support import until

PATIENCE_S = 20.0
DELIVERS = """
import sys, threading
from pathlib import Path
from tenantgate.audit.config import SinkConfig
from tenantgate.audit.delivery_thread import Batching, Delivery
from tenantgate.audit.files import FileSpool
from tenantgate.audit.sinks import make
folder, url = Path(sys.argv[1]), sys.argv[2]
sink = make(SinkConfig(name="s", type="http", format="cloudevents", url=url))
spool = FileSpool(folder / "spool", ["s"], max_records=99, max_bytes=1 << 20)
Delivery(spool, [sink], [Batching(10, 0.01)], frozen=folder).start()
threading.Event().wait()
"""


@dataclass
class Got:
    key: str
    kind: str
    body: bytes


@dataclass
class Receiver:
    url: str = ""
    answers: Event = field(default_factory=Event)
    statuses: list[int] = field(default_factory=list)
    got: Queue[Got] = field(default_factory=Queue)

    def next(self) -> Got:
        return self.got.get(timeout=PATIENCE_S)

    def sink(self, form: str, **more: Any) -> Any:
        return make(SinkConfig(name="s", type="http", format=form, url=self.url, gzip=False, **more))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    state = Receiver()
    state.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.got.put(Got(self.headers["Idempotency-Key"], self.headers["Content-Type"], body))
            state.answers.wait(PATIENCE_S)
            try:
                self.send_response(state.statuses.pop(0) if state.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                pass  # who asked was killed

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1/usage"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def entries(count: int) -> list[Entry]:
    head, out = START, []
    for n in range(count):
        entry, head = link(record(n), head, tenant=TenantId("acme"), node="n1", position=n)
        out.append(entry)
    return out


def spool_in(folder: Path) -> FileSpool:
    return FileSpool(folder / "spool", ["s"], max_records=99, max_bytes=1 << 20)


@contextlib.contextmanager
def delivering(folder: Path, url: str) -> Iterator[None]:
    """A process that delivers, until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", DELIVERS, str(folder), url])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def queued(count: int) -> list[Queued]:
    return [Queued(str(n), e.tenant, e.id, e.record) for n, e in enumerate(entries(count), 1)]


def test_after_a_kill_and_an_outage_the_same_batch_comes_byte_for_byte(
    receiver: Receiver, tmp_path: Path
) -> None:
    """The receiver may have taken it; records that came meanwhile are in the next one."""
    found = entries(8)
    spool_in(tmp_path).append(found[:3])
    receiver.answers.clear()
    with delivering(tmp_path, receiver.url):
        before = receiver.next()
    spool_in(tmp_path).append(found[3:])
    receiver.answers.set()
    with delivering(tmp_path, receiver.url):
        again, following = receiver.next(), receiver.next()
        until((tmp_path / "batch.s").exists, lambda there: not there, what="the frozen batch")
    assert again == before
    assert following.key != before.key
    assert spool_in(tmp_path).backlog("s") == 0


def test_a_batch_that_is_there_is_sent_before_the_spool_is_read(receiver: Receiver, tmp_path: Path) -> None:
    spool, held = MemorySpool(), queued(2)
    spool.append(entries(5))
    FrozenBatch(tmp_path / "batch.s").save(held)
    made = Delivery(spool, [receiver.sink("records")], [Batching(10, 0.0)], frozen=tmp_path)
    made.start()
    ids = [[r["id"] for r in json.loads(receiver.next().body)["records"]] for _ in range(2)]
    made.stop(PATIENCE_S)
    assert [len(one) for one in ids] == [2, 3]
    assert not (tmp_path / "batch.s").exists()


@pytest.mark.parametrize("damage", [b"", b"{}\t{}\n", b"\xff\n", b'{"c": 1'])
def test_a_batch_that_is_damaged_on_disk_is_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "batch.s").write_bytes(damage)
    assert FrozenBatch(tmp_path / "batch.s").load() == ()


def test_a_batch_survives_its_file(tmp_path: Path) -> None:
    batch = (*queued(2), Queued("9", TenantId("a\tb:é\u2028"), "x", b'{"a":"\\u2028"}'))
    FrozenBatch(tmp_path / "batch.s").save(batch)
    assert FrozenBatch(tmp_path / "batch.s").load() == batch


def test_a_full_disk_holds_no_delivery_up(tmp_path: Path) -> None:
    FrozenBatch(tmp_path / "missing" / "batch.s").save(queued(1))


@pytest.mark.parametrize(
    ("form", "kind", "requests"),
    [
        ("cloudevents", "application/cloudevents-batch+json", 1),
        ("openmeter", "application/cloudevents-batch+json", 1),
        ("lago", "application/json", 1),
        ("stripe", "application/x-www-form-urlencoded", 6),
    ],
)
def test_each_format_has_its_type_and_keys(receiver: Receiver, form: str, kind: str, requests: int) -> None:
    receiver.sink(form).send(queued(2))
    got = [receiver.next() for _ in range(requests)]
    assert {one.kind for one in got} == {kind}
    assert len({one.key for one in got}) == requests
    assert receiver.got.empty()


def test_of_several_requests_those_that_were_taken_aren_t_sent_again(receiver: Receiver) -> None:
    sink, batch = receiver.sink("stripe"), queued(1)
    receiver.statuses = [200, 503]
    with pytest.raises(SinkError):
        sink.send(batch)
    sink.send(batch)
    keys = [receiver.next().key for _ in range(4)]
    assert receiver.got.empty()
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3
    sink.send(batch)
    assert receiver.next().key == keys[0]


def test_what_is_no_record_is_refused_for_good(receiver: Receiver) -> None:
    with pytest.raises(SinkError) as caught:
        receiver.sink("cloudevents").send([Queued("1", TenantId("acme"), "x", b'{"id":"x"}')])
    assert caught.value.retry is False

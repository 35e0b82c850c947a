"""An upgrade goes on with what the release before it has left: journal, spool, and a plugin server that still runs.

`audit_before` is the state folder of such a release, killed between an append and its checkpoint: three lines of the
journal have their records, a sink has the first, the checkpoint is behind the third, the fourth was never read.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgpack
import pytest
import redis

from audit_rig import ACME, KEY, Rig, body, journal_line, only, reply, request_id, sound, text_of
from tenantgate.audit.core.chain import SHED, shed, verify
from tenantgate.audit.files import FileSpool
from tenantgate.audit.segments import stored
from tenantgate.audit.streams import StreamSpool
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.store.config import RedisConfig

from support import ROOT

BEFORE = ROOT / "tests/integration/audit_before"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(BEFORE, tmp_path / "state")
    return tmp_path / "state"


def test_a_journal_and_a_spool_in_files_go_on(folder: Path) -> None:
    spool = FileSpool(folder / "spool", ["s"], max_records=100, max_bytes=1 << 20)
    assert [q.id for q in spool.read("s", 10)] == [request_id(2), request_id(3)]
    rig = Rig(folder, spool=spool)
    rig.policy(content="off")
    rig.write(journal_line(5))
    rig.step(times=2)
    records = [entry.record for entry in stored(folder / "spool")]
    assert [json.loads(record)["id"] for record in records] == [request_id(n) for n in range(1, 6)]
    report = verify(records)
    assert (report.faults, report.beginnings, report.restarts) == ((), {}, {})
    rig.close()


def test_a_spool_in_redis_goes_on(folder: Path, redis_server: RedisServer, store: redis.Redis) -> None:
    base = "tg:audit:1:{acme}:node-1:"
    for entry in stored(BEFORE / "spool"):
        content = json.dumps(json.loads(entry.record)["content"])
        number = store.xadd(base + "records", {"position": entry.head.position, "record": shed(entry.record)})
        store.hset(base + "contents", number, content)
        head = {
            "seq": entry.head.seq,
            "hash": entry.head.hash,
            "position": entry.head.position,
            "bytes": 2000,
        }
        store.hset(base + "head", mapping=head)
        if entry.number == 0:
            store.hset(base + "head", "cursor:s", number)
    store.hset("tg:audit:1:node-1", mapping={"checkpoint": 276, "owner": "gateway", "tenant:acme": 1})
    config = RedisConfig(port=redis_server.port, timeout_ms=1000)
    spool = StreamSpool(config, "node-1", ["s"], max_records=100, max_bytes=1 << 20, owner="gateway")
    assert not spool.taken_over
    assert set(spool.heads()) == {ACME}
    rig = Rig(folder, spool=spool)
    rig.policy(content="off")
    rig.step(times=2)
    assert [q.id for q in spool.read("s", 10)] == [request_id(n) for n in range(2, 5)]
    assert json.loads(spool.read("s", 1)[0].record)["content"] != SHED
    assert verify(q.record for q in spool.all()).sound
    rig.close()


def test_the_messages_of_a_plugin_server_that_still_runs_are_read(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    question, answer = body("What is a sextant?"), reply("An instrument.")
    for message in (
        ["policy", "p", "route-1", {"encryption_key": KEY, "pipeline": rig.plain}],
        ["content", "p", request_id(1), question, len(question), answer, len(answer), {}],
        ["shed", "p", request_id(2)],
    ):
        rig.line.sendall(msgpack.packb(message))
    rig.write(journal_line(1), journal_line(2))
    rig.step()
    first, second = rig.records()
    assert (text_of(first), text_of(first, "output_messages")) == ("What is a sextant?", "An instrument.")
    assert second["content"] == {"state": "shed"}
    sound(rig, range(1, 3))
    rig.close()


def test_a_message_that_cannot_be_read_stops_no_record(rig: Rig) -> None:
    rig.policy(content="off")
    rig.line.sendall(msgpack.packb(["content", "p"]) + msgpack.packb({"v": 9, "type": "farewell"}))
    rig.write(journal_line(1))
    rig.step()
    assert only(rig)["content"] == {"state": "off"}

"""Kong's side of the audit log, played in this process: the journal, and the worker on a spool in memory."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from tenantgate import llm
from tenantgate.audit.channel import Channel
from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.core.chain import START, link, verify
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.ports import Entry, Head, Queued, Spool
from tenantgate.audit.core.testing import MemorySpool
from tenantgate.audit.messages import Content, Message, Settings, encode
from tenantgate.audit.worker import Worker
from tenantgate.fields import parse
from tenantgate.paths import plugin_file
from tenantgate.tenant import TenantId

KEY = "key-of-the-tests-key-of-the-tests"
PLUGIN = "tenant-audit-log"
ACME, GLOBEX = TenantId("acme"), TenantId("globex {x}:\u00e9")


class Chain:
    """Makes linked entries."""

    def __init__(self) -> None:
        self.heads: dict[TenantId, Head] = {}
        self.position = 0

    def entries(self, count: int, tenant: TenantId = ACME, content: str = "hello") -> list[Entry]:
        out = []
        for _ in range(count):
            self.position += 100
            record = {
                "id": f"id-{self.position}",
                "tenant": str(tenant),
                "content": {"state": "kept", "text": content},
                "time": "2026-01-01T00:00:00.000Z",
            }
            entry, self.heads[tenant] = link(
                record, self.heads.get(tenant, START), tenant=tenant, node="n", position=self.position
            )
            out.append(entry)
        return out


def load_plugin() -> ModuleType:
    """The plugin's module, loaded from its file."""
    name = "tests_tenant_audit_log"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, plugin_file(PLUGIN))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def request_id(number: int) -> str:
    return f"{number:032x}"


def kong_record(number: int, *, tenant: str | None = "acme", **changes: Any) -> dict[str, Any]:
    """What `kong.log.serialize` gives for a request, as the rendered file-log leaves it; `changes` by dotted name."""
    owner = tenant or "acme"
    record: dict[str, Any] = {
        "request": {"id": request_id(number), "method": "POST", "size": 300},
        "response": {"status": 200, "size": 900},
        "latencies": {"kong": 2, "proxy": 10, "request": 13, "receive": 1},
        "tries": [{"ip": "127.0.0.1", "port": 9}],
        "route": {"id": "route-1", "name": f"llm.openai.gpt-4o.{owner}", "paths": ["~/x"]},
        "client_ip": "203.0.113.9",
        "started_at": int(time.time() * 1000),
        "source": "upstream",
        "upstream_status": "200",
        "ai": {
            "proxy": {
                "meta": {"provider_name": "openai", "request_model": "gpt-4o", "response_model": "gpt-4o-x"},
                "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, "cost": 0},
            }
        },
        "tenantgate": {"guardrails": '{"action":"pass"}', "cache_status": "Miss"},
    }
    if tenant is not None:
        record["consumer"] = {"id": "c-1", "custom_id": tenant, "username": f"tenant_{tenant}"}
    for path, value in changes.items():
        *steps, last = path.split("__")
        node = record
        for step in steps:
            node = node.setdefault(step, {})
        node[last] = value
    return record


def journal_line(number: int, **changes: Any) -> bytes:
    return json.dumps(kong_record(number, **changes)).encode() + b"\n"


def body(text: str) -> bytes:
    return llm.write({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]})


def reply(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


@dataclass
class Rig:
    """A worker whose journal and channel the test writes, and whose clock it sets."""

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    spool: Any = field(default_factory=MemorySpool)
    names: Any = None
    now: float = 1000.0
    _worker: Worker | None = None

    def __post_init__(self) -> None:
        self.journal = self.folder / "journal.jsonl"
        self.line, self._theirs = socket.socketpair()
        self.plain = {
            "journal": str(self.journal),
            "state_dir": str(self.folder),
            "node": "node-1",
            "wait_ms": 2000,
            **self.config,
        }

    @property
    def worker(self) -> Worker:
        if self._worker is None:
            self._worker = Worker(
                parse(PipelineConfig, self.plain),
                Channel(self._theirs),
                self.spool,
                clock=lambda: self.now,
                find_names=None if self.names is None else lambda: self.names,
            )
        return self._worker

    def kill(self) -> None:
        """As SIGKILL: what was in its memory is gone."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        self.line.close()
        self._theirs.close()
        self.line, self._theirs = socket.socketpair()

    def close(self) -> None:
        self.kill()
        self.line.close()
        self._theirs.close()

    def policy(self, **values: Any) -> None:
        self.send(Settings("p", "route-1", {"encryption_key": KEY, "pipeline": self.plain, **values}))

    def content(
        self, number: int, prompt: str | bytes | None, answer: str | None = None, **headers: str
    ) -> None:
        raw = body(prompt) if isinstance(prompt, str) else prompt
        answered = None if answer is None else reply(answer)
        taken = RawContent(raw, len(raw or b""), answered, len(answered or b""), headers)
        self.send(Content("p", request_id(number), taken))

    def send(self, message: Message) -> None:
        self.line.sendall(encode(message))

    def write(self, *lines: bytes) -> None:
        with self.journal.open("ab") as out:
            out.write(b"".join(lines))

    def step(self, *, after_s: float = 0.0, times: int = 1) -> None:
        self.now += after_s
        for _ in range(times):
            self.worker.step()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(e.record) for e in self.spool.entries]

    def ids(self) -> list[int]:
        return [int(r["id"], 16) for r in self.records()]


def ids(spool: Spool, sink: str, limit: int = 1000) -> list[str]:
    """All that waits for a sink, acknowledged."""
    out = []
    while batch := spool.read(sink, limit):
        out += [q.id for q in batch]
        spool.ack(sink, batch)
    return out


def every(spool: Spool, sink: str) -> list[Queued]:
    """All that waits for a sink, acknowledged."""
    out: list[Queued] = []
    while batch := spool.read(sink, 100):
        out += batch
        spool.ack(sink, batch)
    return out


def only(rig: Rig) -> dict[str, Any]:
    (record,) = rig.records()
    return record


def text_of(record: dict[str, Any], side: str = "input_messages") -> str:
    found: str = record["content"][side][0]["parts"][0]["content"]
    return found


def sound(rig: Rig, numbers: range) -> None:
    assert sorted(rig.ids()) == list(numbers)
    report = verify(e.record for e in rig.spool.entries)
    assert (report.faults, report.beginnings, report.restarts) == ((), {}, {})

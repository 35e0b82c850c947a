"""The plugin with Kong played in this process: what it asks Kong for, and what it hands over; and the worker's life."""

from __future__ import annotations

import importlib.util
import json
import operator
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from audit_rig import KEY, body, journal_line, kong_record, load_plugin, reply, request_id
from tenantgate.audit import service as audit_service
from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.core.chain import verify
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.redaction import MARGIN
from tenantgate.audit.courier import Courier, WorkerMetrics
from tenantgate.audit.service import HeldBodies
from tenantgate.fields import parse
from tenantgate.kong.testing import FakeKong
from tenantgate.telemetry import metrics

from support import ROOT, until


class Kept:
    """A courier that keeps what it is given."""

    def __init__(self) -> None:
        self.policies: list[tuple[str, str, Any]] = []
        self.contents: list[tuple[str, str, RawContent]] = []

    def policy(self, name: str, route_id: str, values: Any) -> None:
        self.policies.append((name, route_id, values))

    def content(self, policy: str, identifier: str, raw: RawContent) -> None:
        self.contents.append((policy, identifier, raw))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    made = Kept()
    monkeypatch.setattr(audit_service, "courier_of", lambda _pipeline: made)
    return made


def plugin(**config: Any) -> Any:
    pipeline = {"journal": "/nowhere/journal.jsonl", "state_dir": "/nowhere"}
    values = {"encryption_key": KEY, "pipeline": pipeline, "route_id": "route-1", "deadline_ms": 1500}
    return load_plugin().Plugin({**values, **config})


def kong(number: int, prompt: bytes, answer: bytes | None = b"", **headers: str) -> FakeKong:
    record = kong_record(number)
    record["request"]["headers"] = headers
    if answer:
        record["ai"]["proxy"]["payload"] = {"response": answer.decode()}
    answers = {"kong.nginx.get_var": lambda name: {"kong_request_id": request_id(number)}[name]}
    return FakeKong(consumer="acme", body=prompt, record=record, answers=answers)


def test_access_takes_three_calls_and_log_one(kept: Kept) -> None:
    made, request = plugin(), kong(1, body("What?"), reply("That."))
    request.run(made, "access")
    assert request.methods() == ["nginx.get_var", "request.get_headers", "request.get_raw_body"]
    request.calls.clear()
    request.run(made, "log")
    assert request.methods() == ["log.serialize"]
    ((_, identifier, raw),) = kept.contents
    assert identifier == request_id(1)
    assert (raw.body, raw.body_size) == (body("What?"), len(body("What?")))
    assert (raw.reply, raw.reply_size) == (reply("That."), len(reply("That.")))
    assert request.exit is None
    assert request.reply_headers == {}
    assert request.sent_body is None


@pytest.mark.parametrize(
    ("config", "access", "log"),
    [
        ({"content": "off"}, 0, 0),
        ({"content": "off", "headers": ["x-user"]}, 0, 1),
        ({"content": "hashed"}, 3, 1),
        ({"headers": ["x-user"]}, 3, 1),
    ],
)
def test_who_keeps_less_asks_less(kept: Kept, config: dict[str, Any], access: int, log: int) -> None:
    made, request = (
        plugin(**config),
        kong(2, body("What?"), reply("That."), **{"x-user": "u", "x-other": "o"}),
    )
    request.run(made, "access")
    assert len(request.calls) == access
    request.calls.clear()
    request.run(made, "log")
    assert len(request.calls) == log
    if config.get("content") == "off" and log:
        assert kept.contents[0][2] == RawContent(headers={"x-user": "u"})


def test_a_header_has_all_its_values_up_to_a_bound(kept: Kept) -> None:
    made, request = plugin(content="off", headers=["X-Team", "x-long", "x-none"]), kong(4, body("What?"))
    assert isinstance(request.record, dict)
    request.record["request"]["headers"] = {"x-team": ["a", "b"], "x-long": "x" * 5000, "x-other": "o"}
    request.run(made, "log")
    assert kept.contents[0][2] == RawContent(headers={"x-team": "a, b", "x-long": "x" * 4096})


def test_the_bound_holds_for_what_is_kept_and_sent(kept: Kept) -> None:
    made, request = plugin(max_content_bytes=1000), kong(3, body("x" * 1_000_000), reply("y" * 1_000_000))
    request.run(made, "access")
    request.run(made, "log")
    raw = kept.contents[0][2]
    assert raw.body_size > 1_000_000 < raw.reply_size
    assert len(raw.body or b"") == len(raw.reply or b"") == 1000 + 2 * MARGIN


def test_a_request_that_never_reached_access_has_no_body(kept: Kept) -> None:
    kong(4, body("What?"), None).run(plugin(), "log")
    assert kept.contents[0][2].body is None


@pytest.mark.parametrize(
    "change",
    [{"headers": ["Authorization"]}, {"headers": ["x-api-key"]}, {"input_cost": 1.0}, {"content": "all"}],
)
def test_settings_that_can_not_hold_are_told_and_stop_no_request(kept: Kept, change: dict[str, Any]) -> None:
    made, request = plugin(**change), kong(5, body("What?"))
    assert made.config_error is not None
    request.run(made, "access")
    request.run(made, "log")
    assert (request.exit, kept.contents) == (None, [])


def test_held_bodies_are_bounded() -> None:
    held = HeldBodies(most=3, most_bytes=100, age_s=10)
    for n in range(5):
        held.put(str(n), b"x" * 10, 10, now=n)
    assert [held.take(str(n)) is not None for n in range(5)] == [False, False, True, True, True]
    held.put("a", b"x" * 60, 60, now=20)
    held.put("b", b"x" * 60, 60, now=21)
    assert held.take("a") is None
    held.put("c", b"", 0, now=40)
    assert held.take("b") is None
    assert len(held) == 1


# -- the worker's process ----------------------------------------------------------------------------------

# A worker whose spool is a file that each entry is appended to, with its own memory read back from there.
_WORKER = """
import json, sys, tenantgate.audit.worker as w
from pathlib import Path
from tenantgate.audit.core.ports import Head
from tenantgate.audit.core.testing import MemorySpool
from tenantgate.tenant import TenantId

class FileSpool(MemorySpool):
    def __init__(self, path):
        super().__init__()
        self.path = path
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\\n") + 1]
        path.write_bytes(whole)
        for line in whole.splitlines():
            position, record = line.split(b" ", 1)
            found = json.loads(record)
            chain = found["chain"]
            self._heads[TenantId(found["tenant"])] = Head(chain["seq"], chain["hash"], int(position))
    def append(self, entries):
        kept = len(self.entries)
        super().append(entries)
        with self.path.open("ab") as out:
            for e in self.entries[kept:]:
                out.write(b"%d " % e.position + e.record + b"\\n")

class Nothing:
    def start(self): pass
    def stop(self, flush_s): pass

w._parts = lambda config: (FileSpool(Path(config.state_dir) / "spool"), Nothing())
sys.exit(w.main())
"""


@pytest.fixture
def courier(tmp_path: Path) -> Iterator[Courier]:
    plain = {
        "journal": str(tmp_path / "journal.jsonl"),
        "state_dir": str(tmp_path),
        "node": "n",
        "wait_ms": 200,
    }
    made = Courier(parse(PipelineConfig, plain), plain, command=(sys.executable, "-c", _WORKER))
    made.policy("p", "route-1", {"encryption_key": KEY, "pipeline": plain})
    yield made
    made.stop()


def spooled(folder: Path) -> list[bytes]:
    path = folder / "spool"
    text = path.read_bytes() if path.exists() else b""
    return [line.split(b" ", 1)[1] for line in text[: text.rfind(b"\n") + 1].splitlines()]


def send(courier: Courier, folder: Path, numbers: range) -> None:
    for n in numbers:
        courier.content("p", request_id(n), RawContent(body(f"question {n}"), 1, None, 0, {}))
        with (folder / "journal.jsonl").open("ab") as out:
            out.write(journal_line(n, tenant=f"t{n % 3}"))


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_every_request_has_one_record(
    courier: Courier, tmp_path: Path
) -> None:
    seen = set()
    for life in range(5):
        pid = until(lambda: courier.worker_pid, lambda p: p is not None and p not in seen, what="worker")
        assert pid is not None
        send(courier, tmp_path, range(life * 100 + 1, life * 100 + 81))
        until(lambda: len(spooled(tmp_path)), partial(operator.lt, life * 100 + 10), what="records")
        send(courier, tmp_path, range(life * 100 + 81, life * 100 + 101))
        os.kill(pid, signal.SIGKILL)
        seen.add(pid)
    until(lambda: len(spooled(tmp_path)), lambda n: n >= 500, what="records")
    courier.stop()
    records = spooled(tmp_path)
    assert sorted(int(json.loads(r)["id"], 16) for r in records) == list(range(1, 501))
    assert verify(records).sound
    states = {json.loads(r)["content"]["state"] for r in records}
    assert states <= {"kept", "lost", "late"}
    assert b"question 7" in b"".join(records)


def test_when_the_server_ends_the_worker_writes_what_is_there_and_ends(
    courier: Courier, tmp_path: Path
) -> None:
    until(lambda: courier.worker_pid, lambda p: p is not None, what="worker")
    send(courier, tmp_path, range(1, 51))
    courier.stop()
    assert courier.worker_pid is None
    assert len(spooled(tmp_path)) == 50


def test_content_beyond_the_queue_is_left_out_and_the_record_says_so(tmp_path: Path) -> None:
    plain = {
        "journal": str(tmp_path / "journal.jsonl"),
        "state_dir": str(tmp_path),
        "node": "n",
        "queue_megabytes": 1,
    }
    config = parse(PipelineConfig, plain)
    # One that starts after a file has appeared: until then the queue fills.
    waits = "import pathlib, time\nwhile not pathlib.Path('%s').exists(): time.sleep(.01)\n" % (
        tmp_path / "go"
    )
    courier = Courier(config, plain, command=(sys.executable, "-c", waits + _WORKER))
    courier.policy("p", "route-1", {"encryption_key": KEY, "pipeline": plain})
    for n in range(1, 41):
        raw = body("word " * 16_000)
        courier.content("p", request_id(n), RawContent(raw, len(raw), None, 0, {}))
        with (tmp_path / "journal.jsonl").open("ab") as out:
            out.write(journal_line(n))
    (tmp_path / "go").touch()
    until(lambda: len(spooled(tmp_path)), lambda n: n == 40, what="records")
    states = [json.loads(r)["content"]["state"] for r in spooled(tmp_path)]
    courier.stop()
    assert states[0] == "kept"
    assert states[-1] == "shed"
    assert set(states) == {"kept", "shed"}


def test_the_worker_s_metrics_are_shown_and_counted_on_over_its_restarts() -> None:
    text = (
        "# HELP tenantgate_test_worker_total About.\n# TYPE tenantgate_test_worker_total counter\n"
        'tenantgate_test_worker_total{kind="a b"} %d\n'
        "# HELP tenantgate_test_worker_now About.\n# TYPE tenantgate_test_worker_now gauge\n"
        "tenantgate_test_worker_now %d\n"
    )
    first = WorkerMetrics()
    first.update(text % (3, 7))
    first.update(text % (5, 4))
    WorkerMetrics().update(text % (2, 1))
    assert metrics.counter("tenantgate_test_worker_total", "", ("kind",)).value(kind="a b") == 7
    assert metrics.gauge("tenantgate_test_worker_now", "").value() == 1


@pytest.mark.slow
def test_the_measuring_of_memory_loses_no_record(capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "benchmarks/bench_audit.py"
    spec = importlib.util.spec_from_file_location("tests_bench_audit", path)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    assert bench.memory(60, marks=2, large_prompts=1) == 0
    out = capsys.readouterr().out
    assert "60 records at the sink, 0 faults, content: {'kept': 60}" in out
    assert "max_content_bytes 1048576: " in out

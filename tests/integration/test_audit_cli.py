"""``tenantgate audit`` over files, a spool's folder and Redis: what it finds, what it prints, and its exit status."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import redis

from audit_rig import Rig, journal_line
from tenantgate.audit import commands as audit_commands
from tenantgate.audit.core.chain import START, link, shed
from tenantgate.audit.core.ports import Entry, Head
from tenantgate.audit.files import FileSpool
from tenantgate.audit.sinks import FileSink
from tenantgate.audit.streams import StreamSpool
from tenantgate.cli import main
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.store.config import RedisConfig
from tenantgate.tenant import TenantId

SECRET = "what-the-prompt-said"


def entries(count: int, *, tenants: tuple[str, ...] = ("acme", "globex")) -> list[Entry]:
    """Records of the last minutes, each half a minute off the whole; the newest last; of the tenants in turn."""
    heads: dict[str, Head] = {}
    out = []
    for n in range(count):
        name = tenants[n % len(tenants)]
        at = datetime.now(UTC) - timedelta(minutes=count - n - 0.5)
        record = {
            "id": f"id-{n}",
            "tenant": name,
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "outcome": "cached" if n % 5 == 0 else "answered",
            "response": {"status": 200},
            "content": {"state": "kept", "text": SECRET},
        }
        entry, heads[name] = link(
            record, heads.get(name, START), tenant=TenantId(name), node="n", position=100 * (n + 1)
        )
        out.append(entry)
    return out


def write(path: Path, records: list[bytes]) -> Path:
    data = b"".join(record + b"\n" for record in records)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An audit folder with a spool of 20 records, of which one sink has 15."""
    spool = FileSpool(tmp_path / "audit" / "spool", ["a"], max_records=1000, max_bytes=1 << 30)
    spool.append(entries(20))
    spool.ack("a", spool.read("a", 15))
    spool.close()
    return tmp_path / "audit"


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def made(*argv: object) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["audit", *map(str, argv)])
        told = capsys.readouterr()
        return status, told.out + told.err

    return made


# -- verify ------------------------------------------------------------------------------------------------


def altered(records: list[bytes]) -> list[bytes]:
    return [*records[:6], records[6].replace(b'"status":200', b'"status":500'), *records[7:]]


def other_content(records: list[bytes]) -> list[bytes]:
    return [*records[:6], records[6].replace(SECRET.encode(), b"something else"), *records[7:]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: [*r[:6], *r[7:]], "missing: tenant acme, node n, number 4"),
        (altered, "altered: tenant acme, node n, number 4, id id-6"),
        (other_content, "content_altered: tenant acme, node n, number 4, id id-6"),
        (lambda r: [*r, r[6]], "doubled: tenant acme, node n, number 4, id id-6"),
        (lambda r: [*r[:6], b"{", *r[6:]], "unreadable"),
    ],
)
@pytest.mark.parametrize("name", ["records.jsonl", "records.jsonl.gz"])
def test_verify_finds_what_was_done_to_a_file(
    tmp_path: Path, run: Run, change: Callable[[list[bytes]], list[bytes]], told: str, name: str
) -> None:
    records = [e.record for e in entries(20)]
    status, out = run("verify", write(tmp_path / name, records))
    assert (status, "20 records in 2 chains" in out) == (0, True), out
    status, out = run("verify", write(tmp_path / name, change(records)))
    assert status == 1
    assert f"fault: {told}" in out
    assert SECRET not in out


def test_verify_takes_the_parts_of_a_log_in_any_order(tmp_path: Path, run: Run) -> None:
    records = [e.record for e in entries(20)]
    newer, older = write(tmp_path / "a.jsonl", records[12:]), write(tmp_path / "a.jsonl.1.gz", records[:12])
    assert run("verify", newer, older)[0] == 0
    status, out = run("verify", newer)
    assert (status, "begins with number 7" in out) == (0, True), "what came before may be elsewhere"


def test_content_that_was_taken_out_is_no_fault(tmp_path: Path, run: Run) -> None:
    records = [shed(e.record) for e in entries(6)]
    status, out = run("verify", write(tmp_path / "r.jsonl", records))
    assert (status, "6 without their content" in out) == (0, True)


def test_verify_reads_the_spool(folder: Path, run: Run) -> None:
    status, out = run("verify", "--dir", folder)
    assert (status, "20 records in 2 chains" in out) == (0, True)


# -- tail, export ------------------------------------------------------------------------------------------


def test_tail_prints_the_latest_without_content(folder: Path, run: Run) -> None:
    status, out = run("tail", "--dir", folder, "-n", 3)
    assert status == 0
    assert [line.rpartition(" ")[2] for line in out.splitlines()] == ["id-17", "id-18", "id-19"]
    assert SECRET not in out
    whole = run("tail", "--dir", folder, "-n", 1, "--json", "--tenant", "acme")[1]
    assert json.loads(whole)["id"] == "id-18"


@pytest.mark.parametrize("by", ["mine", "kong-1", "0af7651916cd43dd8448eb211c80319c"])
def test_a_request_is_found_by_any_of_its_ids(tmp_path: Path, run: Run, by: str) -> None:
    record = {
        "id": "kong-1",
        "tenant": "acme",
        "time": "2026-11-29T18:00:00.000Z",
        "outcome": "blocked",
        "request": {"id": "kong-1", "correlation_id": "mine"},
        "response": {"status": 400},
        "trace": {"trace_id": "0af7651916cd43dd8448eb211c80319c"},
        "verdicts": {"guardrails": {"decision": "block", "rules": ["secrets"]}},
        "content": {"state": "kept", "text": SECRET},
    }
    other = record | {"id": "kong-2", "request": {"id": "kong-2", "correlation_id": "x"}, "trace": {}}
    path = write(tmp_path / "records.jsonl", [json.dumps(r).encode() for r in (other, record)])
    status, out = run("find", by, str(path))
    assert status == 0
    for told in ("blocked  400", "request_id  mine", "kong  kong-1", '"rules": ["secrets"]'):
        assert told in out
    assert SECRET not in out
    assert "kong-2" not in out
    status, out = run("find", "nobody's", str(path))
    assert status == 1
    assert "X-Kong-Request-Id" in out


def test_tail_goes_on_with_what_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_them = entries(60)
    spool = FileSpool(tmp_path / "spool", [], max_records=1000, max_bytes=1 << 30, segment_entries=10)
    spool.append(all_of_them[:25])
    rounds = iter([26, 40, 40, 60])

    def wait(_seconds: float) -> None:
        try:
            spool.append(all_of_them[: next(rounds)])
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(audit_commands.time, "sleep", wait)
    with contextlib.suppress(KeyboardInterrupt):
        main(["audit", "tail", "--dir", str(tmp_path), "-f", "-n", "3"])
    told = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
    assert told == [f"id-{n}" for n in range(22, 60)]


def test_tail_prints_no_control_characters(tmp_path: Path, run: Run) -> None:
    spool = FileSpool(tmp_path / "spool", [], max_records=1000, max_bytes=1 << 30)
    spool.append(entries(1, tenants=("\x1b[2Jacme",)))
    assert "\x1b" not in run("tail", "--dir", tmp_path)[1]


def test_export_selects_by_tenant_and_time(folder: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "acme.jsonl.gz"
    assert run("export", "--dir", folder, "--tenant", "acme", "--since", "10m", "-o", out)[0] == 0
    found = [json.loads(line) for line in gzip.decompress(out.read_bytes()).splitlines()]
    assert {r["tenant"] for r in found} == {"acme"}
    assert [r["id"] for r in found] == ["id-10", "id-12", "id-14", "id-16", "id-18"]


@pytest.mark.parametrize(
    "argv",
    [
        ("tail", "--dir", "/nonexistent"),
        ("verify", "/nonexistent"),
        ("export", "--since", "soon"),
        ("reconcile", "--dir", "DIR"),
        ("reconcile", "--dir", "DIR", "--metrics-url", "file:///etc/passwd"),
        ("replay", "--dir", "DIR", "--sink", "nobody", "--since", "1h"),
    ],
)
def test_what_cant_be_done_is_said(folder: Path, run: Run, argv: tuple[str, ...]) -> None:
    status, out = run(*(folder if a == "DIR" else a for a in argv))
    assert (status, out.startswith("error: ")) == (2, True), out


# -- replay ------------------------------------------------------------------------------------------------


def test_a_replay_gives_the_sink_the_records_of_that_time_again(folder: Path, run: Run) -> None:
    assert run("replay", "--dir", folder, "--sink", "a", "--since", "8m")[0] == 0
    spool = FileSpool(folder / "spool", ["a"], max_records=1000, max_bytes=1 << 30)
    assert [q.id for q in spool.read("a", 100)] == [f"id-{n}" for n in range(12, 20)]


def test_a_replay_of_nothing_says_so(folder: Path, run: Run) -> None:
    assert run("replay", "--dir", folder, "--sink", "a", "--since", "2099-01-01T00:00Z")[0] == 1


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_commands_over_redis(
    redis_server: RedisServer,
    store: redis.Redis,
    run: Run,
    by: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = RedisConfig(port=redis_server.port, timeout_ms=1000)
    spool = StreamSpool(config, "n", ["a"], max_records=1000, max_bytes=1 << 30)
    spool.append(entries(20))
    while batch := spool.read("a", 100):
        spool.ack("a", batch)
    where: tuple[object, ...] = ("--redis-url", redis_server.url, "--node", "n")
    if by == "environment":
        monkeypatch.setenv("TENANTGATE_REDIS_URL", redis_server.url)
        where = ("--dir", tmp_path, "--node", "n")
    assert run("verify", *where)[0] == 0
    assert run("tail", *where, "-n", 50)[1].count("id-") == 20
    assert run("reconcile", *where, "--requests", 20)[0] == 0
    assert run("replay", *where, "--sink", "a", "--since", "1h")[0] == 0
    again = StreamSpool(config, "n", ["a"], max_records=1000, max_bytes=1 << 30)
    assert len(again.read("a", 100)) == 10, "a tenant's at a time"


def test_a_folder_with_a_spool_comes_before_the_environment(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANTGATE_REDIS_URL", "redis://127.0.0.1:1")
    assert run("tail", "--dir", folder, "-n", 50)[1].count("id-") == 20


# -- reconcile ---------------------------------------------------------------------------------------------


@pytest.fixture
def metrics_url() -> Iterator[str]:
    page = (
        b"# TYPE kong_http_requests_total counter\n"
        b'kong_http_requests_total{service="llm",route="llm.openai.m.acme",code="200",consumer=""} 15\n'
        b'kong_http_requests_total{service="llm",route="llm.openai.m.acme",code="401",consumer=""} 5\n'
        b'kong_http_requests_total{service="other",route="r",code="200",consumer=""} 1000\n'
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("requests", "status", "share"), [(20, 0, "100.0000%"), (25, 1, "80.0000%")])
def test_reconcile_says_which_share_of_requests_has_a_record(
    folder: Path, run: Run, requests: int, status: int, share: str
) -> None:
    found, out = run("reconcile", "--dir", folder, "--requests", requests)
    assert found == status
    assert f"20 records for {requests} requests ({share})" in out
    assert "cached" in out


def test_reconcile_asks_kong_for_the_count_of_our_routes(folder: Path, run: Run, metrics_url: str) -> None:
    status, out = run("reconcile", "--dir", folder, "--metrics-url", metrics_url)
    assert (status, "20 records for 20 requests" in out) == (0, True), out


def test_a_record_that_came_twice_counts_once(tmp_path: Path, run: Run) -> None:
    records = [e.record for e in entries(10)]
    assert run("reconcile", write(tmp_path / "r.jsonl", [*records, *records[:5]]), "--requests", 15)[0] == 1


# -- what had to be dropped --------------------------------------------------------------------------------


def test_a_sinks_own_log_explains_what_the_spool_had_to_drop(tmp_path: Path, run: Run) -> None:
    plain = FileSpool(tmp_path / "spool", ["file"], max_records=20, max_bytes=1 << 30, segment_entries=10)
    rig, sink = Rig(tmp_path, spool=plain), FileSink("file", tmp_path / "audit.jsonl")

    def deliver() -> None:
        while batch := plain.read("file", 7):
            sink.send(batch)
            plain.ack("file", batch)

    rig.policy(content="off")
    rig.write(*(journal_line(n) for n in range(1, 6)))
    rig.step()
    deliver()
    for first in range(6, 46, 10):  # and now nobody fetches them
        rig.write(*(journal_line(n) for n in range(first, first + 10)))
        rig.step()
    rig.step(after_s=6, times=2)
    deliver()
    rig.close()
    status, out = run("verify", tmp_path / "audit.jsonl")
    assert (status, "sound" in out) == (0, True), out
    assert (
        "note: tenant acme, node node-1: 6-25 aren't here; a later record says that they were dropped" in out
    )
    status, out = run("verify", "--dir", tmp_path)
    assert (status, "records dropped, the spool was full: acme" in out) == (0, True), out
    assert "gap  20 records dropped" in run("tail", "--dir", tmp_path, "-n", 1)[1]
    status, out = run("reconcile", tmp_path / "audit.jsonl", "--requests", 45)
    assert (status, "25 records for 45 requests" in out) == (1, True), out
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    assert run("verify", write(tmp_path / "less.jsonl", [*lines[:2], *lines[3:]]))[0] == 1

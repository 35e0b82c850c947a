"""Several plugin servers on one state folder: one worker for all, whoever of them is killed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from audit_rig import KEY, body, journal_line, request_id
from tenantgate.audit import courier as audit_courier
from tenantgate.audit import worker as audit_worker
from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.core.chain import verify
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.courier import Courier
from tenantgate.audit.meeting import SOCKET, connect, listen, lock
from tenantgate.audit.messages import Pipeline, encode
from tenantgate.audit.segments import stored
from tenantgate.audit.worker import Output
from tenantgate.devhost.processes import descendants
from tenantgate.fields import parse

from support import until

# A plugin server: for each number that it reads it hands over a content, and then the line of the journal is there.
_SERVER = """
import json, sys
from pathlib import Path
from audit_rig import KEY, body, journal_line, request_id
from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.courier import Courier
from tenantgate.fields import parse

plain = json.loads(sys.argv[1])
courier = Courier(parse(PipelineConfig, plain), plain)
courier.policy("p", "route-1", {"encryption_key": KEY, "pipeline": plain})
for text in sys.stdin:
    if text == "worker\\n":
        print(courier.worker_pid or 0, flush=True)
        continue
    courier.content("p", request_id(int(text)), RawContent(body("question " + text), 9, None, 0, {}))
    with open(plain["journal"], "ab") as out:
        out.write(journal_line(int(text), tenant="t%d" % (int(text) % 3)))
courier.stop()
"""


class Server:
    """A process with a courier."""

    def __init__(self, plain: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, json.dumps(plain)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def _write(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def send(self, numbers: range) -> None:
        self._write("".join(f"{n}\n" for n in numbers))

    def worker(self) -> int:
        """The worker's process id, 0 while there is none."""
        assert self.process.stdout is not None
        self._write("worker\n")
        return int(self.process.stdout.readline())

    def worker_but(self, *others: int) -> int:
        return until(self.worker, lambda pid: pid not in (0, *others), what="worker")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):  # not read to its end: the worker has it too
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """The workers that couriers of this process have started end with the last of these."""
    yield
    for child in audit_courier._children:
        child.wait()


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    return {
        "journal": str(tmp_path / "journal.jsonl"),
        "state_dir": str(tmp_path),
        "node": "n",
        "wait_ms": 500,
    }


@pytest.fixture
def servers(plain: dict[str, Any]) -> Iterator[list[Server]]:
    made = [Server(plain), Server(plain)]
    yield made
    for server in made:
        server.kill()
    until(lambda: running(Path(plain["state_dir"])), lambda there: not there, what="end of the worker")


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(entry.record) for entry in stored(folder / "spool")]


def complete(folder: Path, numbers: range) -> list[dict[str, Any]]:
    """The records, once there are as many: each once, chained."""
    found = until(lambda: records(folder), lambda r: len(r) >= len(numbers), what="records")
    assert sorted(int(r["id"], 16) for r in found) == list(numbers)
    assert verify(json.dumps(r).encode() for r in found).sound
    return found


def running(folder: Path) -> bool:
    """Whether a worker has the folder's lock."""
    held = lock(folder)
    if held is not None:
        os.close(held)
    return held is None


def test_two_servers_have_one_worker_which_ends_with_the_last(servers: list[Server], tmp_path: Path) -> None:
    one, two = servers
    assert one.worker_but(0) == two.worker_but(0)
    one.send(range(1, 51))
    two.send(range(51, 101))
    assert {r["content"]["state"] for r in complete(tmp_path, range(1, 101))} == {"kept"}
    one.end()
    assert two.worker()
    two.send(range(101, 121))
    two.end()
    until(lambda: running(tmp_path), lambda there: not there, what="end of the worker")
    found = complete(tmp_path, range(1, 121))
    assert {r["content"]["state"] for r in found} == {"kept"}


def test_a_worker_that_is_killed_is_replaced_by_one_for_both(servers: list[Server], tmp_path: Path) -> None:
    one, two = servers
    before = [one.worker_but(0)]
    two.worker_but(0)
    for life in range(3):
        one.send(range(life * 100 + 1, life * 100 + 51))
        two.send(range(life * 100 + 51, life * 100 + 101))
        os.kill(before[-1], signal.SIGKILL)
        now = one.worker_but(*before)
        assert two.worker_but(*before) == now
        before.append(now)
    found = complete(tmp_path, range(1, 301))
    assert {r["content"]["state"] for r in found} <= {"kept", "lost", "late"}


def test_a_worker_outlives_the_server_that_has_started_it(servers: list[Server], tmp_path: Path) -> None:
    one, two = servers
    worker = one.worker_but(0)
    two.worker_but(0)
    parent = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    started, other = (one, two) if parent == one.process.pid else (two, one)
    assert parent == started.process.pid
    started.send(range(1, 21))
    until(lambda: len(records(tmp_path)), lambda n: n > 0, what="records")
    started.kill()
    other.send(range(21, 61))
    found = complete(tmp_path, range(1, 61))
    assert other.worker() == worker
    assert {r["content"]["state"] for r in found if int(r["id"], 16) > 20} == {"kept"}
    os.kill(worker, signal.SIGKILL)
    assert other.worker_but(worker), "who is left starts the next one"
    other.send(range(61, 81))
    complete(tmp_path, range(1, 81))


@pytest.mark.parametrize("first", ["old", "new"])
def test_the_newest_configuration_holds_whoever_comes_first(
    plain: dict[str, Any], tmp_path: Path, first: str
) -> None:
    sinks = {
        n: {"sinks": [{"name": n, "type": "file", "path": f"{n}.out", "flush_ms": 10}]}
        for n in ("old", "new")
    }
    couriers = {
        n: Courier(parse(PipelineConfig, {**plain, **sinks[n]}), {**plain, **sinks[n]}) for n in sinks
    }
    pid = until(lambda: couriers[first].worker_pid, lambda p: p is not None, what="worker")
    for name, courier in couriers.items():
        courier.policy("p", "route-1", {"encryption_key": KEY, "pipeline": {**plain, **sinks[name]}})
    wait = {"old": range(1, 6), "new": range(6, 11)}
    for name, numbers in wait.items():
        for n in numbers:
            couriers[name].content("p", request_id(n), RawContent(body("hello"), 9, None, 0, {}))
            with (tmp_path / "journal.jsonl").open("ab") as out:
                out.write(journal_line(n))
    found = complete(tmp_path, range(1, 11))
    assert {r["content"]["state"] for r in found} == {"kept"}
    until(
        lambda: (tmp_path / "new.out").exists() and (tmp_path / "new.out").read_bytes().count(b"\n"),
        lambda n: n == 10,
        what="records of the new sink",
    )
    assert {c.worker_pid for c in couriers.values()} == {pid}
    for courier in couriers.values():
        courier.stop()


def test_the_socket_is_its_owner_s_alone_and_one_that_was_left_is_no_worker(plain: dict[str, Any]) -> None:
    folder = Path(plain["state_dir"])
    courier = Courier(parse(PipelineConfig, plain), plain)
    pid = until(lambda: courier.worker_pid, lambda p: p is not None, what="worker")
    assert pid is not None
    assert (folder / SOCKET).stat().st_mode & 0o777 == 0o600
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, own + 5)  # requests' work goes first
    courier.stop()
    until(lambda: running(folder), lambda there: not there, what="end of the worker")
    assert connect(folder) is None


def test_a_worker_for_a_server_of_the_release_before_serves_this_one_too(
    plain: dict[str, Any], tmp_path: Path
) -> None:
    mine, theirs = socket.socketpair()
    with mine:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tenantgate.audit.worker", "--channel", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
            )
        hello = msgpack.packb(plain)
        mine.sendall(len(hello).to_bytes(4, "big") + hello)
        settings = {"encryption_key": KEY, "pipeline": plain}
        mine.sendall(
            msgpack.packb({"v": 2, "type": "settings", "policy": "p", "route_id": "r", "values": settings})
        )
        until(lambda: running(tmp_path), bool, what="worker")
        courier = Courier(parse(PipelineConfig, plain), plain)
        until(lambda: courier.worker_pid, lambda pid: pid == process.pid, what="worker")
        courier.content("p", request_id(1), RawContent(body("hello"), 9, None, 0, {}))
        (tmp_path / "journal.jsonl").write_bytes(journal_line(1))
        assert [r["content"]["state"] for r in complete(tmp_path, range(1, 2))] == ["kept"]
        courier.stop()
    assert process.wait() == 0


@pytest.mark.parametrize("waited", ["long enough", "for one that is dead"])
def test_a_worker_whose_server_never_comes_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: str
) -> None:
    monkeypatch.setattr(audit_worker, "_FIRST_S", 0.0 if waited == "long enough" else math.inf)
    starter = os.getppid() if waited == "long enough" else -1
    assert audit_worker._serve(tmp_path, starter, Output(None)) == 0


def test_a_worker_whose_server_dies_right_after_its_first_words_works_off_what_is_there_and_ends(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "journal.jsonl").write_bytes(journal_line(1))
    left: list[int] = []
    monkeypatch.setattr(audit_worker, "leave_output", lambda: left.append(len(records(tmp_path))))
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def listen_to_one_that_dies(folder: Path) -> socket.socket:
        listener = listen(folder)
        line = connect(folder)
        assert line is not None
        with line:
            line.sendall(encode(Pipeline(plain, 1.0)))
        return listener

    monkeypatch.setattr(audit_worker, "listen", listen_to_one_that_dies)
    assert audit_worker._serve(tmp_path, os.getppid(), Output(None)) == 0
    assert len(records(tmp_path)) == 1
    assert left == [0], "before it worked that off"


_PATIENT = """
import sys
from tenantgate.audit import worker
worker._DELIVER_S = 1e6
sys.exit(worker.main(sys.argv[1:]))
"""
_STARTER = """
import json, sys
from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.courier import Courier
from tenantgate.fields import parse
plain = json.loads(sys.argv[1])
courier = Courier(parse(PipelineConfig, plain), plain, command=[sys.executable, "-c", sys.argv[2]])
sys.stdin.read()
"""


def test_the_worker_of_a_dead_server_lets_go_of_its_output_before_it_works_off_what_is_left(
    plain: dict[str, Any], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the worker lives on to deliver here
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        plain["sinks"] = [{"name": "h", "type": "http", "url": url, "flush_ms": 10}]
        (tmp_path / "journal.jsonl").write_bytes(journal_line(1))
        server = subprocess.Popen(
            [sys.executable, "-c", _STARTER, json.dumps(plain), _PATIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        with server:
            line, _ = silent.accept()
            (worker,) = descendants(server.pid)
            server.kill()
            assert server.stdout is not None
            server.stdout.read()  # to the end: Kong starts no server before
            assert running(tmp_path)
        os.kill(worker, signal.SIGKILL)
        line.close()


def test_what_a_sink_on_standard_output_gets_no_more_waits_once_the_watchdog_is_dead() -> None:
    code = """
from tenantgate.audit.core.ports import Queued, SinkError
from tenantgate.audit.sinks import StdoutSink
from tenantgate.audit.worker import Output
from tenantgate.tenant import TenantId
import os, subprocess
watchdog = subprocess.Popen(["sleep", "60"])
output = Output(watchdog.pid)
assert not output.over()
watchdog.kill()
watchdog.wait()
assert output.over() and Output(watchdog.pid).over()
try:
    StdoutSink("s").send([Queued("1", TenantId("t"), "i", b"{}")])
except SinkError as error:
    os._exit(7 if error.retry else 1)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (7, b"")

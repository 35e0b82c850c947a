"""Processes: starting, dying, being stopped, being replaced."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tenantgate.kong import launcher
from tenantgate.kong.testing import KongClient, KongError
from tenantgate.kong.wire import pack_as_kong

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Launched

PLUGINS = Path(__file__).parent / "plugins"


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_start_waits_in_the_backlog_rather_than_being_refused(launch: Callable[..., Launched]) -> None:
    server = launch("closing")
    server.eventually(server.socket.exists)
    with server.client() as kong:  # before the plugin is loaded and warm
        instance = kong.start_instance("closing")
        (call,) = kong.handle_event(instance, "access")
    assert call == ("kong.response.set_header", "x-life", "1 0 True")


def test_loading_what_holds_python_s_lock_drops_no_connection(launch: Callable[..., Launched]) -> None:
    server = launch("loading")
    server.eventually(server.socket.exists)
    with server.client() as kong:
        assert kong.start_instance("loading")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_stopped_server_is_replaced_at_once(launch: Callable[..., Launched], number: int) -> None:
    server = launch("faulty")
    server.ready()
    with server.client() as kong:
        instance = kong.start_instance("faulty", {"do": "nothing"})
        first = server.health()
        os.kill(first["pid"], number)
        with server.client() as next_request, contextlib.suppress(OSError):  # not refused, but perhaps cut
            assert next_request.handle_event(instance, "access") == []
    with server.client() as kong:
        # Else Kong would have to start it anew, and answers 500 if that fails, too.
        assert kong.handle_event(instance, "access") == []
        assert kong.start_instance("faulty", {"do": "nothing"}) != instance
    second = server.health()
    assert (second["restarts"], second["pid"] != first["pid"]) == (1, True)
    assert gone(first["pid"])


def test_each_instance_keeps_its_configuration_over_a_restart_and_closed_ones_stay_closed(
    launch: Callable[..., Launched],
) -> None:
    server = launch("faulty")
    server.ready()
    with server.client() as kong:
        nothing, calling, closed = (
            kong.start_instance("faulty", {"do": do}) for do in ("nothing", "two-calls", "nothing")
        )
        kong.call("CloseInstance", closed)
        for restarts in (1, 2):
            os.kill(server.health()["pid"], signal.SIGKILL)
            server.eventually(lambda n=restarts: server.health()["restarts"] == n)
    with server.client() as kong:
        assert kong.handle_event(nothing, "access") == []
        assert len(kong.handle_event(calling, "access")) == 2
        with pytest.raises(KongError, match=f"no plugin instance #{closed}"):
            kong.handle_event(closed, "access")


def test_a_hung_server_is_replaced(launch: Callable[..., Launched]) -> None:
    server = launch("hanging")
    server.ready()
    with server.client() as kong:
        instance = kong.start_instance("hanging")
        assert kong.handle_event(instance, "access") == []  # by the watchdog
    with server.client() as kong:
        assert kong.start_instance("hanging") != instance
    assert server.health()["restarts"] == 1


# A watchdog that answers calls however old they are. Kong gives one up after two seconds, and then an answer would be
# taken for the next call's: a busy machine takes longer from the first call to the last check of this test.
PATIENT = """
import sys
from tenantgate.kong import launcher, ledger
ledger._FRESH_S = 1e6
sys.exit(launcher.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("on_error", "expected"), [("pass", "ret"), ("reject", "kong.response.exit")])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_server_leaves_unanswered_is_answered_as_the_policy_says(
    launch: Callable[..., Launched], number: signal.Signals, on_error: str, expected: str
) -> None:
    server = launch("faulty", program=("-c", PATIENT))
    server.ready()
    with server.client() as kong:
        config = {"do": "wait-at-gate", "on_error": on_error, "deadline_ms": 60_000}
        first = kong.start_instance("faulty", config)
        second = kong.start_instance("faulty", config | {"do": "wait-at-gate-first"})
        at_work, at_kong, idle = kong.connect(), kong.connect(), kong.connect()
        at_work.sendall(packed(11, "HandleEvent", {"InstanceId": second, "EventName": "access"}))
        step = kong.call("HandleEvent", {"InstanceId": first, "EventName": "access"}, sock=at_kong)
        server.eventually(lambda: server.metric("tenantgate_connections") == 4)
        server.eventually(lambda: server.metric("tenantgate_events_in_progress") == 2)
        pid = server.health()["pid"]
        if number == signal.SIGKILL:  # what nobody reads any more
            os.kill(server.process.pid, signal.SIGSTOP)
            os.kill(pid, signal.SIGSTOP)
            server.eventually(lambda: stopped(server.process.pid) and stopped(pid))
        else:
            os.kill(pid, number)
        at_kong.sendall(packed(12, "Step", {"EventId": step["EventId"], "Data": None}))
        if number == signal.SIGKILL:
            os.kill(pid, signal.SIGKILL)
            os.kill(server.process.pid, signal.SIGCONT)
        for line, msgid in ((at_work, 11), (at_kong, 12)):
            reply = kong._receive(line)
            assert reply.msgid == msgid
            data = reply.result["Data"]
            assert (data if data == "ret" else data["Method"]) == expected
            assert line.recv(1) == b""  # and closed
            line.close()
        assert idle.recv(1) == b""
        idle.close()
        server.eventually(lambda: server.health()["restarts"] == 1)


def stopped(pid: int) -> bool:
    """Whether all threads of a process stand still; a signal is there before they are."""
    tasks = [
        task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return set(tasks) == {"T"}


def packed(msgid: int, method: str, argument: object) -> bytes:
    return pack_as_kong([0, msgid, f"plugin.{method}", [argument]])


def test_sigterm_ends_both_processes_and_removes_the_sockets(launch: Callable[..., Launched]) -> None:
    server = launch("faulty")
    server.ready()
    pid = server.health()["pid"]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    assert gone(pid)
    assert not [p for p in server.socket.parent.iterdir() if p.suffix == ".socket"]


def test_sigterm_lets_what_is_in_progress_end(launch: Callable[..., Launched]) -> None:
    server = launch("faulty")
    server.ready()
    with server.client() as kong:
        instance = kong.start_instance("faulty", {"do": "two-calls"})
        step = kong.call("HandleEvent", {"InstanceId": instance, "EventName": "access"})
        os.kill(server.health()["pid"], signal.SIGTERM)
        server.eventually(lambda: server.health()["reason"] == "stopping")
        step = kong.call("Step", {"EventId": step["EventId"]})
        assert kong.call("Step", {"EventId": step["EventId"]})["Data"] == "ret"


def test_a_connection_ends_with_the_last_answer_of_a_server_that_ends(
    launch: Callable[..., Launched],
) -> None:
    """Kong would use it again, and meet the end of the server."""
    server = launch("faulty")
    server.ready()
    with server.client() as kong, kong.connect() as used, kong.connect() as unused:
        kong.call("StartInstance", {"Name": "faulty", "Config": "{}"}, sock=unused)
        instance = kong.start_instance("faulty", {"do": "two-calls"})
        step = kong.call("HandleEvent", {"InstanceId": instance, "EventName": "access"}, sock=used)
        os.kill(server.health()["pid"], signal.SIGTERM)
        server.eventually(lambda: server.health()["reason"] == "stopping")
        step = kong.call("Step", {"EventId": step["EventId"]}, sock=used)
        assert kong.call("Step", {"EventId": step["EventId"]}, sock=used)["Data"] == "ret"
        assert used.recv(1) == b""
        assert unused.recv(1) == b""


def test_a_newer_server_keeps_the_path_that_it_took(launch: Callable[..., Launched]) -> None:
    old = launch("faulty")
    old.ready()
    new = launch("faulty", path=old.socket)
    new.eventually(lambda: new.health()["supervisor"] == new.process.pid)
    old.process.terminate()
    assert old.process.wait(10) == 0
    new.ready()
    with new.client() as kong:
        assert kong.start_instance("faulty")


def launch_beside(
    launch: Callable[..., Launched], monkeypatch: pytest.MonkeyPatch, go: Path
) -> tuple[Launched, Launched]:
    """A server, and a newer one for its path that is warm once the file `go` exists."""
    monkeypatch.setenv("WAITING_FOR", str(go))
    old = launch("faulty")
    old.ready()
    new = launch("waiting", path=old.socket)
    new.eventually(lambda: len(list(old.socket.parent.glob(".*"))) == 2)
    return old, new


def test_a_new_server_takes_the_path_once_it_is_warm(
    launch: Callable[..., Launched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = launch_beside(launch, monkeypatch, tmp_path / "go")
    with old.client() as kong:
        assert kong.start_instance("faulty")
    (tmp_path / "go").touch()
    new.eventually(lambda: new.health()["supervisor"] == new.process.pid)
    with new.client() as kong:
        assert kong.start_instance("waiting")


def test_a_new_server_takes_the_path_before_it_is_warm_where_nobody_serves_any_more(
    launch: Callable[..., Launched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = launch_beside(launch, monkeypatch, tmp_path / "go")
    serving = old.health()["pid"]
    old.process.kill()
    os.kill(serving, signal.SIGKILL)
    new.eventually(lambda: new.health()["supervisor"] == new.process.pid)
    (tmp_path / "go").touch()
    new.ready()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_told_to_end_serves_until_the_next_is_warm(
    launch: Callable[..., Launched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Kong tells it so with its worker, by SIGTERM and then SIGKILL, however long the next takes to start."""
    old, new = launch_beside(launch, monkeypatch, tmp_path / "go")
    serving = old.health()["pid"]
    old.process.send_signal(number)
    if number == signal.SIGKILL:
        old.process.wait(10)
        old.eventually(
            lambda: f"PPid:\t{old.process.pid}\n" not in Path(f"/proc/{serving}/status").read_text()
        )
    for _ in range(20):
        with old.client() as kong:
            instance = kong.start_instance("faulty", {"do": "two-calls"})
            assert len(kong.handle_event(instance, "access")) == 2
    assert old.health()["pid"] == serving
    (tmp_path / "go").touch()
    new.eventually(lambda: new.health()["supervisor"] == new.process.pid)
    with new.client() as kong:
        assert kong.start_instance("waiting")
    new.eventually(lambda: gone(serving))
    assert old.process.wait(10) == (0 if number == signal.SIGTERM else -number)


WORKER = """
import ctypes, subprocess, sys
ctypes.CDLL(None).prctl(15, b"nginx", 0, 0, 0)  # PR_SET_NAME
print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL).pid, flush=True)
sys.stdin.read()
"""


def test_an_old_worker_of_nginx_may_end_before_the_next_server_listens(
    launch: Callable[..., Launched], tmp_path: Path
) -> None:
    path = tmp_path / "s.socket"
    server = ["-m", "tenantgate.kong.launcher", "--plugin", str(PLUGINS / "faulty.py"), "--socket", str(path)]
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, sys.executable, *server],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert worker.stdout
    watchdog = int(worker.stdout.readline())
    new = launch("closing")  # for its `eventually`, until there is one for the path
    new.eventually(path.exists)
    with KongClient(path) as kong:
        kong.start_instance("faulty")
    (serving,) = Path(f"/proc/{watchdog}/task/{watchdog}/children").read_text().split()
    os.kill(watchdog, signal.SIGTERM)
    os.kill(watchdog, signal.SIGKILL)
    worker.kill()
    worker.communicate()
    new.eventually(lambda: gone(watchdog))
    for _ in range(20):
        with KongClient(path) as kong:
            assert kong.start_instance("faulty")
    new = launch("faulty", path=path)
    new.eventually(lambda: new.health()["supervisor"] == new.process.pid)
    new.ready()
    new.eventually(lambda: gone(int(serving)))


def test_all_ends_with_the_process_that_started_it(tmp_path: Path, launch: Callable[..., Launched]) -> None:
    path = tmp_path / "s.socket"
    command = [
        sys.executable,
        "-m",
        "tenantgate.kong.launcher",
        "--plugin",
        str(PLUGINS / "faulty.py"),
        "--socket",
        str(path),
    ]
    script = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); sys.stdin.read()"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert parent.stdout
    supervisor = int(parent.stdout.readline())
    helper = launch("closing")  # for its `eventually` and a look that all is up
    helper.eventually(path.exists)
    with KongClient(path) as kong:
        kong.start_instance("faulty")
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    parent.kill()
    parent.communicate()
    helper.eventually(lambda: gone(supervisor) and all(gone(int(pid)) for pid in children))
    assert not path.exists()


def test_a_killed_supervisor_takes_the_server_along(launch: Callable[..., Launched]) -> None:
    server = launch("faulty")
    server.ready()
    pid = server.health()["pid"]
    server.process.kill()
    server.process.wait(10)
    server.eventually(lambda: gone(pid))


def test_in_a_crash_loop_nobody_waits(launch: Callable[..., Launched]) -> None:
    server = launch("crashing")
    server.eventually(server.socket.exists)
    server.eventually(lambda: server.logged().count("starting another") >= 3)
    for _ in range(3):
        with server.client() as kong, pytest.raises((ConnectionResetError, BrokenPipeError)):
            kong.start_instance("crashing")


def test_instances_share_an_object_until_the_last_is_closed(launch: Callable[..., Launched]) -> None:
    server = launch("closing", "--no-supervise")
    server.ready()
    with server.client() as kong:
        one = kong.start_instance("closing", {"a": 1, "__seq__": 1})
        two = kong.start_instance("closing", {"a": 1, "__seq__": 2})
        other = kong.start_instance("closing", {"a": 2})
        assert len({one, two, other}) == 3
        assert kong.handle_event(other, "access")[0][2] == "2 0 True"
        assert kong.call("CloseInstance", one)["Id"] == one
        assert kong.handle_event(two, "access")[0][2] == "2 0 True"
        kong.call("CloseInstance", two)
        assert kong.handle_event(other, "access")[0][2] == "2 1 True"
        with pytest.raises(KongError, match="no plugin instance"):
            kong.handle_event(two, "access")


@pytest.mark.parametrize(("options", "mode"), [((), 0o600), (("--socket-mode", "660"), 0o660)])
def test_the_sockets_are_the_owners_unless_the_group_is_let_in(
    launch: Callable[..., Launched], options: tuple[str, ...], mode: int
) -> None:
    server = launch("well-behaved", *options)
    server.ready()
    for path in (server.socket, server.socket.with_name(f"{server.socket.stem}.metrics.socket")):
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_of_the_machine_is_refused(launch: Callable[..., Launched]) -> None:
    server = launch("well-behaved")
    server.ready()
    server.socket.parent.chmod(0o755)
    paths = server.socket, server.socket.with_name(f"{server.socket.stem}.metrics.socket")
    os.seteuid(65534)
    try:
        for path in paths:
            with socket.socket(socket.AF_UNIX) as other, pytest.raises(PermissionError):
                other.connect(str(path))
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", ["666", "777", "0", "rw", "600x"])
def test_sockets_for_everybody_are_refused(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        launcher.main(["--plugin", "p.py", "--socket", "s", "--socket-mode", mode])
    assert "must be 600 or 660" in capsys.readouterr().err


def test_health_pages(faulty: Launched) -> None:
    status, body = faulty.http("/healthz")
    assert status == 200
    assert json.loads(body)["plugin"] == "faulty"
    assert faulty.http("/readyz")[0] == 200
    assert faulty.http("/nothing")[0] == 404
    status, body = faulty.http("/metrics")
    assert status == 200
    assert "# TYPE tenantgate_events_total counter" in body
    assert "tenantgate_ready 1" in body.splitlines()
    asked = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"  # as Prometheus does
    _, body = faulty.http("/metrics", asked)
    assert "# TYPE tenantgate_events counter" in body
    assert body.endswith("\n# EOF\n")


@pytest.mark.parametrize("options", [(), ("--no-supervise",)])
def test_a_plugin_ends_its_work_when_the_server_is_stopped(
    launch: Callable[..., Launched], options: tuple[str, ...]
) -> None:
    server = launch("closing", *options)
    server.ready()
    server.process.terminate()
    assert server.process.wait(10) == 0
    assert server.logged().count("stopped in order") == 1

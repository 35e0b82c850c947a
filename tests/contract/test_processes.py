"""Several processes serve one plugin: what one knows the others know, and none is missed for long."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tenantgate.kong import launcher
from tenantgate.kong.testing import KongClient, KongError
from tenantgate.kong.wire import pack_as_kong

from .conftest import Launched, launching

Lines = dict[int, socket.socket]


@pytest.fixture(scope="module")
def two() -> Iterator[Launched]:
    with launching() as launch:
        yield started(launch)


def started(launch: Callable[..., Launched], plugin: str = "faulty") -> Launched:
    server = launch(plugin, "--processes", "2")
    server.eventually(lambda: len(server.pids()) == 2)
    return server


def process_of(kong: KongClient, teller: int, sock: socket.socket) -> int:
    """Which process answers on a connection."""
    step = kong.call("HandleEvent", {"InstanceId": teller, "EventName": "access"}, sock=sock)
    assert kong.call("Step", {"EventId": step["EventId"]}, sock=sock)["Data"] == "ret"
    return int(step["Data"]["Args"][1])


@contextlib.contextmanager
def lines(server: Launched, kong: KongClient) -> Iterator[tuple[Lines, int]]:
    """A connection to each process, and the instance that tells which process runs it."""
    with contextlib.ExitStack() as stack:
        teller = kong.start_instance("faulty", {"do": "tell-process"})
        found: Lines = {}

        def both() -> bool:
            sock = stack.enter_context(kong.connect())
            found.setdefault(process_of(kong, teller, sock), sock)
            return len(found) == 2

        server.eventually(both)
        yield found, teller


def begin(kong: KongClient, instance: int, sock: socket.socket) -> Any:
    return kong.call("HandleEvent", {"InstanceId": instance, "EventName": "access"}, sock=sock)


def packed(msgid: int, method: str, argument: object) -> bytes:
    return pack_as_kong([0, msgid, f"plugin.{method}", [argument]])


def test_kong_s_worker_learns_whether_an_instance_is_known(two: Launched) -> None:
    with two.client() as kong:
        known = kong.start_instance("faulty", {"do": "nothing"})
        assert [kong.call("HasInstance", known) for _ in range(4)] == [True] * 4
        for number, answer in ((known, b"\xc3"), (known ^ 8, b"\xc2")):  # as start.lua packs and reads it
            with kong.connect() as sock:
                sock.sendall(b"\x94\0\1\xb2plugin.HasInstance\x91\xce" + number.to_bytes(4, "big"))
                assert sock.recv(5) == b"\x94\1\1\xc0" + answer


def test_an_instance_is_known_to_both_from_the_start_until_it_is_closed_in_either(two: Launched) -> None:
    with two.client() as kong, lines(two, kong) as (found, _):
        one, other = found.values()
        ids = []
        for sock, beside in ((one, other), (other, one)):
            argument = {"Name": "faulty", "Config": '{"do": "two-calls"}'}
            number = kong.call("StartInstance", argument, sock=sock)["Id"]
            step = begin(kong, number, beside)
            assert step["Data"]["Method"] == "kong.request.get_method"
            ids.append(number)
            step = kong.call("Step", {"EventId": step["EventId"], "Data": "GET"}, sock=beside)
            assert kong.call("Step", {"EventId": step["EventId"]}, sock=beside)["Data"] == "ret"
        assert len(set(ids)) == 2
        for number, beside in zip(ids, (other, one), strict=True):
            assert kong.call("CloseInstance", number, sock=beside)["Id"] == number
        for number in ids:
            for sock in (one, other):
                two.eventually(lambda n=number, s=sock: refused(kong, n, s))


def refused(kong: KongClient, instance: int, sock: socket.socket) -> bool:
    try:
        step = begin(kong, instance, sock)
    except KongError as error:
        return f"no plugin instance #{instance}" in str(error)
    for _ in range(2):
        step = kong.call("Step", {"EventId": step["EventId"], "Data": "GET"}, sock=sock)
    return False


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_a_step_finds_its_event_over_any_connection(two: Launched, size: int) -> None:
    before = two.metric('tenantgate_passed_calls_total{call="step"}')
    with two.client() as kong, lines(two, kong) as (found, teller):
        one, other = found.values()
        echo = kong.start_instance("faulty", {"do": "big", "deadline_ms": 8000})
        step = begin(kong, echo, one)
        # The first connection is in Kong's pool meanwhile, and other requests use it.
        owner = process_of(kong, teller, one)
        assert owner != process_of(kong, teller, other)
        body = os.urandom(size)
        step = kong.call("Step", {"EventId": step["EventId"], "Data": body}, sock=other)
        assert step["Data"]["Args"] == [body]
        assert process_of(kong, teller, other) == owner  # the connection has gone to the event
        assert kong.call("Step", {"EventId": step["EventId"]}, sock=one)["Data"] == "ret"
    assert two.metric('tenantgate_passed_calls_total{call="step"}') == before + 1


def test_many_requests_whose_calls_go_over_each_other_s_connections(two: Launched) -> None:
    with two.client() as kong, lines(two, kong) as (found, _), contextlib.ExitStack() as stack:
        calling = kong.start_instance("faulty", {"do": "echo", "deadline_ms": 8000})
        pool = [*found.values(), *(stack.enter_context(kong.connect()) for _ in range(62))]
        events = [begin(kong, calling, sock)["EventId"] for sock in pool[:16]]
        for shift in range(1, 4):
            for at, event in enumerate(events):
                text = f"{shift} {at}"
                step = kong.call("Step", {"EventId": event, "Data": text}, sock=pool[(at + 17 * shift) % 64])
                assert step["Data"]["Args"] == ["x-echo", text]
                sock = pool[(at + 31 * shift) % 64]
                assert kong.call("Step", {"EventId": event}, sock=sock)["Data"] == "ret"
                events[at] = begin(kong, calling, sock)["EventId"]
        for at, event in enumerate(events):
            kong.call("Step", {"EventId": event, "Data": ""}, sock=pool[at])
            assert kong.call("Step", {"EventId": event}, sock=pool[at])["Data"] == "ret"


def test_an_event_goes_to_the_process_that_has_less_to_do(two: Launched) -> None:
    with two.client() as kong, lines(two, kong) as (found, teller):
        (busy, _), (idle, _) = found.items()
        hard = kong.start_instance("faulty", {"do": "work-hard", "deadline_ms": 8000})
        waiting = kong.start_instance("faulty", {"do": "wait-at-gate", "deadline_ms": 9000})

        def goes_over() -> bool:
            with kong.connect() as at_work, kong.connect() as line:
                if process_of(kong, teller, at_work) != busy or process_of(kong, teller, line) != busy:
                    return False
                for _ in range(8):  # it learns what an event takes
                    assert begin(kong, hard, line)["Data"] == "ret"
                step = begin(kong, waiting, at_work)
                at_work.sendall(packed(7, "Step", {"EventId": step["EventId"], "Data": None}))
                try:
                    return process_of(kong, teller, line) == idle
                finally:
                    opener = kong.start_instance("faulty", {"do": "open-gate-at-start"})
                    KongClient._receive(at_work)
                    kong.call("Step", {"EventId": step["EventId"]}, sock=at_work)
                    kong.call("CloseInstance", opener)

        two.eventually(goes_over)
    assert two.metric('tenantgate_passed_calls_total{call="event"}') >= 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_while_one_is_replaced_the_other_serves_and_nothing_but_what_it_held_is_lost(
    launch: Callable[..., Launched], number: signal.Signals
) -> None:
    server = started(launch)
    with server.client() as kong, lines(server, kong) as (found, _):
        calling = kong.start_instance("faulty", {"do": "two-calls", "on_error": "reject"})
        victim, survivor = found
        held = begin(kong, calling, found[victim])["EventId"]  # Kong carries out its call
        ended: Counter[str] = Counter()
        half = threading.Barrier(5)

        def requests() -> None:
            with server.client() as own:
                for count in range(60):
                    if count == 20:
                        half.wait()
                    try:
                        calls = own.handle_event(calling, "access")
                    except OSError:
                        ended["cut"] += 1  # sent as the connection closed: Kong goes on without the plugin
                    else:
                        ended[calls[-1][0]] += 1

        threads = [threading.Thread(target=requests) for _ in range(4)]
        for thread in threads:
            thread.start()
        half.wait()
        os.kill(victim, number)
        for thread in threads:
            thread.join()
        assert ended["cut"] <= 4
        assert ended["kong.response.exit"] <= 8
        assert ended["kong.response.set_header"] >= 240 - 12
        # Its step comes over another connection, since its own has closed.
        answer = kong.call("Step", {"EventId": held, "Data": "GET"}, sock=found[survivor])
        assert answer["Data"]["Method"] == "kong.response.exit"
        server.eventually(lambda: len(server.pids()) == 2)
        assert survivor in server.pids()
        assert victim not in server.pids()
        # The new one knows the instance, too.
        for _ in range(8):
            with kong.connect() as sock:
                assert begin(kong, calling, sock)["Data"]["Method"] == "kong.request.get_method"


def test_counters_are_everybody_s_and_outlive_a_process(launch: Callable[..., Launched]) -> None:
    server = started(launch)
    series = 'tenantgate_events_total{phase="access",outcome="returned"}'
    with server.client() as kong, lines(server, kong) as (found, teller):
        for sock in found.values():
            for _ in range(10):
                process_of(kong, teller, sock)
        timed = 'tenantgate_event_seconds_count{phase="access"}'
        # An event is counted after its answer.
        server.eventually(lambda: server.metric(series) == server.metric(timed))
        counted = server.metric(series)
        assert counted >= 20
        assert server.metric("tenantgate_connections") >= 2
        os.kill(next(iter(found)), signal.SIGKILL)
        server.eventually(lambda: len(server.pids()) == 2)
        assert server.metric(series) == counted
        assert server.http("/readyz")[0] == 200


def test_sigterm_lets_what_is_in_progress_end_in_both(launch: Callable[..., Launched]) -> None:
    server = started(launch)
    with server.client() as kong, lines(server, kong) as (found, _):
        calling = kong.start_instance("faulty", {"do": "two-calls"})
        events = [(sock, begin(kong, calling, sock)["EventId"]) for sock in found.values()]
        server.process.send_signal(signal.SIGTERM)
        for sock, event in events:
            kong.call("Step", {"EventId": event, "Data": "GET"}, sock=sock)
            assert kong.call("Step", {"EventId": event}, sock=sock)["Data"] == "ret"
        assert server.process.wait(10) == 0
        assert not [p for p in server.socket.parent.iterdir() if p.suffix == ".socket"]


def test_a_new_server_takes_over_from_two_processes(launch: Callable[..., Launched]) -> None:
    old = started(launch)
    new = launch("faulty", "--processes", "2", path=old.socket)
    new.eventually(lambda: new.health()["supervisor"] == new.process.pid)
    with new.client() as kong:
        assert kong.handle_event(kong.start_instance("faulty", {"do": "nothing"}), "access") == []


@pytest.mark.parametrize("number", ["0", "9", "-1", "many", "1.5"])
def test_numbers_of_processes_that_make_no_sense_are_refused(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        launcher.main(["--plugin", "p.py", "--socket", "s", "--processes", number])
    assert "must be auto or 1 to 8" in capsys.readouterr().err

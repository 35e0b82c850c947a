"""Whatever a phase does, Kong gets an answer, and the server lives on."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tenantgate.kong.testing import KongClient, KongError

if TYPE_CHECKING:
    from .conftest import Launched

REJECTED = [("kong.response.exit", 503)]


def run(
    kong: KongClient, do: str, pdk: dict[str, Any] | None = None, phase: str = "access", **config: Any
) -> Any:
    return kong.handle_event(kong.start_instance("faulty", {"do": do, **config}), phase, pdk)


def names(calls: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [call[:2] if call[0] == "kong.response.exit" else call[:1] for call in calls]


@pytest.mark.parametrize(
    ("do", "passing"),
    [
        ("raise-first", []),
        ("raise-later", [("kong.request.get_method",)]),
        ("exit-process", []),
        ("unpackable", []),
        ("no-such-method", []),
    ],
)
def test_an_exception_follows_on_error(kong: KongClient, do: str, passing: list[Any]) -> None:
    assert names(run(kong, do)) == passing
    assert names(run(kong, do, on_error="reject")) == passing + REJECTED
    # In log nobody can be answered.
    assert names(run(kong, do, phase="log", on_error="reject")) == passing


def test_the_503_has_the_shape_that_clients_of_openai_expect(kong: KongClient) -> None:
    ((_, status, body, headers),) = run(kong, "raise-first", on_error="reject")
    assert (status, headers) == (503, {"content-type": "application/json"})
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("do", "calls"),
    [
        ("nothing", []),
        ("return-something", []),
        ("exit-first", [("kong.response.exit", 403, "no")]),
        ("error-first", [("kong.response.error", 403)]),
        ("calls-after-exit", [("kong.response.exit", 200, "whole")]),
        # Lua would take a nil body for the end of the arguments and drop the headers.
        ("exit-without-body", [("kong.response.exit", 403, "", {"x-why": "policy"})]),
    ],
)
def test_a_phase_ends_once(kong: KongClient, do: str, calls: list[Any]) -> None:
    assert run(kong, do) == calls


@pytest.mark.parametrize(
    "value", ["plain", "é\u20ac", b"\xff\xfe\x80 raw".decode("utf-8", "surrogateescape"), "", "x" * 5000]
)
def test_texts_survive_byte_by_byte(kong: KongClient, value: str) -> None:
    assert run(kong, "echo", {"kong.request.get_header": value})[-1] == (
        "kong.response.set_header",
        "x-echo",
        value,
    )
    found = run(kong, "headers", {"kong.request.get_headers": {"x-in": [value, "b"], "x-none": []}})
    assert found[-1] == ("kong.response.set_headers", {"x-in": [value, "b"], "x-none": []})


def test_messages_of_megabytes_pass_both_ways(kong: KongClient) -> None:
    body = os.urandom(3_000_000)
    (_, (_, sent)) = run(kong, "big", {"kong.request.get_raw_body": body})
    assert sent == body


def test_a_slow_reader_holds_nobody_up(faulty: Launched) -> None:
    with faulty.client() as slow, faulty.client() as other:
        instance = slow.start_instance("faulty", {"do": "big", "deadline_ms": 8000})
        sock = slow.connect()
        step = slow.call("HandleEvent", {"InstanceId": instance, "EventName": "access"}, sock=sock)
        body = os.urandom(3_000_000)
        answers: list[Any] = []

        def read_late() -> None:
            answers.append(slow.call("Step", {"EventId": step["EventId"], "Data": body}, sock=sock))

        # The answer of 3 MB is written while nobody reads: the socket takes a part of it only.
        slow_read = slow._receive
        gate = threading.Event()
        slow._receive = lambda line: gate.wait(8) and slow_read(line)  # type: ignore[method-assign,assignment]
        thread = threading.Thread(target=read_late)
        thread.start()
        for _ in range(20):
            assert run(other, "nothing") == []
        gate.set()
        thread.join()
        assert answers[0]["Data"]["Args"] == [body]
        assert slow.call("Step", {"EventId": step["EventId"]})["Data"] == "ret"


def test_steps_may_come_on_other_connections(kong: KongClient) -> None:
    instance = kong.start_instance("faulty", {"do": "two-calls"})
    socks = [kong.connect() for _ in range(3)]
    try:
        step = kong.call("HandleEvent", {"InstanceId": instance, "EventName": "access"}, sock=socks[0])
        event = step["EventId"]
        # The first connection is back in Kong's pool, and another request uses it meanwhile.
        other = kong.call("HandleEvent", {"InstanceId": instance, "EventName": "access"}, sock=socks[0])
        step = kong.call("Step", {"EventId": event, "Data": "GET"}, sock=socks[1])
        assert step["Data"]["Method"] == "kong.response.set_header"
        socks[1].close()
        assert kong.call("Step", {"EventId": event}, sock=socks[2])["Data"] == "ret"
        step = kong.call("Step", {"EventId": other["EventId"], "Data": "GET"}, sock=socks[2])
        assert kong.call("Step", {"EventId": other["EventId"]}, sock=socks[0])["Data"] == "ret"
    finally:
        for sock in socks:
            sock.close()


@pytest.mark.parametrize("faulty", ["1"], indirect=True)  # what it holds is one process's
@pytest.mark.parametrize("waiting", ["wait-at-gate", "wait-at-gate-first"])
def test_a_slow_phase_does_not_serialise_others(faulty: Launched, waiting: str) -> None:
    with faulty.client() as one, faulty.client() as two:
        run(two, "close-gate")
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.extend(run(one, waiting, deadline_ms=9000)))
        thread.start()
        # If this waited behind the slow phase, the gate would stay closed until its time-out.
        run(two, "open-gate")
        thread.join()
        assert answers[-1] == ("kong.response.set_header", "x-open", "True")


@pytest.mark.parametrize(("on_error", "calls"), [("pass", []), ("reject", REJECTED)])
def test_an_overrun_is_answered_at_the_deadline(kong: KongClient, on_error: str, calls: list[Any]) -> None:
    assert names(run(kong, "block", deadline_ms=30, on_error=on_error)) == calls


def test_a_step_after_the_deadline_gets_the_last_answer(kong: KongClient) -> None:
    for on_error, last in (("pass", "ret"), ("reject", "kong.response.exit")):
        instance = kong.start_instance("faulty", {"do": "two-calls", "deadline_ms": 20, "on_error": on_error})
        step = kong.call("HandleEvent", {"InstanceId": instance, "EventName": "access"})
        # Kong is slow with the PDK call: longer than the deadline, which another event marks here.
        run(kong, "block", deadline_ms=60)
        data = kong.call("Step", {"EventId": step["EventId"], "Data": "GET"})["Data"]
        assert (data if data == "ret" else data["Method"]) == last
        with pytest.raises(KongError, match=f"event id {step['EventId']} not found"):
            kong.call("Step", {"EventId": step["EventId"], "Data": "GET"})


def test_no_content_gets_into_the_log(faulty: Launched, kong: KongClient) -> None:
    run(kong, "raise-first")
    lines = [json.loads(line) for line in faulty.logged().splitlines()]
    (found,) = [x for x in lines if x.get("error") == "ValueError"][-1:]
    assert found["at"].startswith("faulty.py:")
    assert {"ts", "level", "logger", "plugin", "event"} <= set(found)
    assert "secret text" not in faulty.logged()


@pytest.mark.parametrize(
    ("method", "argument", "error"),
    [
        ("HandleEvent", {"InstanceId": 3, "EventName": "access"}, "no plugin instance #3"),
        ("HandleEvent", {"InstanceId": None, "EventName": "access"}, "no plugin instance"),
        ("HandleEvent", [], "no plugin instance"),
        ("CloseInstance", 4, "no plugin instance #4"),
        ("Step", {"EventId": 5, "Data": 1}, "event id 5 not found"),
        ("StepMultiMap", None, "event id"),
        ("StartInstance", {"Name": "other", "Config": "{}"}, "faulty only"),
        ("StartInstance", {"Name": "faulty", "Config": "{"}, "not JSON"),
        ("StartInstance", {"Name": "faulty", "Config": '{"do":"bad-start"}'}, "ValueError"),
        ("StartInstance", None, "takes"),
        ("NoSuchMethod", {}, "unknown method"),
    ],
)
def test_wrong_calls_get_errors(kong: KongClient, method: str, argument: Any, error: str) -> None:
    with pytest.raises(KongError, match=error):
        kong.call(method, argument)
    assert run(kong, "nothing") == []


def test_an_unknown_phase_is_an_error(kong: KongClient) -> None:
    instance = kong.start_instance("faulty")
    for phase in ("preread", "__init__", "do_nothing", None, 7):
        with pytest.raises(KongError, match="unknown phase"):
            kong.call("HandleEvent", {"InstanceId": instance, "EventName": phase})


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xc1\xc1\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x91" * 5000,
        b"\x93\x01\x02\x03",
        b"\x94\x01\x01\xc0\xc0",
        b"\x07",
    ],
)
def test_garbage_costs_its_connection_only(kong: KongClient, garbage: bytes) -> None:
    with kong.connect() as sock:
        sock.sendall(garbage)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""
    assert run(kong, "nothing") == []


@pytest.mark.parametrize("faulty", ["1"], indirect=True)  # what it holds is one process's
def test_nothing_stays_behind(faulty: Launched) -> None:
    """2,000 events of all kinds of trouble: as many threads and descriptors as before."""

    def counts() -> tuple[int, int]:
        proc = Path(f"/proc/{pid}")
        return len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir()))

    pid = faulty.health()["pid"]
    kinds = [
        "raise-first",
        "raise-later",
        "exit-first",
        "calls-after-exit",
        "unpackable",
        "exit-process",
        "error-first",
    ]
    with faulty.client() as kong:
        ids = [
            kong.start_instance("faulty", {"do": kind, "on_error": e})
            for kind in kinds
            for e in ("pass", "reject")
        ]
        dropped = kong.start_instance("faulty", {"do": "two-calls", "deadline_ms": 50})

        def trouble(rounds: int) -> None:
            for _ in range(rounds):
                for instance in ids:
                    kong.handle_event(instance, "access")
                with kong.connect() as sock:  # Kong's worker dies in the middle
                    kong.call("HandleEvent", {"InstanceId": dropped, "EventName": "access"}, sock=sock)

        trouble(1)
        before = counts()
        trouble(2000 // (len(ids) + 1))
        run(kong, "block", deadline_ms=100)
        series = 'tenantgate_events_total{phase="access",outcome="late"}'
        faulty.eventually(lambda: faulty.metric("tenantgate_events_in_progress") == 0)
        faulty.eventually(lambda: faulty.metric(series) >= 2000 // (len(ids) + 1))
    faulty.eventually(lambda: counts() <= before and counts()[1] <= before[1])

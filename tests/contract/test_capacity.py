"""Overload and stuck threads: back-pressure, replacement, and giving up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tenantgate.kong.testing import KongClient
from tenantgate.kong.wire import pack_as_kong

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Launched


def held(kong: KongClient, instance: int, phase: str = "access") -> tuple[Any, Any]:
    """An event that waits for Kong in its first PDK call; its id and connection."""
    sock = kong.connect()
    return kong.call("HandleEvent", {"InstanceId": instance, "EventName": phase}, sock=sock)["EventId"], sock


def blocked(kong: KongClient, instance: int, phase: str = "access") -> Any:
    """An event that works until the gate is opened, hence holds a worker; its connection."""
    event, sock = held(kong, instance, phase)
    sock.sendall(pack_as_kong([0, 7, "plugin.Step", [{"EventId": event, "Data": None}]]))
    return sock


def test_a_full_queue_answers_at_once_by_on_error(launch: Callable[..., Launched]) -> None:
    server = launch("faulty", "--workers", "2", "--queue", "1", "--deadline-ms", "9000")
    server.ready()
    with server.client() as kong:
        instance = kong.start_instance("faulty", {"do": "wait-at-gate", "deadline_ms": 9000})
        rejecting = kong.start_instance(
            "faulty", {"do": "nothing", "on_error": "reject", "deadline_ms": 9000}
        )
        passing = kong.start_instance("faulty", {"do": "nothing", "deadline_ms": 9000})
        holding = [blocked(kong, instance) for _ in range(2)]

        queued: list[Any] = []

        def queue_one() -> None:
            with server.client() as other:
                queued.append(other.handle_event(passing, "access"))

        thread = threading.Thread(target=queue_one)
        thread.start()
        server.eventually(lambda: server.metric("tenantgate_events_waiting") == 1)
        assert server.http("/readyz")[0] == 503
        assert kong.handle_event(rejecting, "access")[0][:2] == ("kong.response.exit", 503)
        assert kong.handle_event(passing, "access") == []
        overload = 'tenantgate_events_total{phase="access",outcome="overload"}'
        server.eventually(lambda: server.metric(overload) == 2)  # counted after the answer is sent
        # A new instance does not wait behind events: without one Kong would answer 500.
        assert kong.start_instance("faulty", {"do": "nothing"})

        assert kong.start_instance("faulty", {"do": "open-gate-at-start"})
        thread.join()
        for sock in holding:
            sock.close()
        assert queued == [[]]
        server.ready()


def test_log_events_leave_room_for_requests(launch: Callable[..., Launched]) -> None:
    server = launch("faulty", "--workers", "4")
    server.ready()
    with server.client() as kong:
        instance = kong.start_instance("faulty", {"do": "two-calls"})
        nothing = kong.start_instance("faulty", {"do": "nothing"})
        holder = blocked(kong, kong.start_instance("faulty", {"do": "wait-at-gate"}), "log")
        answers: list[Any] = []

        def log_one() -> None:
            with server.client() as other:
                answers.append(other.handle_event(instance, "log"))

        threads = [threading.Thread(target=log_one) for _ in range(6)]
        for thread in threads:
            thread.start()
        server.eventually(lambda: server.metric("tenantgate_events_waiting") == 6)
        assert kong.handle_event(nothing, "access") == []
        assert kong.handle_event(instance, "access")[0] == ("kong.request.get_method",)
        assert not answers
        assert kong.start_instance("faulty", {"do": "open-gate-at-start"})
        for thread in threads:
            thread.join()
        holder.close()
        assert len(answers) == 6


def test_requests_whose_clients_are_slow_hold_no_worker(launch: Callable[..., Launched]) -> None:
    """Kong answers `get_raw_body` when the client has sent the body, if ever."""
    server = launch("faulty", "--workers", "2", "--deadline-ms", "9000")
    server.ready()
    with server.client() as kong:
        slow = kong.start_instance("faulty", {"do": "two-calls", "deadline_ms": 9000})
        other = kong.start_instance("faulty", {"do": "two-calls"})
        holding = [held(kong, slow) for _ in range(6)]
        assert len(kong.handle_event(other, "access")) == 2
        for event, sock in holding:
            kong.call("Step", {"EventId": event}, sock=sock)
            assert kong.call("Step", {"EventId": event}, sock=sock)["Data"] == "ret"
            sock.close()


@pytest.mark.slow
def test_phases_that_wait_for_others_hold_no_worker(launch: Callable[..., Launched]) -> None:
    server = launch("faulty", "--workers", "2", "--deadline-ms", "9000")
    server.ready()
    with server.client() as kong:
        waits = kong.start_instance("faulty", {"do": "wait-aside", "deadline_ms": 9000})
        other = kong.start_instance("faulty", {"do": "two-calls"})
        waiting = [held(kong, waits) for _ in range(3)]
        for event, sock in waiting:
            sock.sendall(pack_as_kong([0, 7, "plugin.Step", [{"EventId": event, "Data": None}]]))
        for _ in range(5):
            assert len(kong.handle_event(other, "access")) == 2
        reads = how_much(kong)
        server.eventually(lambda: kong.handle_event(reads, "access")[0][2] == "3")
        assert len(kong.handle_event(waits, "access")) == 2, "there is no room, so it doesn't wait"
        server.eventually(lambda: server.metric("tenantgate_events_in_progress") == 3)
        assert kong.start_instance("faulty", {"do": "open-gate-at-start"})
        for _, sock in waiting:
            sock.close()
        server.eventually(lambda: server.metric("tenantgate_events_in_progress") == 0)
        assert len(kong.handle_event(other, "access")) == 2


def test_when_too_many_wait_the_tenant_with_most_of_them_pays(launch: Callable[..., Launched]) -> None:
    server = launch("faulty", "--workers", "1", "--deadline-ms", "9000")
    server.ready()
    with server.client() as kong:
        of = {
            tenant: kong.start_instance(
                "faulty", {"do": "two-calls", "deadline_ms": 9000, "on_error": "reject", "of": tenant}
            )
            for tenant in ("hostile", "other")
        }
        other = held(kong, of["other"])
        hostile = [held(kong, of["hostile"]) for _ in range(4)]
        overload = 'tenantgate_events_total{phase="access",outcome="overload"}'
        server.eventually(lambda: server.metric(overload) == 2)
        ends = [kong.call("Step", {"EventId": e}, sock=s)["Data"] for e, s in (other, *hostile)]
        assert [end["Method"] for end in ends[:3]] == ["kong.response.set_header"] * 3
        assert [(end["Method"], end["Args"][0]) for end in ends[3:]] == [("kong.response.exit", 503)] * 2
        for _, sock in (other, *hostile):
            sock.close()


def test_work_ends_when_its_request_has_its_answer(launch: Callable[..., Launched]) -> None:
    server = launch("faulty", "--workers", "2")
    server.ready()
    with server.client() as kong:
        works = kong.start_instance("faulty", {"do": "work", "deadline_ms": 100, "on_error": "reject"})
        assert kong.handle_event(works, "access")[-1][:2] == ("kong.response.exit", 503)
        reads = how_much(kong)
        server.eventually(lambda: kong.handle_event(reads, "access") == kong.handle_event(reads, "access"))
        assert server.metric("tenantgate_replaced_threads_total") == 0


def test_a_tenant_whose_phases_work_leaves_room_for_others(launch: Callable[..., Launched]) -> None:
    """All phases of the one spin until their deadline; the other's are answered while they do."""
    server = launch("faulty", "--workers", "2")
    server.ready()
    with server.client() as kong:
        works = kong.start_instance("faulty", {"do": "work", "deadline_ms": 8000})
        quick = kong.start_instance("faulty", {"do": "two-calls", "deadline_ms": 8000})
        hostile = []
        for _ in range(5):
            event, sock = held(kong, works)  # closed below: nobody reads the answers
            step = {"EventId": event, "Data": {"custom_id": "hostile"}}
            sock.sendall(pack_as_kong([0, 7, "plugin.StepConsumer", [step]]))
            hostile.append(sock)
        reads = how_much(kong)
        server.eventually(lambda: kong.handle_event(reads, "access")[0][2] != "0")
        for _ in range(5):
            assert len(kong.handle_event(quick, "access")) == 2
        server.eventually(lambda: server.metric("tenantgate_events_in_progress") == 5)
        for sock in hostile:
            sock.close()


def how_much(kong: KongClient) -> int:
    return kong.start_instance("faulty", {"do": "how-much"})


def test_a_thread_stuck_in_python_is_interrupted_and_replaced(launch: Callable[..., Launched]) -> None:
    server = launch("faulty", "--workers", "2", "--deadline-ms", "1500")
    server.ready()
    with server.client() as kong:
        for do in ("spin", "spin-catching-all"):
            instance = kong.start_instance("faulty", {"do": do, "deadline_ms": 50})
            sock = kong.connect()
            step = kong.call("HandleEvent", {"InstanceId": instance, "EventName": "access"}, sock=sock)
            sock.close()
            assert step["Data"] == "ret" or step["Data"]["Method"] == "kong.request.get_method"
        server.eventually(lambda: server.metric("tenantgate_replaced_threads_total") >= 1)
        server.eventually(lambda: server.metric("tenantgate_stuck_threads") == 0)
        assert server.metric('tenantgate_cpu_after_answer_seconds_total{phase="access"}') > 0
        server.ready()
        assert kong.handle_event(kong.start_instance("faulty"), "access") == []
        assert server.health()["restarts"] == 0


def test_too_many_stuck_threads_end_the_process_and_the_next_one_serves(
    launch: Callable[..., Launched],
) -> None:
    server = launch("faulty", "--workers", "1")
    server.ready()
    with server.client() as kong:
        instance = kong.start_instance("faulty", {"do": "block-for-long", "deadline_ms": 50})
        assert kong.handle_event(instance, "access") == []
        server.eventually(lambda: server.health()["restarts"] == 1)
    with server.client() as kong:
        assert kong.handle_event(kong.start_instance("faulty"), "access") == []
    assert '"status": 70' in server.logged()


def test_an_abandoned_call_is_never_answered_late(launch: Callable[..., Launched]) -> None:
    """After Kong's time-out the connection may carry another request; an old answer would fail that one."""
    server = launch("faulty", "--workers", "2")
    server.ready()
    with server.client() as kong:
        late = kong.start_instance("faulty", {"do": "block", "deadline_ms": 700})
        nothing = kong.start_instance("faulty", {"do": "nothing"})
        sock = kong.connect()
        other = kong.connect()
        sock.sendall(packed(11, late))
        sock.sendall(packed(12, nothing))  # as a client does that gave up the first
        reply = kong._receive(sock)
        assert (reply.msgid, reply.result["Data"]) == (12, "ret")
        assert server.metric("tenantgate_abandoned_calls_total") == 1
        sock.close()
        other.close()


def packed(msgid: int, instance: int) -> bytes:
    return pack_as_kong([0, msgid, "plugin.HandleEvent", [{"InstanceId": instance, "EventName": "access"}]])

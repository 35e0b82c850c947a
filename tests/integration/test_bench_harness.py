"""The load harness against real servers: a scripted one for its own manners, and the embedded gateway."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tenantgate import features
from tenantgate.bench import load, page, report, running
from tenantgate.bench.configurations import Configuration
from tenantgate.bench.load import Due, Plan
from tenantgate.cli import main
from tenantgate.devhost.processes import descendants
from tenantgate.devhost.redis_server import free_port

CHAT = {
    "choices": [{"message": {"content": "This is mock answer 0123456789 to your question: jo@x.example"}}]
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply: tuple[int, str, bytes] = (200, "application/json", json.dumps(CHAT).encode())
        self.replies: dict[str, tuple[int, str, bytes]] = {}
        self.gather = threading.Barrier(1)
        self.most = 0
        self.now = 0
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        self.server.gather.wait(timeout=10)
        status, kind, body = self.server.replies.get(self.path, self.server.reply)
        with self.server.lock:
            self.server.now -= 1
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def dues(port: int, count: int, *, secret: str = "") -> list[Due]:
    url = f"http://127.0.0.1:{port}/"
    return [Due(i * 0.01, "it", i, url, {"apikey": "k"}, "{}", secret) for i in range(count)]


def test_requests_are_sent_at_their_time_though_none_before_was_answered() -> None:
    with serving() as server:
        server.gather = threading.Barrier(6)  # nobody gets an answer before six have asked
        shots = load.run(Plan(dues(server.server_port, 6)))
    assert [s.status for s in shots] == [200] * 6
    assert server.most == 6


def test_times_count_from_when_a_request_was_meant_to_be_sent() -> None:
    with serving() as server:
        shots = load.run(Plan(dues(server.server_port, 3)))
    assert all(0 <= s.late_s <= s.head_s <= s.total_s for s in shots)
    assert all(s.token_s is not None and s.token_s <= s.total_s for s in shots)


def test_lanes_send_one_after_the_other() -> None:
    with serving() as server:
        shots = load.run(Plan(dues(server.server_port, 20), lanes=2, seconds=20.0))
    assert len(shots) == 20
    assert server.most <= 2


def test_the_answer_is_read_for_what_judging_needs_and_nothing_else_is_kept() -> None:
    with serving() as server:
        (shot,) = load.run(Plan(dues(server.server_port, 1, secret="jo@x.example")))
    assert (shot.digest, shot.clear, shot.error) == ("0123456789", True, "")
    assert "jo@x" not in repr(shot)


EVENTS = b'data: {"choices": [{"delta": {"content": "mock answer 0123456789"}}]}\n\ndata: [DONE]\n\n'


NO_ANSWERS: list[tuple[tuple[int, str, bytes], str, str]] = [
    ((200, "text/event-stream", EVENTS), "", ""),
    ((200, "text/event-stream", EVENTS[:-14]), "cut", "cut"),
    ((200, "application/json", b"no JSON"), "unreadable", "unreadable"),
    ((200, "application/json", b'{"choices": [{"message": {"content": ""}}]}'), "empty", ""),
    (
        (400, "application/json", b'{"error": {"code": "content_policy_violation"}}'),
        "",
        "content_policy_violation",
    ),
    ((400, "text/event-stream", b'data: {"error": {"code": "no"}}\n\ndata: [DONE]\n\n'), "", "no"),
    ((502, "text/html", b"<p>"), "", "unreadable"),
]


def test_replies_that_are_no_answers() -> None:
    with serving() as server:
        server.replies = {f"/{i}": reply for i, (reply, _, _) in enumerate(NO_ANSWERS)}
        url = f"http://127.0.0.1:{server.server_port}"
        asked = [Due(0.0, "it", i, f"{url}/{i}", {}, "{}") for i in range(len(NO_ANSWERS))]
        shots = sorted(load.run(Plan(asked)), key=lambda s: s.ask)
    expected = [(reply[0], error, reason) for reply, error, reason in NO_ANSWERS]
    assert [(s.status, s.error, s.reason) for s in shots] == expected


def test_nobody_there_is_an_error_by_its_kind() -> None:
    (shot,) = load.run(Plan(dues(free_port(), 1)))
    assert (shot.status, shot.error) == (0, "ClientConnectorError")


# -- against the embedded gateway


@pytest.fixture(scope="module")
def others() -> frozenset[int]:
    """What other tests of this run have left running, such as a gateway for all of theirs."""
    return frozenset(descendants(os.getpid()))


@pytest.fixture(scope="module")
def result(others: frozenset[int], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    configuration = Configuration(name="cache", title="cache", sections={"cache": {"max_wrong_rate": 0.0}})
    settings = running.Settings(
        rate=30, seconds=2.5, warm_up_s=0.3, tenants=2, latency_ms=1.0, chunk_ms=0.0, burst_s=0.0, traced=2
    )
    with pytest.MonkeyPatch.context() as patch:
        # One stage instead of all, and one process of the engine: each loads all models.
        patch.setattr(features, "FEATURES", ("tenantgate.cache",))
        patch.setattr(running, "Site", partial(running.Site, processes="1"))
        made = running.run([configuration], settings, tmp_path_factory.mktemp("bench"))
    whole: dict[str, Any] = json.loads(json.dumps(made))
    return whole


@pytest.mark.slow
def test_nothing_is_left_running(result: dict[str, Any], others: frozenset[int]) -> None:
    left = {*descendants(os.getpid())} - others
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
    assert not [c for c in commands if b"tenantgate.devhost" in c or b"tenantgate.bench" in c]


@pytest.mark.slow
def test_every_request_went_both_ways_and_came_back_right(result: dict[str, Any]) -> None:
    assert report.gates(result) == []
    for entry in result["configurations"].values():
        assert entry["requests"] == entry["latency"]["all"]["pairs"] + entry["first_token"]["pairs"] == 75


@pytest.mark.slow
def test_counts_are_the_plugins_own(result: dict[str, Any]) -> None:
    control, cache = (result["configurations"][n] for n in ("bare again", "cache"))
    assert control["cost"]["pdk_calls_per_request"] == {}  # the bare route doesn't lead to the engine
    assert control["cost"]["provider_asked"] == control["requests"]
    calls = cache["cost"]["pdk_calls_per_request"]
    assert 2 <= calls["access"] <= 3  # the packed request and the decision; the answer, where there is one
    assert calls["log"] <= 2
    hits, n = cache["quality"]["hits"]
    assert cache["cost"]["provider_asked"] == n - hits


@pytest.mark.slow
def test_repeats_hit_and_no_hit_is_wrong(result: dict[str, Any]) -> None:
    quality = result["configurations"]["cache"]["quality"]
    # Two paraphrases may come in the same words, and then the second is a hit without similarity, too.
    assert quality["hits"][0] >= quality["repeats"][0] > 0
    assert quality["wrong_hits"] == [0, quality["hits"][0]]


@pytest.mark.slow
def test_traces_tell_parts_that_add_up(result: dict[str, Any]) -> None:
    (miss,) = [t for t in result["traces"]["cache"] if t["kind"] == "fresh"]
    assert {p["part"] for p in miss["parts"]} >= {"exact", "provider", "gateway and stock plugins"}
    assert sum(p["ms"] for p in miss["parts"]) == pytest.approx(miss["total_ms"], rel=0.25)
    assert miss["methods"]["tenantgate"] == ["ctx.shared.get", "ctx.shared.set"]
    assert miss["calls"]["access"] == 2


@pytest.mark.slow
def test_the_result_makes_a_page(result: dict[str, Any]) -> None:
    assert "Where the time goes" in page.page(result)


def test_a_gateway_that_runs_elsewhere_is_measured_by_its_address() -> None:
    settings = running.Settings(rate=20, seconds=0.5, warm_up_s=0.1)
    with serving() as server:
        there = running.Elsewhere(f"http://127.0.0.1:{server.server_port}/", {"apikey": "k"}, {"model": "m"})
        result = running.run_elsewhere(there, there, settings)
    assert result["configurations"]["it"]["requests"] == 10
    assert "were another request's" in report.gates(result)[0]  # it gives everybody the same answer
    assert "<svg" in page.page(result)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--url", "http://x/"], "belong together"),
        (["--url", "u", "--bare-url", "b", "--header", "x"], "NAME: VALUE"),
    ],
)
def test_what_an_address_needs_is_said(
    options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *options]) == 2
    assert problem in capsys.readouterr().err


def test_the_command_names_an_unknown_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "nothing"]) == 2
    assert "nothing: no such configuration" in capsys.readouterr().err

from __future__ import annotations

import pytest

from failover_lua import Module

OUTGOING = Module("outgoing")
ORDER = Module("order")


@pytest.mark.parametrize(
    "name",
    ["Host", "Connection", "X-Real-IP", "X-Kong-Request-Id", "Via", "X-Forwarded-For", "X-Tenantgate-Order", "TE",
     "Content-Length", "Transfer-Encoding", "Expect", "Proxy-Authorization", "Upgrade", "Forwarded", "Keep-Alive"],
)  # fmt: skip
def test_headers_that_never_leave(name: str) -> None:
    assert OUTGOING.is_sent(name) is False
    assert OUTGOING.is_sent(name.lower()) is False


@pytest.mark.parametrize(
    "name",
    ["authorization", "x-api-key", "api-key", "anthropic-version", "x-amz-date", "content-type", "accept"],
)
def test_headers_for_the_provider(name: str) -> None:
    assert OUTGOING.is_sent(name) is True


def test_only_named_headers_are_sent() -> None:
    headers = {
        "x-api-key": "k",
        "authorization": "Bearer other",
        "x-list": ["a", "b"],
        "host": "evil",
        "x-bad": "a\r\nb: c",
    }
    head = OUTGOING.head(
        "POST", "/v1?a=b", "h:1", ["x-api-key", "x-list", "host", "x-bad", "absent"], headers, 5
    )
    assert head == (
        "POST /v1?a=b HTTP/1.1\r\nHost: h:1\r\nContent-Length: 5\r\nx-api-key: k\r\nx-list: a\r\nx-list: b\r\n\r\n"
    )


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "content-length",
        "transfer-encoding",
        "x-accel-redirect",
        "x-accel-buffering",
        "x-tenantgate-target",
    ],
)
def test_headers_of_a_reply_that_stay_here(name: str) -> None:
    assert OUTGOING.is_passed(name) is False


@pytest.mark.parametrize("name", ["retry-after", "content-type", "content-encoding", "x-request-id", "date"])
def test_headers_of_a_reply_that_go_on(name: str) -> None:
    assert OUTGOING.is_passed(name) is True


@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected"),
    [
        ("https", "a.example", 443, "a.example"),
        ("https", "a.example", 8443, "a.example:8443"),
        ("http", "a.example", 80, "a.example"),
        ("http", "a.example", 443, "a.example:443"),
        ("https", "fd00::1", 443, "[fd00::1]"),
    ],
)
def test_host(scheme: str, host: str, port: int, expected: str) -> None:
    assert OUTGOING.host_header(scheme, host, port) == expected


def test_limits() -> None:
    headers = {
        "retry-after": "7", "x-ratelimit-remaining-tokens": ["1", "2"], "anthropic-ratelimit-requests-reset": "y" * 500,
        "content-type": "x",
    }  # fmt: skip
    assert OUTGOING.limits(headers) == {
        "retry-after": "7", "x-ratelimit-remaining-tokens": "1", "anthropic-ratelimit-requests-reset": "y" * 128,
    }  # fmt: skip
    assert len(OUTGOING.limits({f"x-ratelimit-{i}": "1" for i in range(100)})) == 32


def plan(**more: object) -> dict[str, object]:
    limits = {
        "connect_ms": 1,
        "ttft_ms": 2,
        "idle_ms": 3,
        "streaming_total_ms": 4000,
        "non_streaming_total_ms": 5000,
    }
    models = [{"provider": "a", "name": "m"}, {"provider": "b", "name": "m"}]
    return {
        "token": "t", "key": "k", "number": 1, "egress": "[]", "stream": True, "deadline": 9.5, "limits": limits,
        "targets": models, "tried": {1: True}, "current": 1, "criteria": ["error"], "retries": 1, **more,
    }  # fmt: skip


ASKED = {"method": "POST", "scheme": "https", "host": "h", "port": 443, "path": "/", "headers": ["a"]}


@pytest.mark.parametrize(
    ("more", "again", "left", "first_byte_ms"),
    [
        ({}, {"error": True, "refused": True}, True, 2),
        ({"stream": False}, {"error": True, "refused": True}, True, 5000),
        ({"number": 2, "tried": {1: True, 2: True}, "current": 2}, [], False, 2),
        ({"retries": 0}, [], False, 2),
        ({"criteria": []}, {"refused": True}, True, 2),
    ],
)
def test_an_order(more: dict[str, object], again: object, left: bool, first_byte_ms: int) -> None:
    made = ORDER.made(plan(**more), ASKED)
    assert (made["again"], made["more"], made["first_byte_ms"]) == (again, left, first_byte_ms)
    assert {name: made[name] for name in ASKED} == ASKED
    assert (made["token"], made["key"], made["deadline"]) == ("t", "k", 9.5)


def test_the_longest_time() -> None:
    limits = {"streaming_total_ms": 4000, "non_streaming_total_ms": 5000}
    assert (ORDER.longest_s(limits, True), ORDER.longest_s(limits, False)) == (4, 5)


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("/", True),
        ("/v1/a%20b?x=1&y=/", True),
        ("", False),
        ("v1", False),
        ("/a b", False),
        ("/a HTTP/1.1\r\nX: 1", False),
        ("/a\n", False),
        ("/\x7f", False),
        ("/\u00fc", False),
        (None, False),
    ],
)
def test_paths(path: str | None, is_one: bool) -> None:
    assert OUTGOING.is_path(path) is is_one

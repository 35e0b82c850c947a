"""What breaks on our side, or comes in broken, must look to the client as if Kong stood there alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from tenantgate.devhost.client import Reply

from gateway import Gateway
from support import Load, until

pytestmark = pytest.mark.e2e


def at_work(replies: Sequence[Reply], since: int) -> int:
    """How many replies from that one on the plugin has touched."""
    return sum(reply.cache is not None for reply in replies[since:])


ODD_BODIES = {
    "empty": b"",
    "not JSON": b"hello",
    "cut JSON": b'{"messages": [{"role": "user", "content": "hi"',
    "not UTF-8": b'{"messages": [{"role": "user", "content": "\xff\xfe caf\xe9"}]}',
    "nested 10,000 deep": b"[" * 10_000 + b"]" * 10_000,
    "a list": b"[1, 2]",
    "a number": b"3",
    "no messages": b'{"prompt": "hi"}',
    "messages empty": b'{"messages": []}',
    "messages of numbers": b'{"messages": [1, 2]}',
    "content null": b'{"messages": [{"role": "user", "content": null}]}',
    "a lone surrogate": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "a NUL": b'{"messages": [{"role": "user", "content": "a\\u0000b"}]}',
    "text in parts": b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}',
    "an image": json.dumps(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                    ],
                }
            ]
        }
    ).encode(),
    "a tool's turn": json.dumps(
        {
            "messages": [
                {"role": "user", "content": "weather?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "w", "arguments": "{}"}}
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            ]
        }
    ).encode(),
    "1 MB": json.dumps({"messages": [{"role": "user", "content": "word " * 200_000}]}).encode(),
}


def core(reply: Reply) -> tuple[int, object]:
    """What must be the same with and without us: the status, and the body but for what differs by request."""
    if reply.status == 200:
        return 200, reply.text
    return reply.status, {k: v for k, v in reply.json.items() if k != "request_id"}


@pytest.mark.parametrize("name", ODD_BODIES)
def test_an_odd_body_gets_what_the_gateway_alone_would_give(gateway: Gateway, name: str) -> None:
    body = ODD_BODIES[name]
    assert core(gateway.client("acme").send(body)) == core(gateway.client("plain").send(body))


def test_a_header_that_is_not_utf8_changes_nothing(gateway: Gateway) -> None:
    prompt = gateway.fresh()
    got = gateway.client("acme").chat(prompt, headers={"X-Odd": b"caf\xe9".decode("latin-1")})
    assert (got.status, got.cache) == (200, "Miss")


def test_a_client_that_leaves_in_mid_stream_leaves_nothing_behind(gateway: Gateway) -> None:
    client, prompt = gateway.client("acme"), gateway.fresh("Tell me a long story about {n}.")
    body = json.dumps({"messages": [{"role": "user", "content": prompt}], "stream": True}).encode()
    with gateway.stack.mock_behaviour(chunk_ms=100), client.opened(body) as response:
        assert response.read1(64)
    again = client.chat(prompt, stream=True)
    assert (again.status, again.cache) == (200, "Miss")


def test_no_request_fails_while_redis_is_paused(gateway: Gateway) -> None:
    client = gateway.client("acme")
    with gateway.redis() as store, Load(lambda n: client.chat(f"Is {n} a prime?")) as load:
        store.execute_command("CLIENT", "PAUSE", "1000", "ALL")
        load.after(30)
    assert not load.errors
    assert {r.status for r in load.replies} == {200}
    prompt = gateway.fresh()
    until(lambda: client.chat(prompt), lambda r: r.cache == "Hit", what="cache status")


def test_no_request_fails_when_redis_dies_and_hits_come_back_with_it(gateway: Gateway) -> None:
    client = gateway.client("acme")
    with Load(lambda n: client.chat(f"Is {n} an odd number?")) as load:
        gateway.stack.kill_redis()
        until(lambda: load.replies[-1].cache, lambda c: c == "Bypass", what="cache status")
        load.after(30)
        gateway.stack.start_redis()
        load.after(5)
    assert not load.errors
    assert {r.status for r in load.replies} == {200}
    prompt = gateway.fresh()
    until(lambda: client.chat(prompt), lambda r: r.cache == "Hit", what="cache status")


def test_a_full_redis_only_stops_the_storing(gateway: Gateway) -> None:
    client = gateway.client("acme")
    with gateway.redis() as store:
        before = store.config_get("maxmemory*")
        store.config_set("maxmemory-policy", "noeviction")
        store.config_set("maxmemory", "1")
        try:
            replies = [client.chat(gateway.fresh()) for _ in range(5)]
        finally:
            for name in ("maxmemory", "maxmemory-policy"):
                store.config_set(name, before[name])
    assert {r.status for r in replies} == {200}
    assert {r.cache for r in replies} <= {"Miss", "Bypass"}


def test_a_foreign_type_under_our_keys_is_a_miss(gateway: Gateway) -> None:
    client, prompt = gateway.client("acme"), gateway.fresh()
    until(lambda: client.chat(prompt), lambda r: r.cache == "Hit", what="cache status")
    with gateway.redis() as store:
        keys = list(store.scan_iter(count=1000))
        assert keys
        for key in keys:
            store.delete(key)
            store.rpush(key, "not ours")
        try:
            got = client.chat(prompt)
            assert got.status == 200
            assert got.cache in {"Miss", "Bypass"}
        finally:
            store.delete(*keys)


@pytest.mark.slow
def test_no_request_fails_while_the_plugin_server_is_killed(gateway: Gateway) -> None:
    client = gateway.client("acme")
    threads, serving = 4, gateway.serving()
    with Load(lambda n: client.chat(f"Is {n} a square number?"), threads=threads) as load:
        for _ in range(2):
            for pid in gateway.engines():
                os.kill(pid, signal.SIGKILL)
            killed_at = len(load.replies)
            # Until it is at work again, not only there: Kong answers 500 where it can't start the plugin's instance,
            # which nobody knows any more if the watchdog is killed, too. Some replies were under way before.
            until(partial(at_work, load.replies, killed_at), lambda n: n > threads, what="plugin server")
    assert not load.errors
    assert {r.status for r in load.replies} == {200}
    gateway.whole_again(serving)
    prompt = gateway.fresh()
    until(lambda: client.chat(prompt), lambda r: r.cache == "Hit", what="cache status")


def runs(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for has no command line left."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_request_is_refused_while_the_engines_watchdog_is_replaced(
    gateway: Gateway, request: pytest.FixtureRequest, number: signal.Signals
) -> None:
    if request.config.getoption("--kong-bin") is None:
        pytest.skip("the embedded host starts the next one when the servers of the first one have ended")
    client, (watchdog, *servers), serving = gateway.client("blocking"), gateway.engines(), gateway.serving()
    with Load(lambda n: client.chat(f"Is {n} a lucky number?"), threads=2) as load:
        os.kill(watchdog, number)
        until(lambda: list(filter(runs, servers)), lambda left: not left, what="servers of the first one")
        load.after(8)
    assert not load.errors
    assert {r.status for r in load.replies} == {200}, "a rule of the tenant blocks: no engine, no answer"
    gateway.whole_again(serving)


@pytest.mark.slow
def test_no_request_fails_while_the_plugin_server_is_stopped(gateway: Gateway) -> None:
    client = gateway.client("acme")
    pids = gateway.engines()
    with Load(lambda n: client.chat(f"Is {n} a cube number?")) as load:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        load.after(8)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue  # whoever watches over it was quicker
        load.after(8)
    assert not load.errors
    assert {r.status for r in load.replies} == {200}
    prompt = gateway.fresh()
    until(lambda: client.chat(prompt), lambda r: r.cache == "Hit", what="cache status")


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_providers_error_passes_and_is_never_stored(gateway: Gateway, status: int) -> None:
    client, prompt = gateway.client("acme"), gateway.fresh()
    with gateway.stack.mock_behaviour(status=status):
        assert client.chat(prompt).status == status
    again = client.chat(prompt)
    assert (again.status, again.cache) == (200, "Miss")


def test_a_reply_that_was_cut_off_is_never_stored(gateway: Gateway) -> None:
    client, prompt = gateway.client("acme"), gateway.fresh()
    with gateway.stack.mock_behaviour(finish_reason="length"):
        assert client.chat(prompt).status == 200
        marker = gateway.fresh()
        client.chat(marker)
    assert client.chat(prompt).cache == "Miss"

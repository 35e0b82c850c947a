"""The connections that threads keep to a real Redis."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tenantgate.devhost.redis_server import RedisServer
from tenantgate.store import redis_nodes
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import Node, connect


@pytest.fixture
def node(redis_server: RedisServer) -> Node:
    return connect(RedisConfig(port=redis_server.port), timeout_ms=2000).node("k")


def connection(node: Node) -> int:
    """Redis' number of the connection that this thread asks with."""
    return int(node.ask(lambda client: client.client_id()))


def in_thread(node: Node) -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(connection(node)))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_keeps_its_connection_and_another_takes_over_that_of_one_that_ended(node: Node) -> None:
    mine = connection(node)
    assert connection(node) == mine
    first = in_thread(node)
    assert first != mine
    assert in_thread(node) == first


def test_a_connection_that_redis_closed_is_replaced_and_no_command_is_lost(
    node: Node, store: redis.Redis
) -> None:
    mine = connection(node)
    store.client_kill_filter(_id=str(mine))
    assert connection(node) != mine


def test_redis_gone_is_an_error_and_its_return_none(redis_server: RedisServer, node: Node) -> None:
    assert connection(node)
    redis_server.stop()
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            connection(node)
    redis_server.start()
    assert connection(node)


def test_threads_beyond_the_first_few_share_the_pool(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_nodes, "_OWNED", 2)
    with contextlib.ExitStack() as stack:
        threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(4)]
        found = [thread.submit(connection, node).result() for thread in threads]
        again = [thread.submit(connection, node).result() for thread in threads]
    assert found == again
    assert len(set(found[:3])) == 3
    assert found[2] == found[3]


def test_what_is_to_be_done_meanwhile_is_done_once_and_spoils_no_answer(node: Node) -> None:
    done: list[str] = []

    def fail() -> None:
        done.append("failed")
        raise ValueError

    assert node.ask(lambda client: client.echo("one"), lambda: done.append("one")) == b"one"
    assert node.ask(lambda client: client.echo("two"), fail) == b"two"
    assert node.ask(lambda client: client.echo("three")) == b"three"
    # Nothing is sent, and nothing is left for the next.
    assert node.ask(lambda _client: None, lambda: done.append("four")) is None
    assert [node.ask(lambda client: (client.echo("a"), client.echo("b")))] == [(b"a", b"b")]
    assert done == ["one", "failed"]


def test_threads_that_share_the_pool_have_nothing_to_do_meanwhile(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_nodes, "_OWNED", 0)
    done: list[str] = []
    assert node.ask(lambda client: client.echo("one"), lambda: done.append("one")) == b"one"
    assert done == []

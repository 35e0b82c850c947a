"""Which Redis holds a key: the one there is, or a node of a Redis Cluster.

All keys of a tenant have one hash tag, so whatever concerns one tenant is asked of one node, by a plain client. A
cluster's map of slots is learnt by a thread of its own, when a node fails or says that a key has moved: a request
follows one such redirection, and never waits for a map, except for the very first one and no longer than its time-out.
Workers keep a connection each to every node that they ask.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError, NoScriptError
from redis.retry import Retry

from tenantgate.store.redis_limits import BACKGROUND, MAP, REQUEST, ReplyLimits, bound, within
from tenantgate.store.shared import Shared
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenantgate.store.config import RedisConfig

__all__ = ["BACKGROUND", "REQUEST", "ClusterNodes", "Node", "Nodes", "OneRedis", "Script", "connect"]

T = TypeVar("T")
Address = tuple[str, int]

_log: Final = logging.getLogger("tenantgate.redis")
_CONNECTIONS: Final = 64
_OWNED: Final = 32
_SLOTS: Final = 16384
_MAP_TIMEOUT_S: Final = 0.5
_CLUSTERS: Final = 64  # of a process
_PATIENCE_S: Final = 1.0  # after which requests no longer wait for the first map
_PAUSE_S: Final = 0.5  # between two questions for the map


class Script:
    """A Lua script, which Redis knows by its digest once it has run it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], arguments: Sequence[str | bytes], client: Any) -> Any:
        """The script's answer, by a client that `Node.ask` gave."""
        command: Any = ("EVALSHA", self._sha, len(keys), *keys, *arguments)
        connection = client.connection
        try:
            if connection is None:  # not this thread's own
                return client.execute_command(*command)
            connection.send_whole(hiredis.pack_command(command))
            return connection.read_response()
        except NoScriptError:  # Redis was started anew, or is another one
            return client.execute_command("EVAL", self.text, len(keys), *keys, *arguments)


class _Client(redis.Redis):
    """A client that has something to do until Redis answers."""

    meanwhile: Callable[[], object] | None = None
    """Called once, when the next command is sent."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command, and its answer.

        Of a client with a connection of its own the short way: redis-py's, with its lock, its further tries (there are
        none) and its observers (nor these), takes longer than the command.
        """
        connection: Any = self.connection
        if connection is None:
            whole: Any = super()  # redis-py gives the method no types
            return whole.execute_command(*args, **options)
        connection.send_whole(b"".join(connection.pack_command(*args)))
        return self.parse_response(connection, args[0], **options)

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """The answer to a command that was sent (redis-py's client.py)."""
        work, self.meanwhile = self.meanwhile, None
        if work is not None:
            # An answer is on its way: left unread it would be taken for the next command's.
            with contextlib.suppress(Exception):
                work()
        whole: Any = super()  # redis-py gives the method no types
        return whole.parse_response(connection, command_name, **options)


class Node:
    """One Redis; `name` is ``host:port/database``, `call_s` what a call may take in all."""

    def __init__(self, name: str, client: redis.Redis, call_s: float) -> None:
        self.name, self.client, self._call_s = name, client, call_s
        self._threads, self._owned = threading.local(), WeakSet[redis.Redis]()

    def ask(self, call: Callable[[Any], T], meanwhile: Callable[[], object] | None = None) -> T:
        """What `call` gives, called with a client.

        `meanwhile` is a hint: it may be called while Redis is at work, its result and what it raises go unnoticed.
        """
        with within(self._call_s):
            client = self._of_thread()
            if meanwhile is None or client is self.client:  # that one is other threads' too
                return call(client)
            client.meanwhile = meanwhile
            try:
                return call(client)
            finally:
                client.meanwhile = None

    def _of_thread(self) -> Any:
        """A client with a connection of this thread's own, as the first few threads have one: a server's workers.

        To take one from the pool and give it back for each command takes half as long as the command.
        """
        client = getattr(self._threads, "client", None)
        if client is None:
            if len(self._owned) >= _OWNED:
                return self.client
            whole: Any = self.client  # redis-py gives the next method no types
            client = self._threads.client = whole.client()
            self._owned.add(client)
            return client
        client.connection.freshen()
        return client

    def learn(self, error: Exception) -> None:
        """Note what an error says that `ask` didn't see, as one in a pipeline."""


class Nodes(ABC):
    """Where keys lie; thread-safe."""

    @abstractmethod
    def node(self, key: str) -> Node:
        """The node that holds `key`.

        Raises:
            redis.ConnectionError: none is known to.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def ask(self, key: str, call: Callable[[Any], T]) -> T:
        """What `call` gives, called with a client of the node that holds `key`."""
        return self.node(key).ask(call)


class OneRedis(Nodes):
    """A Redis without others."""

    def __init__(self, client: redis.Redis, call_s: float = math.inf) -> None:
        where = client.get_connection_kwargs()
        self._node = Node(f"{where.get('host')}:{where.get('port')}/{where.get('db')}", client, call_s)

    def node(self, key: str) -> Node:
        """The only one: it holds all keys."""
        del key
        return self._node

    def close(self) -> None:
        """Close the connections."""
        self._node.client.close()


class _ClusterNode(Node):
    def __init__(self, address: Address, client: redis.Redis, cluster: ClusterNodes, call_s: float) -> None:
        super().__init__(f"{address[0]}:{address[1]}/0", client, call_s)
        self._address, self._cluster = address, cluster

    def ask(self, call: Callable[[Any], T], meanwhile: Callable[[], object] | None = None) -> T:
        try:
            return super().ask(call, meanwhile)
        except MovedError as moved:
            with within(self._call_s):
                return call(self._moved(moved).client)  # nothing was done here
        except (redis.ConnectionError, redis.TimeoutError, ClusterDownError, OSError):
            self._cluster.doubt()
            raise

    def learn(self, error: Exception) -> None:
        if isinstance(error, MovedError):
            self._moved(error)

    def _moved(self, moved: MovedError) -> Node:
        # A node that doesn't know the other's host means its own.
        return self._cluster.moved(moved.slot_id, (moved.host or self._address[0], moved.port))


class ClusterNodes(Nodes):
    """The nodes of a Redis Cluster, each with connections of its own."""

    def __init__(self, config: RedisConfig, timeout_s: float, limits: ReplyLimits) -> None:
        self._config, self._timeout_s, self._limits = config, timeout_s, limits
        self._map = _maps.get(config, lambda: _Map(config))
        self._nodes: dict[Address, Node] = {}
        self._lock = threading.Lock()

    def node(self, key: str) -> Node:
        """The node that holds `key`, as far as is known."""
        address = self._map.holder(key_slot(key.encode()), self._timeout_s)
        if address is None:
            raise redis.ConnectionError("no node of the cluster is known to hold this key")
        return self._at(address)

    def moved(self, slot: int, address: Address) -> Node:
        """Note that a slot is elsewhere now; the node there."""
        self._map.move(slot, address)
        return self._at(address)

    def doubt(self) -> None:
        """Have the map learnt anew."""
        self._map.doubt()

    def _at(self, address: Address) -> Node:
        with self._lock:
            if address not in self._nodes:
                client = _client(self._config, address, self._timeout_s, self._limits)
                call_s = self._timeout_s * self._limits.trips
                self._nodes[address] = _ClusterNode(address, client, self, call_s)
            return self._nodes[address]

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for node in self._nodes.values():
                node.client.close()


class _Map:
    """Which node holds which slot, learnt in the background from any node that answers."""

    def __init__(self, config: RedisConfig) -> None:
        self._config = config
        self._seeds = [(node.ip, node.port) for node in config.cluster_nodes]
        self._slots: list[Address | None] = [None] * _SLOTS
        self._known, self._tried = threading.Event(), threading.Event()
        self._thread = BackgroundThread(
            "redis-cluster", self._step, log=_log, failed="redis cluster: the map of slots can't be learnt"
        )
        self._turn = 0
        self._down = False
        self._waits_until: float | None = None

    def holder(self, slot: int, wait_s: float) -> Address | None:
        """The node of a slot; before the first map it waits for that, unless it was found to be long in coming."""
        if not self._known.is_set():
            if self._waits_until is None:
                self._waits_until = time.monotonic() + max(_PATIENCE_S, wait_s)
            self.doubt()
            if time.monotonic() < self._waits_until:
                self._tried.wait(wait_s)
        found = self._slots[slot]
        if found is None:
            self.doubt()
        return found

    def move(self, slot: int, address: Address) -> None:
        """What a node says of one slot; its others are asked for."""
        self._slots[slot] = address
        self.doubt()

    def doubt(self) -> None:
        """Have it learnt anew, soon."""
        self._thread.wake()

    def _step(self) -> float | None:
        learnt = self._learn()
        self._tried.set()
        self._thread.pause(_PAUSE_S)
        return None if learnt else 0.0

    def _learn(self) -> bool:
        addresses = list(dict.fromkeys([*self._seeds, *(a for a in set(self._slots) if a is not None)]))
        self._turn += (
            1  # a node that is cut off from the others has an old map: another one is asked next time
        )
        kind = ""
        for i in range(len(addresses)):
            address = addresses[(self._turn + i) % len(addresses)]
            try:
                with contextlib.closing(_client(self._config, address, _MAP_TIMEOUT_S, MAP)) as client:
                    slots = _slots(client.execute_command("CLUSTER", "SLOTS"), address)
            except (redis.RedisError, OSError, ValueError, TypeError, LookupError) as error:
                kind = type(error).__name__
                continue
            if any(slots):
                self._slots = slots
                self._known.set()
                self._down = False
                return True
        if not self._down:
            self._down = True
            logs.event(_log, logging.WARNING, "redis cluster: no node gives the map of slots", kind=kind)
        return False


def _slots(answer: Any, asked: Address) -> list[Address | None]:
    """What ``CLUSTER SLOTS`` says: lists of first slot, last slot, the holder's ``[host, port, …]``, replicas."""
    out: list[Address | None] = [None] * _SLOTS
    for first, last, holder, *_ in answer:
        host = holder[0].decode() if isinstance(holder[0], bytes) else ""
        # Without a host, or with an unknown one, it is reached as the one that was asked.
        address = (host if host and host != "?" else asked[0], int(holder[1]))
        out[int(first) : int(last) + 1] = [address] * (int(last) + 1 - int(first))
    if len(out) != _SLOTS:
        raise ValueError("more slots than there are")
    return out


_maps: Final[Shared[_Map]] = Shared(_CLUSTERS)


def connect(
    config: RedisConfig, *, timeout_ms: int | None = None, limits: ReplyLimits | None = None
) -> Nodes:
    """Clients that try once and give up after their time-out; no connection is made yet.

    `timeout_ms` is for a command from its first byte to the last of its answer; left out, it is the configuration's.
    `limits` are `REQUEST` then, else `BACKGROUND`.
    """
    timeout_s = (timeout_ms or config.timeout_ms) / 1000
    limits = limits or (REQUEST if timeout_ms is None else BACKGROUND)
    if config.cluster_nodes:
        return ClusterNodes(config, timeout_s, limits)
    client = _client(config, (config.host, config.port), timeout_s, limits)
    return OneRedis(client, timeout_s * limits.trips)


def _client(config: RedisConfig, address: Address, timeout_s: float, limits: ReplyLimits) -> Any:
    client = _Client(
        host=address[0],
        port=address[1],
        db=config.database,
        username=config.username,
        password=config.password,
        ssl=config.ssl,
        ssl_cert_reqs="required" if config.ssl_verify else "none",
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),  # the client's default tries again for seconds
        max_connections=_CONNECTIONS,
        health_check_interval=0,
        driver_info=None,
        protocol=2,
    )
    bound(client, limits)
    return client

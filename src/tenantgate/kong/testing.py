"""Test doubles for Kong: `FakeKong` for a plugin in this process, `KongClient` for a server on its socket.

Both are part of the product, so that plugin authors test against the same rules that Kong has.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from kong_pdk.pdk import Kong

from tenantgate.kong.host import verdict_key
from tenantgate.kong.pdk import LOG_METHODS, TERMINAL
from tenantgate.kong.wire import Decoder, Reply, pack_as_kong

__all__ = ["Exit", "FakeKong", "KongClient", "KongError"]


@dataclass(frozen=True, slots=True)
class Exit:
    """An answer to the client by `kong.response.exit`."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass
class FakeKong:
    """Kong's side of one request, scripted; runs phases of a plugin object through kong-pdk's own classes.

        kong = FakeKong(consumer="acme", body=b"{}")
        kong.run(plugin, "access")
        assert kong.exit is None and kong.calls == [...]

    Attributes:
        consumer: the consumer's custom_id; None for a request without a consumer.
        credential: the id of the client's credential; None for a request without one.
        shared: ``kong.ctx.shared``; kept over the phases of the request.
        record: what `kong.log.serialize` gives.
        answers: further answers by full method name; a function is called with the arguments.
        calls: every PDK call, ``(method, *args)``.
        exit: the answer to the client, if a phase gave one.
        sent_body: what goes upstream instead of the client's body.
        reply_headers: headers that were set on the reply.
    """

    consumer: str | None = None
    credential: str | None = None
    body: bytes = b""
    headers: Mapping[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    response_headers: Mapping[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    exit: Exit | None = None
    sent_body: bytes | None = None
    reply_headers: dict[str, str] = field(default_factory=dict)
    phase: str = "access"
    _answer: Any = None

    def run(self, plugin: Any, phase: str) -> FakeKong:
        """Run one phase of `plugin` and give self."""
        self.phase = phase
        if phase != "log":
            self.exit = None
        getattr(plugin, phase)(Kong(self, lua_style=False).kong)
        return self

    def verdict(self, plugin: str) -> Any:
        """The verdict that `plugin` left."""
        text = self.shared.get(verdict_key(plugin))
        return None if text is None else json.loads(text)

    def methods(self) -> list[str]:
        """The names of the calls so far, without ``kong.``."""
        return [call[0].removeprefix("kong.") for call in self.calls]

    # -- the channel of kong-pdk -------------------------------------------------------------------------

    def put(self, message: Any) -> None:
        """One PDK call. A call that Kong would choke on is an AssertionError here."""
        method, args = message["Method"], tuple(message["Args"])
        if self.exit is not None and self.phase != "log":
            raise AssertionError(f"{method} after kong.response.exit")
        if self.phase == "log" and method not in LOG_METHODS:
            raise AssertionError(f"{method} raises in the log phase")
        self.calls.append((method, *args))
        self._answer = self._respond(method, args)

    def get(self) -> tuple[Any, Any]:
        """The answer to the call."""
        return self._answer, None

    def _respond(self, method: str, args: tuple[Any, ...]) -> Any:
        if method in self.answers:
            scripted = self.answers[method]
            return scripted(*args) if callable(scripted) else scripted
        if method in TERMINAL:
            self._exit(args)
            return None
        return self._table()[method](*args)

    def _exit(self, args: tuple[Any, ...]) -> None:
        status, body, headers = (*args, None, None)[:3]
        text = body if isinstance(body, bytes) else str(body or "").encode("utf-8", "surrogateescape")
        self.exit = Exit(int(status), text, {k.lower(): _text(v) for k, v in (headers or {}).items()})

    def _table(self) -> dict[str, Callable[..., Any]]:
        consumer = None if self.consumer is None else {"id": "c-1", "custom_id": self.consumer}
        credential = None if self.credential is None else {"id": self.credential}
        return {
            "kong.client.get_consumer": lambda: consumer,
            "kong.client.get_credential": lambda: credential,
            "kong.request.get_raw_body": lambda *_: self.body if self.sent_body is None else self.sent_body,
            "kong.request.get_headers": lambda *_: _multimap(self.headers),
            "kong.request.get_header": lambda name: _multimap(self.headers).get(name.lower(), [None])[0],
            "kong.response.get_source": lambda: "service" if self.exit is None else "exit",
            "kong.response.get_status": lambda: self.status,
            "kong.response.get_headers": lambda *_: _multimap(self.response_headers),
            "kong.response.set_header": lambda name, value: self.reply_headers.update({name: value}),
            "kong.response.set_headers": self.reply_headers.update,
            "kong.service.request.set_raw_body": self._set_body,
            "kong.ctx.shared.get": self.shared.get,
            "kong.ctx.shared.set": lambda key, value: self.shared.update({key: value}),
            "kong.log.serialize": lambda: json.dumps(self.record),
            "kong.router.get_route": lambda: {"id": "r-1", "name": "route"},
            "kong.router.get_service": lambda: {"id": "s-1", "name": "service"},
        }

    def _set_body(self, body: bytes | str) -> None:
        self.sent_body = body if isinstance(body, bytes) else body.encode("utf-8", "surrogateescape")


def _multimap(headers: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {k.lower(): list(v) if isinstance(v, list | tuple) else [v] for k, v in headers.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


class KongError(Exception):
    """The server answered a call with an error."""


# kong/runloop/plugin_servers/rpc/mp_rpc.lua, get_step_method
_STEP_BY_METHOD: Final = {
    "kong.client.get_credential": "StepCredential",
    "kong.client.load_consumer": "StepConsumer",
    "kong.client.get_consumer": "StepConsumer",
    "kong.client.authenticate": "StepCredential",
    "kong.node.get_memory_stats": "StepMemoryStats",
    "kong.router.get_route": "StepRoute",
    "kong.router.get_service": "StepService",
    "kong.request.get_query": "StepMultiMap",
    "kong.request.get_headers": "StepMultiMap",
    "kong.response.get_headers": "StepMultiMap",
    "kong.service.response.get_headers": "StepMultiMap",
}


class KongClient:
    """Drives a plugin server over its socket as Kong does: a pooled connection for each call.

    `handle_event` raises KongError where Kong logs and goes on. One client for one thread.
    """

    def __init__(self, path: str | Path, *, timeout_s: float = 10.0) -> None:
        self._path = str(path)
        self._timeout_s = timeout_s
        self._msgid = 0
        self._idle: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections."""
        while self._idle:
            self._idle.pop().close()

    def connect(self) -> socket.socket:
        """A new connection."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(self._timeout_s)
        sock.connect(self._path)
        return sock

    def call(self, method: str, argument: Any, *, sock: socket.socket | None = None) -> Any:
        """One RPC, ``plugin.`` prepended; its result.

        Raises:
            KongError: the server's error.
            OSError: the connection failed; TimeoutError: no answer in time.
        """
        self._msgid += 1
        msgid = self._msgid
        own = sock is None
        line = self._pooled() if sock is None else sock
        try:
            line.sendall(pack_as_kong([0, msgid, f"plugin.{method}", [argument]]))
            reply = self._receive(line)
        except BaseException:
            if own:
                line.close()
            raise
        if own:
            self._idle.append(line)
        if reply.msgid != msgid:
            raise AssertionError(f"answer to call {reply.msgid} instead of {msgid}")
        if reply.error is not None:
            raise KongError(reply.error)
        return reply.result

    def _pooled(self) -> socket.socket:
        """The connection that was used last and is open yet, or a new one."""
        while self._idle:
            line = self._idle.pop()
            if not select.select([line], [], [], 0)[0]:
                return line
            line.close()  # as nginx forgets one that its other side closes
        return self.connect()

    @staticmethod
    def _receive(line: socket.socket) -> Reply:
        decoder = Decoder()
        while True:
            data = line.recv(65536)
            if not data:
                raise ConnectionResetError("no data")
            decoder.feed(data)
            found = decoder.next()
            if isinstance(found, Reply):
                return found

    def start_instance(self, name: str, config: Mapping[str, Any] | None = None) -> int:
        """StartInstance; the instance's id."""
        started = self.call("StartInstance", {"Name": name, "Config": json.dumps(config or {})})
        return int(started["Id"])

    def handle_event(
        self, instance: int, phase: str, pdk: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """One phase with the host's state machine; gives the PDK calls, ``(method, *args)``, exit among them.

        `pdk` holds the answers by full method name; a function is called with the arguments.
        """
        table, calls = pdk or {}, []
        step = self.call("HandleEvent", {"InstanceId": instance, "EventName": phase})
        event = step["EventId"]
        while step["Data"] != "ret":
            method, args = step["Data"]["Method"], step["Data"]["Args"]
            calls.append((method, *args))
            if method in TERMINAL:
                break
            scripted = table.get(method)
            value = scripted(*args) if callable(scripted) else scripted
            step = self.call(_STEP_BY_METHOD.get(method, "Step"), {"EventId": event, "Data": value})
        return calls

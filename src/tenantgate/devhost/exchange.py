"""One request on its way through the host: what nginx's variables and ``ngx.ctx`` are to Kong."""

from __future__ import annotations

import enum
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from multidict import CIMultiDict

from tenantgate.devhost import lua
from tenantgate.devhost.entities import Consumer, Credential, PluginConfig
from tenantgate.devhost.router import Match

__all__ = [
    "STATUS_MESSAGES",
    "Answer",
    "Exchange",
    "Exited",
    "Held",
    "Phase",
    "Upstream",
    "error_body",
    "multimap",
    "status_message",
]

MAX_HEADERS: Final = 100  # lua_max_req_headers, lua_max_resp_headers
_JSON_TYPE: Final = "application/json; charset=utf-8"


class Phase(enum.Enum):
    """The phases that this host knows, named as Kong names them."""

    REWRITE = "rewrite"
    ACCESS = "access"
    BALANCER = "balancer"
    CONTENT = "content"
    RESPONSE = "response"
    HEADER_FILTER = "header_filter"
    BODY_FILTER = "body_filter"
    LOG = "log"


# kong/pdk/response.lua, HTTP_ERROR_MESSAGES: those that can occur here.
STATUS_MESSAGES: Final[Mapping[int, str]] = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    411: "Length required",
    413: "Payload too large",
    414: "URI too long",
    415: "Unsupported media type",
    417: "Expectation failed",
    422: "Unprocessable entity",
    426: "Upgrade required",
    429: "Too many requests",
    431: "Request header fields too large",
    500: "An unexpected error occurred",
    501: "Not implemented",
    502: "An invalid response was received from the upstream server",
    503: "The upstream server is currently unavailable",
    504: "The upstream server is timing out",
}

_TEMPLATES: Final = {
    "text/html": (
        '<!doctype html>\n<html>\n  <head>\n    <meta charset="utf-8">\n    <title>Error</title>\n  </head>\n'
        "  <body>\n    <h1>Error</h1>\n    <p>{0}.</p>\n    <p>request_id: {1}</p>\n  </body>\n</html>\n"
    ),
    "application/json": '{{\n  "message":"{0}",\n  "request_id":"{1}"\n}}',
    "text/plain": "{0}\nrequest_id: {1}\n",
    "application/xml": (
        '<?xml version="1.0" encoding="UTF-8"?>\n<error>\n  <message>{0}</message>\n'
        "  <requestid>{1}</requestid>\n</error>\n"
    ),
}
_GROUPS: Final = {"application/*": "application/json", "text/*": "text/plain", "*/*": "application/json"}


@dataclass(frozen=True, slots=True)
class Held:
    """A Lua table in ``ngx.ctx``, which stays in Lua: a copy for others."""

    plain: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply that the gateway itself gives."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Exited(Exception):  # noqa: N818 - control flow, as kong.response.exit leaves the phase
    """The phase ended with an answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("exited")
        self.answer = answer


@dataclass(slots=True)
class Upstream:
    """Where the request will go; plugins may change it until the access phase ends."""

    scheme: str
    host: str
    port: int
    path: str
    host_header: str | None = None


@dataclass(slots=True, kw_only=True)
class Exchange:
    """The request, what plugins made of it, and the reply as far as it is known."""

    request_id: str
    method: str
    uri: str
    """The request line's target, query included, undecoded."""
    http_version: str
    host: str
    server_port: int
    client_ip: str
    client_port: int
    headers: CIMultiDict[str]
    """As they came; `Upstream` plugins change them in place, as ``ngx.req.set_header`` does."""
    body: bytes
    body_limit: int
    """A body as the client sent it counts as a file above this size (`client_body_buffer_size`)."""
    started: float = field(default_factory=time.time)
    body_changed: bool = False
    body_read: bool = False
    """Whether anybody read the body: until then nginx has none to show."""
    request_size: int = 0
    args: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    """nginx's variables that plugins have set."""
    match: Match | None = None
    upstream: Upstream | None = None
    consumer: Consumer | None = None
    credential: Credential | None = None
    phase: Phase = Phase.ACCESS
    plugin: PluginConfig | None = None
    status: int = 0
    out: CIMultiDict[str] = field(default_factory=CIMultiDict)
    """The reply's headers."""
    ctx: dict[str, Any] = field(default_factory=dict)
    """``ngx.ctx`` as far as plugins may see it."""
    shared: MutableMapping[str, Any] = field(default_factory=dict)
    """``kong.ctx.shared``; once Lua has run, a view of its table."""
    lua: Any = None
    """The request's tables in the Lua state, once Lua has run."""
    private: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``kong.ctx.plugin`` by plugin id."""
    rebuild: bool = False
    """Whether the request of the next try is built anew (``recreate_request``)."""
    retries: int | None = None
    """``kong.service.set_retries``; None: the service's."""
    timeouts: tuple[int, int, int] | None = None
    """``kong.service.set_timeouts``: for connecting, writing and reading, in milliseconds; None: the service's."""
    serialize_values: list[tuple[str, Any, str]] = field(default_factory=list)
    """(key, value, mode) of ``kong.log.set_serialize_value``."""
    response_plugins: list[str] = field(default_factory=list)
    """Names of the plugins with a response phase that were collected so far."""
    exited: bool = False
    proxied: bool = False
    unexpected: bool = False
    buffered_body: bytes | None = None
    buffered_headers: CIMultiDict[str] | None = None
    upstream_status: int | str | None = None
    """A number where the reply was buffered, a text where it was passed on, as Kong logs it."""
    upstream_headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    sent_bytes: int = 0
    tries: list[dict[str, Any]] = field(default_factory=list)
    sent_upstream: list[int] = field(default_factory=list)
    """Bytes of each try that were sent."""
    kong_latency_ms: int | None = None
    waiting_ms: int | None = None
    receive_ms: int = 0
    client_gone: bool = False
    headers_sent: bool = False
    """Whether content_by_lua has begun its reply."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.uri.partition("?")[0]

    @property
    def body_on_disk(self) -> bool:
        """Whether nginx would hold the body in a file: too large for its buffer, and not set by a plugin."""
        return not self.body_changed and len(self.body) > self.body_limit

    @property
    def source(self) -> str:
        """``kong.response.get_source``."""
        if self.unexpected:
            return "error"
        if self.exited:
            return "exit"
        return "service" if self.proxied else "error"

    def query(self) -> dict[str, Any]:
        """The query as ``ngx.req.get_uri_args`` gives it: true for an argument without ``=``."""
        pairs: list[tuple[str, Any]] = []
        for part in self.args.split("&"):
            if part:
                name, equals, value = part.partition("=")
                pairs.append((_unquote(name), _unquote(value) if equals else True))
        return multimap(pairs)

    def elapsed_ms(self) -> int:
        """Whole milliseconds since the request came."""
        return max(0, int((time.time() - self.started) * 1000))

    def exit(self, status: int, body: Any = None, headers: Mapping[str, Any] | None = None) -> NoReturn:
        """``kong.response.exit``: end the phase with this answer."""
        given = [
            (n, str(v)) for n, vs in (headers or {}).items() for v in (vs if isinstance(vs, list) else [vs])
        ]
        names = {n.lower() for n, _ in given}
        raw = b""
        if isinstance(body, (dict, list)):
            raw = lua.encode(body)
            if "content-type" not in names:
                given.append(("Content-Type", _JSON_TYPE))
        elif body is not None:
            raw = lua.to_bytes(body)
        raise Exited(Answer(status, raw, tuple(h for h in given if h[0].lower() != "transfer-encoding")))

    def error(
        self, status: int, message: str | None = None, headers: Mapping[str, Any] | None = None
    ) -> NoReturn:
        """``kong.response.error``: the message in the form that the client accepts, with the request's id."""
        kind, body = error_body(
            self.headers.get("Accept"), message or status_message(status), self.request_id
        )
        self.exit(status, body, {**(headers or {}), "Content-Type": kind})


def status_message(status: int) -> str:
    """What Kong says for a status."""
    return STATUS_MESSAGES.get(status, f"The upstream server responded with {status}")


def error_body(accept: str | None, message: str, request_id: str) -> tuple[str, str]:
    """(content type, body) of an error (`kong/tools/http.lua`, get_response_type)."""
    kind, best = "application/json", 0.0
    for part in (accept or "").split(","):
        name, *params = (p.strip().lower() for p in part.split(";"))
        if not re.fullmatch(r"[^\s/]+/[^\s/]+", name):
            continue
        weights = [p[2:] for p in params if p.startswith("q=")]
        try:
            weight = float(weights[0]) if weights else 1.0
        except ValueError:
            weight = 1.0
        if weight > best:
            best = weight
            known = _GROUPS.get(name, name)
            kind = known if known in _TEMPLATES else "application/json"
    return f"{kind}; charset=utf-8", _TEMPLATES[kind].format(message, request_id)


def multimap(pairs: list[tuple[str, Any]], limit: int = MAX_HEADERS) -> dict[str, Any]:
    """Names to a value, or to a list where a name comes more than once; at most `limit` entries."""
    out: dict[str, Any] = {}
    for name, value in pairs[: limit or None]:
        if name in out:
            held = out[name]
            out[name] = [*held, value] if isinstance(held, list) else [held, value]
        else:
            out[name] = value
    return out


def _unquote(text: str) -> str:
    return lua.from_bytes(urllib.parse.unquote_to_bytes(text.replace("+", " ")))

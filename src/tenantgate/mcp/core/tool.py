"""Tools, the servers that offer them, and the requests that their calls become. All values are JSON's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

__all__ = [
    "BODY",
    "Acl",
    "Annotations",
    "ArgumentError",
    "Body",
    "Credential",
    "Encoding",
    "Json",
    "Operation",
    "Parameter",
    "RemoteTool",
    "Server",
    "Tool",
    "UpstreamRequest",
    "fingerprint",
]

Json: TypeAlias = Mapping[str, Any]
"""A JSON object. Nobody changes one that a `Tool` holds."""

BODY: Final = "body"
"""Argument that holds the request's body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a value is written, in OpenAPI's words (Parameter Object, Encoding Object)."""

    style: str
    """simple, label, matrix, form, spaceDelimited, pipeDelimited, deepObject; empty where `content_type` says it."""
    explode: bool = False
    allow_reserved: bool = False
    content_type: str = ""
    """Media type of a value that is written as such, ``application/json`` say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of an operation, and the argument that it comes from."""

    argument: str
    """Name in the tool's arguments: ``[A-Za-z0-9_.-]{1,64}``, unique in the tool."""
    name: str
    """Name that the API knows."""
    location: str
    """path, query, header or cookie."""
    required: bool
    encoding: Encoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The body of an operation's requests, which is the argument `argument` as a whole."""

    argument: str
    media_type: str
    """``application/json`` (or ``…+json``), ``application/x-www-form-urlencoded``, ``multipart/form-data`` or
    ``text/…``."""
    required: bool
    encodings: Mapping[str, Encoding] = field(default_factory=dict)
    """Of a form, by member, where it isn't the media type's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a tool does: one kind of HTTP request."""

    method: str
    """In capitals."""
    path: str
    """Below the server's `upstream`, with ``{name}`` where a parameter of the path stands."""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    accept: str = "application/json"
    """Media types that the API answers with, as a value of ``Accept``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """Hints of MCP (`ToolAnnotations`): what clients may believe of a tool before they call it."""

    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Acl:
    """Who may see and call a tool: names of consumers, groups, and scopes of a token.

    As Kong's acl: `deny` wins, and an `allow` that has entries lets nobody else pass.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool as clients see it, and what it does."""

    name: str
    """``[A-Za-z0-9_-]{1,64}``, unique in the server."""
    title: str
    """Empty: none."""
    description: str
    input_schema: Json
    """JSON Schema 2020-12 of type object, without references beyond itself."""
    output_schema: Json | None
    """JSON Schema 2020-12 of type object; None where the API doesn't say what it answers."""
    annotations: Annotations
    operation: Operation
    acl: Acl | None = None
    """None: the server's `default_acl`."""
    wraps_output: bool = False
    """Whether `output_schema` is of an object whose member ``result`` is the API's reply, since that is no object."""
    fingerprint: str = ""
    """`fingerprint` of the tool."""
    limit: Json = field(default_factory=dict)
    """Settings of the stage `limits` for its calls; empty: none of its own."""
    price_nano: int = 0
    """What a call costs, in nano-dollars; it counts for the tenant's budgets."""
    model: str = ""
    """Name of the tenant's model that it asks by the gateway itself; empty: it is an API's."""
    cache_s: int = 0
    """How long a result may be given again for the same arguments; 0: never."""
    max_arguments_bytes: int = 0
    """Of one call's arguments as compact JSON; 0: no bound of its own."""
    max_result_bytes: int = 0
    """Of one call's result; 0: no bound of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What the API knows the gateway by. Never the client's own."""

    reference: str
    """A vault reference, ``{vault://…}``."""
    name: str = "Authorization"
    location: str = "header"
    """header, or query."""
    prefix: str = ""
    """Stands before the resolved value, ``Bearer `` say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTool:
    """A tool of a remote server that is offered; what it is says its server."""

    name: str
    acl: Acl | None = None
    limit: Json = field(default_factory=dict)
    price_nano: int = 0
    max_arguments_bytes: int = 0
    max_result_bytes: int = 0
    """All of these as of `Tool`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One MCP server of one tenant: tools of an API, or of a remote MCP server (`remote`)."""

    name: str
    upstream: str
    """URL that operations' paths are appended to, without a slash at its end; with `remote` its endpoint."""
    remote: bool = False
    revision: str = "2026-07-28"
    """With `remote` the revision of the protocol that it is asked in."""
    title: str = ""
    instructions: str = ""
    credential: Credential | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with each request: texts, or vault references."""
    tools: tuple[Tool, ...] = ()
    """By name. Empty with `remote`."""
    allowed: tuple[RemoteTool, ...] = ()
    """With `remote`: those of its tools that are offered."""
    default_acl: Acl = Acl()
    pins: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of tools as they were approved, by name: a tool that has another one now is neither listed nor
    called. Tools that aren't here aren't pinned."""
    timeout_ms: int = 30_000
    """Of one request to the API."""
    retries: int = 0
    """Further tries of a request of an idempotent tool that got no answer, 502, 503 or 504."""
    max_response_bytes: int = 1_048_576
    """Of the API's reply; more is an error of the tool."""

    def remote_tool(self, name: Any) -> RemoteTool | None:
        """The remote server's tool of this name; None where it isn't offered."""
        return next((tool for tool in self.allowed if tool.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRequest:
    """An HTTP request to the API, without credentials."""

    method: str
    url: str
    """Path, and query after ``?``, percent-encoded; append it to the server's `upstream`."""
    headers: tuple[tuple[str, str], ...] = ()
    """``Accept``, ``Content-Type``, ``Cookie`` and the operation's own; names as the document writes them."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class ArgumentError:
    """Why a call's arguments don't make a request: a tool error (SEP-1303), not one of the protocol."""

    field: str
    """Path of the argument, such as ``body.tags[2]``; empty: the arguments as a whole."""
    message: str
    """What is wrong with it; never holds the value."""


def fingerprint(
    *,
    name: str,
    title: str = "",
    description: str = "",
    input_schema: Json,
    output_schema: Json | None = None,
    annotations: Any = None,
    target: str = "",
) -> str:
    """``sha256:…`` of a tool: all that a client is told of it and, where known, `target` (``GET /path``).

    `annotations` is JSON's value, or None. Members' order says nothing.
    """
    parts = [name, title, description, input_schema, output_schema, annotations, target]
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()

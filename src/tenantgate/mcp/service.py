"""The MCP endpoints of one tenant: what they answer themselves, and what of a call goes to an API.

Nothing here asks Kong, Redis or a network: `tenantgate.engine.tools` does that, and gives guards and limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from tenantgate.mcp.core.calls import Caller
from tenantgate.mcp.core.models import ModelCaller, ModelReader
from tenantgate.mcp.core.offers import Endpoint, Offer, endpoints
from tenantgate.mcp.core.protocol import params, results
from tenantgate.mcp.core.protocol.errors import HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, Failure
from tenantgate.mcp.core.protocol.messages import Request
from tenantgate.mcp.core.replies import ReplyReader
from tenantgate.mcp.core.tool import RemoteTool, Server
from tenantgate.pii.core import Placeholders, find_secrets, mask

__all__ = ["Answer", "McpEndpoints", "RemoteCall", "ToolCall", "redacted", "trace_of", "unknown_tool"]

_EARLIER_ONLY: Final = frozenset({"initialize", "ping", "logging/setLevel"})
_TRACE: Final = {
    "traceparent": re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
    "tracestate": re.compile(r"[\x21-\x7e][\x20-\x7e]{0,510}"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway answers itself: the JSON of a result."""

    result: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool, before it has become a request to its API."""

    request: Request
    endpoint: Endpoint
    offer: Offer
    arguments: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCall:
    """A request that goes on to a remote MCP server: a list of tools, or a call."""

    request: Request
    endpoint: Endpoint
    server: Server
    tool: RemoteTool | None = None
    """None: a list is asked for."""
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)


def trace_of(request: Request) -> dict[str, str]:
    """Headers of the trace that the client's ``_meta`` names (W3C trace context)."""
    return {
        name: value
        for name, form in _TRACE.items()
        if isinstance(value := request.meta.get(name), str) and form.fullmatch(value)
    }


Outcome: TypeAlias = Answer | ToolCall | RemoteCall | Failure


class McpEndpoints:
    """The endpoints of one tenant's record; made once for each version of it."""

    def __init__(self, servers: Iterable[Server], *, version: str) -> None:
        self._endpoints = endpoints(servers, version=version)
        self._callers: dict[tuple[str, str], Caller | ModelCaller] = {}
        self._readers: dict[tuple[str, str], ReplyReader | ModelReader] = {}

    def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint of a server, or with an empty name the one that joins them; None where there is none."""
        return self._endpoints.get(name) if len(self._endpoints) > 1 else None

    def caller(self, offer: Offer) -> Caller | ModelCaller:
        """What makes requests to the API of a call's arguments."""
        key = offer.server.name, offer.tool.name
        found = self._callers.get(key)
        if found is None:
            credential = offer.server.credential
            in_query = credential is not None and credential.location == "query"
            reserved = frozenset({credential.name} if credential is not None and in_query else ())
            found = self._callers[key] = (
                ModelCaller(offer.tool) if offer.tool.model else Caller(offer.tool, reserved=reserved)
            )
        return found

    def reader(self, offer: Offer) -> ReplyReader | ModelReader:
        """What makes results of the API's replies."""
        key = offer.server.name, offer.tool.name
        found = self._readers.get(key)
        if found is None:
            found = self._readers[key] = ModelReader() if offer.tool.model else ReplyReader(offer.tool)
        return found

    def handle(
        self,
        endpoint: Endpoint,
        request: Request,
        principals: AbstractSet[str],
        headers: Mapping[str, Sequence[str]],
    ) -> Outcome:
        """What becomes of a request.

        Args:
            endpoint: that it was sent to.
            request: as `tenantgate.mcp.core.protocol.messages.read` gives it.
            principals: names of the caller, for lists of access.
            headers: of the request: values by name in lower case.
        """
        handler = _HANDLERS.get(request.method)
        if handler is None or (request.modern and request.method in _EARLIER_ONLY):
            # Before 2026-07-28 an error is a response like any other.
            return Failure(
                status=404 if request.modern else 200,
                code=METHOD_NOT_FOUND,
                message="Method not found",
                id=request.id,
            )
        return handler(endpoint, request, principals, headers)


def _initialize(endpoint: Endpoint, request: Request, *_: Any) -> Outcome:
    return Answer(results.initialized(request, endpoint.identity))


def _discover(endpoint: Endpoint, request: Request, *_: Any) -> Outcome:
    return Answer(results.discovered(request, endpoint.identity))


def _ping(_endpoint: Endpoint, _request: Request, *_: Any) -> Outcome:
    return Answer(b"{}")


def _list(endpoint: Endpoint, request: Request, principals: AbstractSet[str], *_: Any) -> Outcome:
    if (remote := endpoint.remote) is not None:
        return RemoteCall(request=request, endpoint=endpoint, server=remote)
    made = results.page(request, endpoint.identity, endpoint.visible(principals))
    return Answer(made) if made is not None else _invalid(request, "params.cursor: isn't one of this list's.")


def _call(
    endpoint: Endpoint, request: Request, principals: AbstractSet[str], headers: Mapping[str, Sequence[str]]
) -> Outcome:
    name, arguments = request.params.get("name"), request.params.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict | None):
        return _invalid(request, "params.name: must be a text; params.arguments: an object.")
    if (remote := endpoint.remote) is not None:
        if (tool := endpoint.remote_tool(name, principals)) is None:
            return unknown_tool(request)
        return RemoteCall(
            request=request, endpoint=endpoint, server=remote, tool=tool, arguments=arguments or {}
        )
    offer = endpoint.offer(name, principals)
    if offer is None:
        return unknown_tool(request)
    made = ToolCall(request=request, endpoint=endpoint, offer=offer, arguments=arguments or {})
    if request.modern and (wrong := params.mismatch(offer.tool.input_schema, made.arguments, headers)):
        text = f"{wrong} must be the same as its argument."
        return Failure(status=400, code=HEADER_MISMATCH, message=text, id=request.id)
    return made


def unknown_tool(request: Request) -> Failure:
    """What a caller is told of a tool that isn't there, isn't for it, or isn't what was approved: always the same."""
    return _invalid(request, "Unknown tool")


def _invalid(request: Request, text: str) -> Failure:
    return Failure(status=200, code=INVALID_PARAMS, message=text, id=request.id)


_HANDLERS: Final[Mapping[str, Callable[..., Outcome]]] = {
    "initialize": _initialize,
    "ping": _ping,
    "server/discover": _discover,
    "tools/call": _call,
    "tools/list": _list,
}


def redacted(text: str) -> str:
    """The text without keys, tokens and passwords."""
    return mask(text, find_secrets(text), Placeholders()).text

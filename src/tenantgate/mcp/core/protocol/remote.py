"""Requests to a remote MCP server, and what of its answers goes on. Nothing of a session: it must not demand one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tenantgate.mcp.core.protocol.messages import strict_json
from tenantgate.mcp.core.protocol.results import dump
from tenantgate.mcp.core.protocol.revisions import CAPABILITIES, MODERN, VERSION
from tenantgate.mcp.core.tool import Server, UpstreamRequest, fingerprint

__all__ = ["listed_tools", "remote_request", "response_in", "seen_in"]

_ID: Final = 1
_SHOWN: Final = frozenset({"name", "title", "description", "inputSchema", "outputSchema", "annotations"})
"""Of a tool's description what goes on: what its fingerprint covers, and nothing that clients would act on beyond."""


def remote_request(
    revision: str, method: str, params: Mapping[str, Any], trace: Mapping[str, str]
) -> UpstreamRequest:
    """A request in the revision that the server speaks. `trace`: headers of the trace, which go along in ``_meta``."""
    headers = [
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
        ("MCP-Protocol-Version", revision),
    ]
    sent: dict[str, Any] = dict(params)
    meta: dict[str, Any] = dict(trace)
    if revision == MODERN:
        meta |= {VERSION: revision, CAPABILITIES: {}}
        headers.append(("Mcp-Method", method))
        if isinstance(name := params.get("name"), str):
            headers.append(("Mcp-Name", name))
    if meta:
        sent["_meta"] = meta
    body = dump({"jsonrpc": "2.0", "id": _ID, "method": method, "params": sent})
    return UpstreamRequest(method="POST", url="", headers=tuple(headers), body=body)


def response_in(body: bytes, content_type: str) -> Mapping[str, Any] | None:
    """The JSON-RPC response in a server's reply, JSON or events; None where there is none."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind != "text/event-stream":
            return _response(body)
        for event in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
            lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines and (found := _response(b"\n".join(lines))) is not None:
                return found
    except ValueError:
        return None
    return None


def _response(raw: bytes) -> Mapping[str, Any] | None:
    value = strict_json(raw)
    if isinstance(value, dict) and value.get("jsonrpc") == "2.0" and value.get("id") == _ID:
        for member in ("result", "error"):
            if isinstance(value.get(member), dict):
                return value
    return None


def listed_tools(
    server: Server, result: Mapping[str, Any], passes: Callable[[Any], bool]
) -> list[dict[str, Any]]:
    """The tools of a remote list that are offered: those that are allowed, and are what was approved.

    `passes`: whether a tool is for this caller, and the guard lets its description pass.
    """
    seen = seen_in(server, result)
    changed = {name for name, found in seen.items() if found != server.pins[name]}
    out = {}
    for tool in _allowed(server, result):
        shown = {k: v for k, v in tool.items() if k in _SHOWN}
        name = str(shown["name"])
        if name not in out and name not in changed and passes(shown):
            out[name] = shown
    return [out[name] for name in sorted(out)]


def seen_in(server: Server, result: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of the pinned tools in a remote list, by name; empty for what is no tool, or is there twice."""
    seen: dict[str, str] = {}
    tools = result.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        name = tool.get("name") if isinstance(tool, dict) else None
        if isinstance(name, str) and name in server.pins:
            found = _fingerprint(tool) if isinstance(tool.get("inputSchema"), dict) else ""
            seen[name] = found if seen.get(name, found) == found else ""
    return seen


def _allowed(server: Server, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    tools = result.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        known = isinstance(tool, dict) and server.remote_tool(tool.get("name")) is not None
        if known and isinstance(tool.get("inputSchema"), dict):
            yield tool


def _fingerprint(tool: Mapping[str, Any]) -> str:
    return fingerprint(
        name=tool["name"],
        title=str(tool.get("title") or ""),
        description=str(tool.get("description") or ""),
        input_schema=tool["inputSchema"],
        output_schema=tool.get("outputSchema"),
        annotations=tool.get("annotations"),
    )

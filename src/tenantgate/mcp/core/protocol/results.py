"""Results, as bytes of JSON-RPC responses. What is the same for all requests is written once."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.mcp.core.protocol.errors import Id
from tenantgate.mcp.core.protocol.messages import Request
from tenantgate.mcp.core.protocol.revisions import SUPPORTED, negotiated
from tenantgate.mcp.core.tool import Tool

__all__ = [
    "Identity",
    "described",
    "discovered",
    "dump",
    "initialized",
    "is_media",
    "page",
    "response",
    "tool_error",
]

_TTL_MS: Final = 60_000
"""How long a client may go by a list: policies change at any time, and nobody tells it."""
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
_PAGE: Final = 100  # tools
_PAGE_BYTES: Final = 400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a server says of itself."""

    name: str
    title: str
    version: str
    instructions: str

    @property
    def info(self) -> dict[str, str]:
        """As ``serverInfo``."""
        return {"name": self.name, "version": self.version, **({"title": self.title} if self.title else {})}


def dump(value: Any) -> bytes:
    """Compact JSON in UTF-8; half of a surrogate pair becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "replace"
    )


def response(request_id: Id, result: bytes) -> bytes:
    """The JSON-RPC response with this result."""
    return b'{"jsonrpc":"2.0","id":' + dump(request_id) + b',"result":' + result + b"}"


def result_of(
    request: Request, identity: Identity, members: Mapping[str, Any], meta: Mapping[str, Any] | None = None
) -> bytes:
    """A result with what each one has in the request's revision; `meta`: more of its ``_meta``."""
    made = {**_common(request, identity), **members}
    if meta:
        made["_meta"] = {**made.get("_meta", {}), **meta}
    return dump(made)


def _common(request: Request, identity: Identity) -> dict[str, Any]:
    if not request.modern:
        return {}
    return {"resultType": "complete", "_meta": {_SERVER_INFO: identity.info}}


def initialized(request: Request, identity: Identity) -> bytes:
    """The result of `initialize`."""
    made: dict[str, Any] = {
        "protocolVersion": negotiated(request.params.get("protocolVersion")),
        "capabilities": {"tools": {}},
        "serverInfo": identity.info,
    }
    return dump({**made, **({"instructions": identity.instructions} if identity.instructions else {})})


def discovered(request: Request, identity: Identity) -> bytes:
    """The result of `server/discover`."""
    made: dict[str, Any] = {
        "supportedVersions": list(SUPPORTED),
        "capabilities": {"tools": {}},
        "ttlMs": _TTL_MS,
        "cacheScope": "private",
    }
    if identity.instructions:
        made["instructions"] = identity.instructions
    return result_of(request, identity, made)


def described(tool: Tool, name: str) -> bytes:
    """A tool of a list, called `name` there."""
    hints = tool.annotations
    made: dict[str, Any] = {"name": name}
    if tool.title:
        made["title"] = tool.title
    if tool.description:
        made["description"] = tool.description
    made["inputSchema"] = tool.input_schema
    if tool.output_schema is not None:
        made["outputSchema"] = tool.output_schema
    made["annotations"] = {
        "readOnlyHint": hints.read_only,
        "destructiveHint": hints.destructive,
        "idempotentHint": hints.idempotent,
        "openWorldHint": hints.open_world,
    }
    return dump(made)


def page(request: Request, identity: Identity, tools: Sequence[tuple[str, bytes]]) -> bytes | None:
    """The result of `tools/list`: the tools after the cursor's; None where the cursor is none.

    `tools`: name and description (`described`) of those that the client may see, by name.
    """
    start = 0
    cursor = request.params.get("cursor")
    if cursor is not None:
        last = _last_of(cursor)
        if last is None:
            return None
        while start < len(tools) and tools[start][0] <= last:
            start += 1
    parts: list[bytes] = []
    size, end = 0, start
    while end < len(tools) and (end == start or (end - start < _PAGE and size < _PAGE_BYTES)):
        parts.append(tools[end][1])
        size += len(tools[end][1])
        end += 1
    members: dict[str, Any] = _common(request, identity)
    if request.modern:
        members |= {"ttlMs": _TTL_MS, "cacheScope": "private"}
    if end < len(tools):
        members["nextCursor"] = base64.urlsafe_b64encode(tools[end - 1][0].encode()).decode()
    more = dump(members)[1:-1]
    return b'{"tools":[' + b",".join(parts) + b"]" + (b"," + more if more else b"") + b"}"


def _last_of(cursor: Any) -> str | None:
    try:
        return base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode("utf-8")
    except (AttributeError, ValueError):
        return None


def tool_error(text: str) -> dict[str, Any]:
    """A result that says why a call went wrong; the model reads it."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def is_media(part: Mapping[str, Any]) -> bool:
    """Whether a part of a result has data of a picture or a sound: no text stands there, so no guard reads it."""
    data = part.get("data")
    return part.get("type") in ("image", "audio") and isinstance(data, str) and bool(_BASE64.fullmatch(data))

"""An API's reply as the result of a tool, and a remote server's response."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.mcp.core.protocol.messages import strict_json
from tenantgate.mcp.core.protocol.results import dump, tool_error
from tenantgate.mcp.core.tool import Tool

__all__ = ["Reply", "of_remote", "read_reply", "result_of_reply"]

_MOST_ERROR: Final = 2_000
"""Characters of an error's body that the model gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an API answered, as far as a model can read it."""

    status: int
    kind: str
    """Media type, without parameters; empty: none was given."""
    value: Any = field(default=None, repr=False)
    """Of JSON the value, of another text the text; None: there is neither."""
    text: str = field(default="", repr=False)
    is_json: bool = False
    data: bytes = field(default=b"", repr=False)
    """Of a picture or a sound."""


def read_reply(status: int, content_type: str, body: bytes) -> Reply:
    """The reply with this head and body."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith(("image/", "audio/")) and status < 300:
        return Reply(status=status, kind=kind, data=body)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return Reply(status=status, kind=kind)
    if not text:
        return Reply(status=status, kind=kind)
    if kind != "application/json" and not kind.endswith("+json"):
        return Reply(status=status, kind=kind, value=text, text=text)
    try:
        value = strict_json(body)
    except ValueError:
        try:
            # Whoever checks the value must see what the model reads: of two members of one name it is one.
            value = json.loads(text)
            text = dump(value).decode()
        except (ValueError, RecursionError):
            return Reply(status=status, kind=kind, value=text, text=text)
    return Reply(status=status, kind=kind, value=value, text=text, is_json=True)


def result_of_reply(
    tool: Tool,
    reply: Reply,
    *,
    changed: Any,
    redact: Callable[[str], str],
    fits: Callable[[Mapping[str, Any], Any], bool],
) -> dict[str, Any]:
    """The result of a call.

    Args:
        tool: that was called.
        reply: of the API.
        changed: its value as the guard lets it pass.
        redact: takes secrets out of a text.
        fits: whether a value fits a schema.
    """
    text = reply.text if changed is reply.value else changed if isinstance(changed, str) else dump(changed).decode()
    if reply.status >= 300:
        clipped = text if len(text) <= _MOST_ERROR else text[:_MOST_ERROR] + " …"
        return tool_error(f"HTTP {reply.status}" + (f": {redact(clipped)}" if clipped else ""))
    if reply.data:
        data = base64.b64encode(reply.data).decode("ascii")
        part = {"type": reply.kind.partition("/")[0], "data": data, "mimeType": reply.kind}
        return {"content": [part], "isError": tool.output_schema is not None}
    if reply.value is None and not reply.is_json:
        return {
            "content": [{"type": "text", "text": f"HTTP {reply.status}, without a text."}],
            "isError": tool.output_schema is not None,
        }
    made: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": False}
    if tool.output_schema is None:
        return made
    structured = {"result": changed} if tool.wraps_output else changed
    if not fits(tool.output_schema, structured):
        # Clients check it, too, and would refuse the result. A model can still make something of the text.
        return {**made, "isError": True}
    return {**made, "structuredContent": structured}


def of_remote(body: bytes, content_type: str) -> Mapping[str, Any] | None:
    """The JSON-RPC response in a remote server's reply, JSON or events; None where there is none."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind != "text/event-stream":
            return _response(body)
        for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
            lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines and (found := _response(b"\n".join(lines))) is not None:
                return found
    except ValueError:
        return None
    return None


def _response(raw: bytes) -> Mapping[str, Any] | None:
    value = strict_json(raw)
    if isinstance(value, dict) and value.get("jsonrpc") == "2.0" and "id" in value:
        for member in ("result", "error"):
            if isinstance(value.get(member), dict):
                return value
    return None

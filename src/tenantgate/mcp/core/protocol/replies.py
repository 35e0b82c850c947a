"""A remote server's reply: the JSON-RPC response in JSON or in events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantgate.mcp.core.protocol.messages import strict_json

__all__ = ["of_remote"]


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

"""Errors of the protocol: those of JSON-RPC 2.0, and MCP's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

__all__ = [
    "HEADER_MISMATCH",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "UNSUPPORTED_VERSION",
    "Failure",
    "Id",
]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
HEADER_MISMATCH: Final = -32020
UNSUPPORTED_VERSION: Final = -32022

Id: TypeAlias = str | int | float | None
"""Of a request; None where it can't be told, or the message has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error in place of a result."""

    status: int
    """HTTP's."""
    code: int
    message: str
    """Never holds what the client or a server wrote, beyond names that the protocol has."""
    id: Id = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        """The JSON-RPC error response."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data:
            error["data"] = dict(self.data)
        return json.dumps(
            {"jsonrpc": "2.0", "id": self.id, "error": error}, ensure_ascii=False, separators=(",", ":")
        ).encode("utf-8", "replace")

"""The protocol's revisions, and which one a request speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["CAPABILITIES", "LATEST_EARLIER", "MODERN", "SUPPORTED", "VERSION", "is_modern", "negotiated"]

MODERN: Final = "2026-07-28"
LATEST_EARLIER: Final = "2025-11-25"
_EARLIER: Final = (LATEST_EARLIER, "2025-06-18", "2025-03-26")
"""Of 2025-03-26 clients get what 2025-06-18 has in common with it: all but batches."""
SUPPORTED: Final = (MODERN, LATEST_EARLIER, "2025-06-18")

VERSION: Final = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"


def is_modern(header: str | None, meta: Mapping[str, Any]) -> bool:
    """Whether a request is stateless, as since 2026-07-28: it says its revision, or isn't one with `initialize`.

    `header`: of ``MCP-Protocol-Version``, which clients before 2025-06-18 don't send.
    """
    return VERSION in meta or (header is not None and header not in _EARLIER)


def negotiated(asked: Any) -> str:
    """The revision by which an `initialize` is answered: the client's, or the latest of its kind."""
    return asked if asked in _EARLIER else LATEST_EARLIER

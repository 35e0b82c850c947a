"""Arguments that a header repeats (``Mcp-Param-…``), where the tool's schema says so by ``x-mcp-header``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tenantgate.mcp.core.protocol.messages import decoded

__all__ = ["mismatch"]

_MARK: Final = "x-mcp-header"
_MOST_DEPTH: Final = 16


def mismatch(
    schema: Mapping[str, Any], arguments: Mapping[str, Any], headers: Mapping[str, Sequence[str]]
) -> str | None:
    """Name of the first header that isn't the same as its argument; None: all are. `headers`: by name in lower case."""
    for name, path in _marked(schema, ()):
        value: Any = arguments
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        shown = headers.get(f"mcp-param-{name.lower()}", ())
        if value is None and not shown:
            continue
        if value is None or len(shown) != 1 or not _same(value, decoded(shown[0].strip(" \t"))):
            return f"Mcp-Param-{name}"
    return None


def _marked(schema: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or len(path) > _MOST_DEPTH:
        return
    for member, inner in properties.items():
        if isinstance(inner, dict):
            if isinstance(name := inner.get(_MARK), str) and name:
                yield name, (*path, member)
            yield from _marked(inner, (*path, member))


def _same(value: Any, shown: str | None) -> bool:
    if shown is None:
        return False
    if isinstance(value, bool):
        return shown == ("true" if value else "false")
    if isinstance(value, int | float):
        try:
            return float(shown) == value
        except ValueError:
            return False
    return isinstance(value, str) and value == shown

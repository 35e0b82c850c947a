"""What another version of a document changes in its tools, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tenantgate.mcp.core.tool import Tool

__all__ = ["changes"]


def changes(old: Mapping[str, Tool | None], new: Mapping[str, Tool | None]) -> Iterator[str]:
    """A line for each tool that is added, removed or changed, by name. None: an operation that can't be a tool."""
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before is None and after is None:
            continue
        if before is None:
            yield f"{name}: added"
        elif after is None:
            yield f"{name}: {'no tool any more' if name in new else 'removed'}"
        elif before.fingerprint != after.fingerprint:
            yield f"{name}: {', '.join(_differences(before, after))}"


def _differences(before: Tool, after: Tool) -> Iterator[str]:
    for what in ("title", "description"):
        if getattr(before, what) != getattr(after, what):
            yield what
    ours, theirs = (f"{t.operation.method} {t.operation.path}" for t in (before, after))
    if ours != theirs:
        yield f"{ours} → {theirs}"
    if before.annotations != after.annotations:
        yield "annotations"
    yield from _of_arguments(before.input_schema, after.input_schema)
    if before.output_schema != after.output_schema:
        yield "reply"


def _of_arguments(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    ours, theirs = before.get("properties", {}), after.get("properties", {})
    required = set(before.get("required", ())), set(after.get("required", ()))
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours:
            yield f"argument {name} added{', required' if name in required[1] else ''}"
        elif name not in theirs:
            yield f"argument {name} removed"
        elif ours[name] != theirs[name]:
            yield f"argument {name} changed"
        elif (name in required[0]) != (name in required[1]):
            yield f"argument {name} {'required now' if name in required[1] else 'not required any more'}"

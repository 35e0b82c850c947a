"""The beginning of the system prompt that is the operator's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["prefixed"]

_SYSTEM: Final = ("system", "developer")
_BETWEEN: Final = "\n\n"


def prefixed(messages: Sequence[Mapping[str, Any]], prefix: str) -> tuple[Mapping[str, Any], ...]:
    """The messages with `prefix` before all else that the model reads.

    It joins the client's own system prompt, where the first message is one: some models take only one. Messages that
    begin with it already stay as they are.
    """
    first = messages[0] if messages else {}
    if first.get("role") not in _SYSTEM:
        return ({"role": "system", "content": prefix}, *messages)
    content = first.get("content")
    if isinstance(content, str):
        if content == prefix or content.startswith(prefix + _BETWEEN):
            return tuple(messages)
        joined: Any = prefix + _BETWEEN + content if content else prefix
    elif isinstance(content, list):
        part = {"type": "text", "text": prefix}
        if content and content[0] == part:
            return tuple(messages)
        joined = [part, *content]
    else:
        joined = prefix
    return ({**first, "content": joined}, *messages[1:])

"""A body in one of the formats as a chat, by the one strict grammar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tenantgate.llm.body import parse
from tenantgate.llm.formats import messages, responses
from tenantgate.llm.formats.paths import Format
from tenantgate.llm.formats.reading import Find, Reader, RefusedError, Translated
from tenantgate.llm.refusal import Reason, Refusal

__all__ = ["to_chat"]

_READERS: Final[Mapping[Format, Callable[[Reader, dict[str, Any]], dict[str, Any]]]] = {
    Format.MESSAGES: messages.chat_of,
    Format.RESPONSES: responses.chat_of,
}


def to_chat(
    of: Format, raw: bytes, *, counting: bool = False, native: bool = False, find: Find | None = None
) -> Translated | Refusal:
    """The chat request that a body means.

    Args:
        of: the body's format.
        raw: any bytes.
        native: the provider has this format; then the chat keeps hints that only such a provider understands: marks
            for its cache as ``cache_control``, ``thinking``, ``output_config``, and in messages ``thinking_blocks``.
        counting: only its tokens are asked for, so that it needs no ``max_tokens``.
        find: gives the items that a request only refers to; called once at most.
    """
    value = parse(raw)
    if isinstance(value, Refusal):
        return value
    if not isinstance(value, dict):
        return Refusal(Reason.NOT_CHAT, "The body must be a JSON object.")
    if counting:
        value = {"max_tokens": 1, **value}
    reader = Reader(native=native, find=find)
    try:
        body = _READERS[of](reader, value)
    except RefusedError as refused:
        return refused.refusal
    return Translated(body, tuple(sorted(reader.ignored)), reader.stored)

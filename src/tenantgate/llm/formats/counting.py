"""What of a chat request counts as tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tenantgate.llm.body import write

__all__ = ["estimate"]

_MESSAGE: Final = 4
"""Tokens around each message: its role and what separates it (OpenAI's cookbook, "How to count tokens")."""
_IMAGE: Final = 1_500
"""Tokens of an image, about: (width × height) / 750 by Anthropic's documentation, 1,600 at most."""


def estimate(body: Mapping[str, Any], count: Callable[[str], int]) -> int:
    """Input tokens of a chat request; an estimate, since each model has a vocabulary of its own.

    Args:
        body: of the request.
        count: tokens of a text.
    """
    messages: list[Mapping[str, Any]] = body["messages"]
    texts = "\n".join(_texts(body))
    images: int = sum(part.get("type") == "image_url" for m in messages for part in _parts(m))
    return count(texts) + _MESSAGE * len(messages) + _IMAGE * images


def _parts(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _texts(body: Mapping[str, Any]) -> Iterator[str]:
    for message in body["messages"]:
        if isinstance(content := message.get("content"), str):
            yield content
        yield from (part["text"] for part in _parts(message) if part.get("type") == "text")
        for call in message.get("tool_calls", ()):
            yield from (call["function"]["name"], call["function"]["arguments"])
    for name in ("tools", "response_format"):
        if name in body:
            yield write(body[name]).decode()

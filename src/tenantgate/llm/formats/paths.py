"""The format that a request's path stands for."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["Format", "counts_tokens", "format_of"]


class Format(enum.StrEnum):
    """A format besides OpenAI's chat; the value is the route's name."""

    MESSAGES = "messages"
    RESPONSES = "responses"


_COUNT: Final = "/v1/messages/count_tokens"
_ENDS: Final = {"/v1/messages": Format.MESSAGES, _COUNT: Format.MESSAGES, "/v1/responses": Format.RESPONSES}


def format_of(path: str) -> Format | None:
    """The format of requests to this path; None for chat, and for what is no such operation."""
    return next((found for end, found in _ENDS.items() if path.endswith(end)), None)


def counts_tokens(path: str) -> bool:
    """Whether the path is that of the operation which counts a request's tokens."""
    return path.endswith(_COUNT)

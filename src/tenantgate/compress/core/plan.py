"""Which texts of a request are compressed, how far, and how the results get back to their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.compress.config import CompressConfig
from tenantgate.llm.chat import ChatRequest

__all__ = ["Part", "is_text", "parts", "rate_for", "replaced"]

_TYPES: Final = {"developer": "system", "function": "tool"}


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a request: message `message`, its content (`part` None) or one of its parts."""

    message: int
    part: int | None
    role: str
    text: str


def parts(request: ChatRequest, config: CompressConfig) -> tuple[Part, ...]:
    """The texts that may be compressed: of the chosen roles, all text, nothing of a tool's protocol."""
    found: list[Part] = []
    for i, message in enumerate(request.messages):
        role = message.get("role")
        if not isinstance(role, str) or _TYPES.get(role, role) not in config.message_type:
            continue
        content = message.get("content")
        if isinstance(content, str):
            found.append(Part(i, None, role, content))
        elif isinstance(content, list):
            found += (
                Part(i, j, role, part["text"])
                for j, part in enumerate(content)
                if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
            )
    return tuple(part for part in found if is_text(part.text))


def is_text(text: str) -> bool:
    """Whether `text` has no lone surrogate, which no model and no digest takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def rate_for(tokens: int, config: CompressConfig) -> float | None:
    """The share of words that stays of a text of `tokens`, above 0; None: don't prune."""
    for r in config.ranges:
        if r.min_tokens <= tokens < r.max_tokens:
            rate = r.value if config.compressor_type == "rate" else r.value / tokens
            return rate if rate < 1 else None
    return None


def replaced(request: ChatRequest, texts: Sequence[tuple[Part, str]]) -> dict[str, Any]:
    """The request's body with other texts; all else is as the client sent it."""
    messages: list[Mapping[str, Any]] = list(request.messages)
    for part, text in texts:
        message = dict(messages[part.message])
        if part.part is None:
            message["content"] = text
        else:
            content = list(message["content"])
            content[part.part] = {**content[part.part], "text": text}
            message["content"] = content
        messages[part.message] = message
    return {**request.body, "messages": messages}

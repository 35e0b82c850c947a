"""Parts of a chat request that both formats give."""

from __future__ import annotations

from typing import Any

__all__ = ["content_of", "function_tool", "stream_members", "text_part", "with_system"]


def text_part(text: str) -> dict[str, Any]:
    """A part of a message's content."""
    return {"type": "text", "text": text}


def content_of(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A message's content: one plain text as a string, which every provider's driver takes."""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        text: str = parts[0]["text"]
        return text
    return parts


def with_system(system: list[str], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with one system message at their head: of several ai-proxy's Anthropic driver takes the last."""
    text = "\n\n".join(filter(None, system))
    return [{"role": "system", "content": text}, *messages] if text else messages


def function_tool(
    name: str, description: str | None, parameters: dict[str, Any] | None, *, strict: bool | None
) -> dict[str, Any]:
    """A tool."""
    members = {"name": name, "description": description, "parameters": parameters, "strict": strict}
    return {"type": "function", "function": {k: v for k, v in members.items() if v is not None}}


def stream_members(*, stream: bool | None) -> dict[str, Any]:
    """The members that make a chat a stream, which says its usage at its end: both formats' streams do."""
    if stream is None:
        return {}
    return {"stream": stream, **({"stream_options": {"include_usage": True}} if stream else {})}

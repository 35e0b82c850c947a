"""Prompts and replies as they came, and the texts in them by message.

What came may be cut off at a bound of bytes; its beginning is read all the same. Shapes are OpenAI's, as in
`tenantgate.llm.chat`, but here nothing is refused: an audit log must read what a cache may pass by. What can't be read
as JSON is not kept at all, since its escapes could hide from any detector what a reader would still find.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["ROLES", "Message", "Part", "RawContent", "Readable", "complete", "read"]

_TOKEN: Final = re.compile(r'[ \t\r\n]*+("(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^\s"{}\[\],:]++)', re.DOTALL)
_OPEN_TEXT: Final = re.compile(r'[ \t\r\n]*+"(?:[^"\\]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
"""Roles that a record names; any other is ``other``."""
_NUMBERS: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "n": "choice.count",
}
_MOST_MESSAGES: Final = 2000


@dataclass(frozen=True, slots=True)
class RawContent:
    """Content of a request as the plugin took it. Never log it.

    Attributes:
        body: the beginning of the request's body; None if it wasn't read.
        body_size: how long the body was, in bytes.
        reply: the beginning of the reply, a ``chat.completion`` as Kong logged it; None if there was none.
        reply_size: how long that was, in bytes.
        headers: the values of the allowed headers.
    """

    body: bytes | None = field(default=None, repr=False)
    body_size: int = 0
    reply: bytes | None = field(default=None, repr=False)
    reply_size: int = 0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message; `fields` holds its texts, each of which may hold anything.

    `type` is as in OpenTelemetry's gen_ai messages: ``text``, ``tool_call``, ``tool_call_response``, or the type of
    what isn't kept, such as ``image``.
    """

    type: str
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """A message and its role; `finish_reason` for replies only."""

    role: str
    parts: tuple[Part, ...]
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Readable:
    """A body that was read.

    Attributes:
        messages: in order; the last one may be cut off.
        cut: whether something is missing at the end.
        settings: numbers and flags of the request, named as OpenTelemetry has them after ``gen_ai.request.``.
    """

    messages: tuple[Message, ...]
    cut: bool
    settings: Mapping[str, float | bool]


def read(raw: bytes, size: int) -> Readable | None:
    """The messages of a request or a reply of `size` bytes, from its beginning; None if it is no such JSON."""
    cut = size > len(raw)
    text = raw.decode("utf-8", "ignore" if cut else "replace")
    if not cut and "\ufffd" in text and not _utf8(raw):
        return None
    try:
        body = json.loads(complete(text) if cut else text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    entries: Any = body.get("messages")
    replies = body.get("choices")
    if isinstance(entries, list):
        messages = tuple(_message(m) for m in entries[:_MOST_MESSAGES] if isinstance(m, dict))
        cut = cut or len(entries) > _MOST_MESSAGES
    elif isinstance(replies, list):
        messages = tuple(_reply(c) for c in replies[:_MOST_MESSAGES] if isinstance(c, dict))
    elif not cut:
        return None
    else:
        messages = ()
    return Readable(messages, cut, _settings(body))


def complete(text: str) -> str:
    """The beginning of a JSON text, closed where it was cut off; raises ValueError where nothing can be made of it."""
    stack: list[str] = []
    safe, closers = 0, ""  # up to where it can be kept, and what then closes it
    key = False  # whether a text here would be a key
    at = 0
    while (match := _TOKEN.match(text, at)) is not None:
        lexeme, before = match.group(1), key
        at = match.end()
        if lexeme in "{[":
            stack.append("}" if lexeme == "{" else "]")
            key = lexeme == "{"
        elif lexeme in "}]":
            if not stack or stack.pop() != lexeme:
                raise ValueError("brackets")
            key = False
        elif lexeme == ",":
            key = bool(stack) and stack[-1] == "}"
            continue
        elif lexeme == ":":
            key = False
            continue
        elif before or (lexeme[0] != '"' and at == len(text)):
            continue  # a key, or a number that may go on
        safe, closers = at, "".join(reversed(stack))
    if not key and (match := _OPEN_TEXT.match(text, at)) is not None:
        return text[: match.end()] + '"' + "".join(reversed(stack))
    if not safe:
        raise ValueError("nothing whole")
    return text[:safe] + closers


def _utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _message(found: Mapping[str, Any]) -> Message:
    role = found.get("role")
    named = role if isinstance(role, str) and role in ROLES else "other"
    parts = list(_parts(found.get("content"), found))
    name = found.get("name")
    if isinstance(name, str) and name and parts:
        parts[0] = Part(parts[0].type, {**parts[0].fields, "name": name})
    return Message(named, (*parts, *_calls(found.get("tool_calls"))))


def _reply(choice: Mapping[str, Any]) -> Message:
    message = choice.get("message")
    reason = choice.get("finish_reason")
    known = isinstance(reason, str) and re.fullmatch(r"[a-z_]{1,32}", reason)
    # A text completion has its text in the choice itself.
    inner = _message(message if isinstance(message, dict) else {"content": choice.get("text")})
    refusal = message.get("refusal") if isinstance(message, dict) else None
    parts = (*inner.parts, Part("text", {"content": refusal})) if isinstance(refusal, str) else inner.parts
    return Message("assistant", parts, str(reason) if known else None)


def _parts(content: Any, message: Mapping[str, Any]) -> Iterator[Part]:
    if isinstance(content, str):
        if message.get("role") == "tool":
            yield Part(
                "tool_call_response",
                {"id": _str(message.get("tool_call_id")), "response": _json_text(content)},
            )
        else:
            yield Part("text", {"content": _json_text(content)})
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            yield Part("text", {"content": _json_text(text)})
        else:
            yield Part(kind.split("_")[0] if kind in {"image_url", "input_audio", "file"} else "other")


def _calls(calls: Any) -> Iterator[Part]:
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            yield Part("other")
            continue
        arguments = function.get("arguments")
        yield Part(
            "tool_call",
            {
                "id": _str(call.get("id")),
                "name": _str(function.get("name")),
                "arguments": _json_text(arguments, only=True) if isinstance(arguments, str) else "",
            },
        )


def _str(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _json_text(text: str, *, only: bool = False) -> str:
    """The text; JSON within it is written without escapes, which could hide what it holds. `only`: nothing but JSON."""
    if not only and text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return "" if only else text


def _settings(body: Mapping[str, Any]) -> dict[str, float | bool]:
    out: dict[str, float | bool] = {}
    for name, setting in _NUMBERS.items():
        value = body.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:
            out[setting] = value
    if isinstance(body.get("stream"), bool):
        out["stream"] = body["stream"]
    tools: Sequence[Any] | Any = body.get("tools")
    if isinstance(tools, list):
        out["tools"] = len(tools)
    return out

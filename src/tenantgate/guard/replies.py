"""A provider's reply as Kong's response phase sees it: raw, in the provider's own shape, plain or as events.

What is sent in its place must be in OpenAI's shape, because an answer from this phase isn't normalised by ai-proxy.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tenantgate import chat
from tenantgate.chat import JSON_TYPE, SSE_TYPE, ChatReply

__all__ = ["RawReply", "decompress", "error_of", "parse", "text_of"]

_REASONS: Final = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "STOP": "stop", "MAX_TOKENS": "length",
    "COMPLETE": "stop", "tool_use": "tool_calls",
}  # fmt: skip
_KNOWN: Final = frozenset({"role", "content", "refusal", "tool_calls"})


@dataclass(frozen=True, slots=True)
class RawReply:
    """A reply that was read.

    Attributes:
        body: the reply as JSON; of a stream, what its events add up to, as a ``chat.completion``.
        events: whether the client gets server-sent events.
        native: whether `body` may be sent as it is: OpenAI's shape, not put together from events.
        reply: the reply in OpenAI's terms; None where there is more to it than text and tool calls.
    """

    body: Any
    events: bool
    native: bool
    reply: ChatReply | None

    def rewritten(self, body: Any, *, identifier: str, created: int) -> tuple[bytes, str] | None:
        """`body` in this reply's place, and its content type; None where OpenAI's shape can't tell it."""
        if self.native:
            return json.dumps(body, separators=(",", ":")).encode("ascii"), JSON_TYPE
        reply = chat.parse_reply(body) if self.events else _told(body)
        if reply is None or not isinstance(body, Mapping):
            return None
        reply = replace(reply, finish_reason=_REASONS.get(reply.finish_reason or "", reply.finish_reason))
        if self.events:
            usage = reply.usage is not None
            return chat.reply_sse(
                reply, identifier=identifier, created=created, include_usage=usage
            ), SSE_TYPE
        return chat.reply_json(reply, identifier=identifier, created=created), JSON_TYPE


def decompress(raw: bytes, encoding: str | None, most: int) -> bytes | None:
    """The body without its content encoding; None if that is unknown, broken, or gives more than `most` bytes."""
    names = [
        n.strip().lower()
        for n in (encoding or "").split(",")
        if n.strip() and n.strip().lower() != "identity"
    ]
    for name in reversed(names):
        if name not in ("gzip", "x-gzip", "deflate"):
            return None
        inflater = zlib.decompressobj(47 if "gzip" in name else 15)
        try:
            raw = inflater.decompress(raw, most + 1)
        except zlib.error:
            return None
        if not inflater.eof:
            return None
    return raw if len(raw) <= most else None


def parse(raw: bytes, content_type: str | None) -> RawReply | None:
    """The reply; None for what is no JSON and no events."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if (content_type or "").startswith("text/event-stream"):
        body = _assembled(_events(text))
        return (
            None if body is None else RawReply(body, events=True, native=False, reply=chat.parse_reply(body))
        )
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    native = isinstance(body, Mapping) and isinstance(body.get("choices"), list)
    return RawReply(
        body, events=False, native=native, reply=chat.parse_reply(body) if native else _told(body)
    )


def error_of(raw: bytes) -> str:
    """What of a provider's error a rule reads: all of it, whatever it is; of JSON without escapes."""
    text = raw.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def text_of(body: Any) -> Any:
    """What of a reply a rule reads: the messages, not the ids and numbers around them."""
    if isinstance(body, Mapping):
        for name in ("choices", "content", "candidates", "message", "error"):
            if name in body:
                return {name: body[name]}
    return body


def _events(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.startswith("data:"):
            try:
                value = json.loads(line[5:])
            except (ValueError, RecursionError):
                continue
            if isinstance(value, Mapping):
                yield value


class _Said:
    """What the chunks of one choice add up to."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.calls: dict[int, dict[str, Any]] = {}
        self.beside: dict[str, list[str]] = {}
        self.reason: Any = None

    def add(self, delta: Mapping[str, Any]) -> None:
        """One more chunk, as OpenAI and those who follow it send it."""
        self.text.append(_string(delta.get("content")) + _string(delta.get("refusal")))
        for call in _mappings(delta.get("tool_calls")):
            _add_call(self.calls, call)
        for name, value in delta.items():
            if name not in _KNOWN and value:
                for key, part in value.items() if isinstance(value, Mapping) else [("", value)]:
                    told = part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
                    self.beside.setdefault(f"{name}.{key}" if key else name, []).append(told)

    def choice(self, index: int) -> dict[str, Any]:
        """A choice of a ``chat.completion``; what is beside text and calls can be read there, but not sent again."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.text) or None}
        if self.calls:
            message["tool_calls"] = [self.calls[i] for i in sorted(self.calls)]
        message |= {name: "".join(parts) for name, parts in self.beside.items()}
        return {"index": index, "message": message, "finish_reason": self.reason}


def _assembled(events: Iterator[Mapping[str, Any]]) -> Any:
    """A ``chat.completion`` from the chunks of OpenAI, Anthropic or Gemini; None if there were none."""
    choices: dict[int, _Said] = {0: _Said()}
    model, usage, seen = "", None, False
    for event in events:
        seen = True
        model = event.get("model") or model
        usage = event.get("usage") or usage
        for choice in _mappings(event.get("choices")):
            index = choice.get("index")
            said = choices.setdefault(index if isinstance(index, int) else 0, _Said())
            said.add(_mapping(choice.get("delta")))
            said.reason = choice.get("finish_reason") or said.reason
        only = choices[0]
        delta = _mapping(event.get("delta"))  # Anthropic
        only.text.append(_string(delta.get("text")) + _string(delta.get("partial_json")))
        only.reason = delta.get("stop_reason") or only.reason
        for candidate in _mappings(event.get("candidates")):  # Gemini
            only.text.append(_parts(candidate.get("content")))
            only.reason = candidate.get("finishReason") or only.reason
    if not seen:
        return None
    return {
        "object": "chat.completion", "model": _string(model), "usage": usage,
        "choices": [choices[i].choice(i) for i in sorted(choices)],
    }  # fmt: skip


def _add_call(calls: dict[int, dict[str, Any]], call: Mapping[str, Any]) -> None:
    index = call.get("index") if isinstance(call.get("index"), int) else 0
    kept = calls.setdefault(
        int(index or 0), {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
    )
    kept["id"] = call.get("id") or kept["id"]
    function = call.get("function")
    if isinstance(function, Mapping):
        kept["function"]["name"] += _string(function.get("name"))
        kept["function"]["arguments"] += _string(function.get("arguments"))


def _told(body: Any) -> ChatReply | None:
    """A plain reply of Anthropic or Gemini in OpenAI's terms, if it is all text."""
    if not isinstance(body, Mapping):
        return None
    model = _string(body.get("model") or body.get("modelVersion"))
    content = body.get("content")
    if isinstance(content, list) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in content):
        reason = body.get("stop_reason")
        return ChatReply("".join(_string(p.get("text")) for p in content), _string(reason) or None, model)
    candidates = body.get("candidates")
    if isinstance(candidates, list) and len(candidates) == 1 and isinstance(candidates[0], Mapping):
        reason = candidates[0].get("finishReason")
        return ChatReply(_parts(candidates[0].get("content")), _string(reason) or None, model)
    return None


def _parts(content: Any) -> str:
    parts = content.get("parts") if isinstance(content, Mapping) else None
    return "".join(_string(p.get("text")) for p in parts or [] if isinstance(p, Mapping))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""

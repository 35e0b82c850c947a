"""OpenAI's chat shapes: the only code that knows how requests and replies look.

Bytes in, frozen values out; nothing here raises for what a client or a provider sent.
Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate import llm
from tenantgate.llm import Reason, Refusal
from tenantgate.llm.body import shallow
from tenantgate.llm.stream import DONE, write_events
from tenantgate.llm.usage import Details, Tokens, usage_details, usage_object, usage_tokens

__all__ = [
    "JSON_TYPE",
    "SSE_TYPE",
    "ChatReply",
    "ChatRequest",
    "Reason",
    "Refusal",
    "canonical",
    "parse_reply",
    "parse_request",
    "reply_json",
    "reply_sse",
    "request_of",
    "served_by",
]

JSON_TYPE: Final = "application/json; charset=utf-8"
SSE_TYPE: Final = "text/event-stream; charset=utf-8"

_MAX_DEPTH: Final = 64  # of a reply
_CHUNK_CHARACTERS: Final = 24  # of a replayed stream: about the five tokens a provider sends at once

_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SERVED: Final = ("system_fingerprint", "service_tier")

# What a message may hold besides for it to be all told by its text.
_TOLD_BY_TEXT: Final = frozenset({"role", "content"})


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request, whose `body` holds everything that goes upstream (`tenantgate.llm`).

    `messages` isn't empty and holds mappings, each with a ``role`` that is a text.
    """

    body: Mapping[str, Any]
    messages: tuple[Mapping[str, Any], ...]

    @property
    def stream(self) -> bool:
        """Whether the client asked for server-sent events."""
        return self.body.get("stream") is True

    @property
    def include_usage(self) -> bool:
        """Whether the stream should end with a chunk that holds the usage."""
        options = self.body.get("stream_options")
        return isinstance(options, Mapping) and options.get("include_usage") is True

    @property
    def model(self) -> str:
        """The model that the client named, or an empty text."""
        model = self.body.get("model")
        return model if isinstance(model, str) else ""

    @property
    def question(self) -> str | None:
        """The last message's text, if it is the user's and all text; parts are joined by line ends."""
        last = self.messages[-1]
        if last.get("role") != "user" or not _TOLD_BY_TEXT.issuperset(last):
            return None
        return _text(last.get("content"))


@dataclass(frozen=True, slots=True)
class ChatReply:
    """An assistant's answer that is told by its text and its tool calls.

    `usage` is (prompt, completion, total) tokens as the provider or Kong counted them, if they did, and `details` the
    same by kind: ``prompt_tokens_details`` and ``completion_tokens_details``, each a mapping to whole numbers.
    `tool_calls` are as the provider wrote them, each with ``id``, ``type`` and ``function``. `served` is what the
    provider says of itself: ``system_fingerprint`` and ``service_tier``, where it does.
    """

    text: str
    finish_reason: str | None
    model: str
    usage: Tokens | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    details: Details = field(default_factory=dict)
    served: Mapping[str, str] = field(default_factory=dict)


def parse_request(raw: bytes) -> ChatRequest | Refusal:
    """The chat request in a body of any bytes."""
    found = llm.read(raw)
    return found if isinstance(found, Refusal) else request_of(found)


def request_of(document: llm.Document) -> ChatRequest:
    """The chat request that a document holds."""
    return ChatRequest(document.body, tuple(document.body["messages"]))


def parse_reply(payload: str | bytes | Mapping[str, Any]) -> ChatReply | None:
    """The reply in a ``chat.completion``, or None if there is more to it than text and tool calls.

    Refusals, audio, log probabilities or several choices would be lost if only the text were kept.
    """
    body: Any = payload
    if isinstance(payload, str | bytes):
        body = _load(payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload)
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(choices, Sequence) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        return None
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, Mapping) or choice.get("logprobs"):
        return None
    if any(value for key, value in message.items() if key not in _TOLD_BY_TEXT and key != "tool_calls"):
        return None
    text, reason, calls = message.get("content"), choice.get("finish_reason"), message.get("tool_calls") or []
    if not isinstance(calls, list) or not all(_is_tool_call(call) for call in calls):
        return None
    if text is None and calls:
        text = ""
    if not isinstance(text, str) or not (text or calls):
        return None
    model = body.get("model")
    return ChatReply(
        text=text,
        finish_reason=reason if isinstance(reason, str) else None,
        model=model if isinstance(model, str) else "",
        usage=usage_tokens(body.get("usage")),
        tool_calls=tuple(calls),
        details=usage_details(body.get("usage")),
        served=served_by(body),
    )


def reply_json(reply: ChatReply, *, identifier: str, created: int) -> bytes:
    """The reply as ``chat.completion``; `created` is in Unix seconds."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.tool_calls:
        message["tool_calls"] = list(reply.tool_calls)
    body: dict[str, Any] = {
        "id": identifier,
        "object": "chat.completion",
        "created": created,
        "model": reply.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}],
    }
    if reply.usage:
        body["usage"] = usage_object(reply.usage, reply.details)
    return _dump(body | dict(reply.served))


def reply_sse(reply: ChatReply, *, identifier: str, created: int, include_usage: bool) -> bytes:
    """The reply as the server-sent events of ``chat.completion.chunk`` that a provider would have sent."""
    head = {"id": identifier, "object": "chat.completion.chunk", "created": created, "model": reply.model}
    head |= reply.served

    def event(delta: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if include_usage else {}
        return {"data": {**head, "choices": [choice], **usage}}

    pieces = [reply.text[i : i + _CHUNK_CHARACTERS] for i in range(0, len(reply.text), _CHUNK_CHARACTERS)]
    events = [event({"role": "assistant", "content": ""}, None)]
    events += [event({"content": piece}, None) for piece in pieces]
    events += [event({"tool_calls": [{"index": i, **c}]}, None) for i, c in enumerate(reply.tool_calls)]
    events.append(event({}, reply.finish_reason))
    if include_usage:
        usage = usage_object(reply.usage or (0, 0, 0), reply.details)
        events.append({"data": {**head, "choices": [], "usage": usage}})
    return write_events([*events, DONE])


def canonical(value: Any) -> bytes:
    """One spelling for equal JSON values: sorted keys, no white space, ASCII."""
    return _CANONICAL.encode(value).encode("ascii")


def _load(raw: bytes) -> Any:
    """A reply's JSON value; None for what is none, or nested too deeply."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return value if shallow(value, _MAX_DEPTH) else None


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity, which Python takes and JSON doesn't have


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        parts = [content]
    elif isinstance(content, list):
        parts = []
        for part in content:
            if not isinstance(part, dict) or part.keys() != {"type", "text"} or part["type"] != "text":
                return None
            parts.append(part["text"])
    else:
        return None
    if not all(isinstance(part, str) for part in parts):
        return None
    text = "\n".join(parts)
    # A lone surrogate is legal in JSON's escapes but no text: neither a model nor a digest takes it.
    return None if not text.isascii() and _SURROGATE.search(text) else text


def _is_tool_call(call: Any) -> bool:
    # A custom tool or one that doesn't exist yet has no `function`, and would not survive a replay.
    return (
        isinstance(call, dict) and isinstance(call.get("id"), str) and isinstance(call.get("function"), dict)
    )


def served_by(body: Mapping[str, Any]) -> dict[str, str]:
    """What a reply says of the system that made it, where that is a text."""
    return {name: value for name in _SERVED if isinstance(value := body.get(name), str)}


def _dump(value: Any) -> bytes:
    # ASCII, since a lone surrogate of a reply has no UTF-8.
    return json.dumps(value, separators=(",", ":")).encode("ascii")

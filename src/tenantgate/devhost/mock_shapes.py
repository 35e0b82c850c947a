"""What the mock provider answers: the same question gives the same words, so a wrong answer is seen at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Reply", "anthropic", "anthropic_events", "gemini", "gemini_array", "openai", "openai_chunks"]

_QUOTE: Final = 60
_CREATED: Final = 1_700_000_000
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer before it has a shape."""

    question: str
    model: str
    finish_reason: str = "stop"
    tool_calls: bool = False
    refusal: bool = False

    @property
    def digest(self) -> str:
        """Ten hex digits of the question's SHA-256."""
        return hashlib.sha256(self.question.encode("utf-8", "surrogatepass")).hexdigest()[:10]

    @property
    def text(self) -> str:
        """The answer: the question's digest and its first words."""
        quote = " ".join(self.question.split())[:_QUOTE]
        return (
            f"This is mock answer {self.digest} to your question: {quote} "
            "It was made up by a provider that only pretends to think."
        )

    @property
    def words(self) -> list[str]:
        """The text in the pieces in which it streams."""
        first, *rest = self.text.split(" ")
        return [first, *(" " + w for w in rest)]

    @property
    def usage(self) -> tuple[int, int]:
        """(prompt tokens, completion tokens): words, as good as any."""
        return max(1, len(self.question.split())), len(self.words)


_REFUSAL: Final = {"refusal": "Sorry, that is as far as I go."}
_CALL: Final = {
    "id": "call_mock",
    "type": "function",
    "function": {"name": "mock_tool", "arguments": '{"mock": true}'},
}


def _openai_usage(reply: Reply) -> Json:
    prompt, completion = reply.usage
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def openai(reply: Reply) -> Json:
    """A chat completion."""
    message: Json = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message = {"role": "assistant", "content": None, "tool_calls": [_CALL]}
    if reply.refusal:
        message |= _REFUSAL
    return {
        "id": f"chatcmpl-{reply.digest}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": reply.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}],
        "usage": _openai_usage(reply),
        "system_fingerprint": "fp_mock",
    }


def openai_chunks(reply: Reply, *, include_usage: bool) -> Iterator[Json]:
    """The chunks of a stream, without its end mark."""
    head: Json = {
        "id": f"chatcmpl-{reply.digest}",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": reply.model,
        "system_fingerprint": "fp_mock",
    }
    usage = {"usage": None} if include_usage else {}

    def chunk(delta: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice], **usage}

    yield chunk({"role": "assistant", "content": ""})
    if reply.tool_calls:
        yield chunk({"tool_calls": [{"index": 0, **_CALL}]})
    else:
        for word in reply.words:
            yield chunk({"content": word})
    if reply.refusal:
        yield chunk(_REFUSAL)
    yield chunk({}, reply.finish_reason)
    if include_usage:
        yield {**head, "choices": [], "usage": _openai_usage(reply)}


_ANTHROPIC_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def _anthropic_head(reply: Reply) -> Json:
    prompt, completion = reply.usage
    return {
        "id": f"msg_{reply.digest}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "stop_reason": _ANTHROPIC_REASONS.get(reply.finish_reason, reply.finish_reason),
        "stop_sequence": None,
        "usage": {"input_tokens": prompt, "output_tokens": completion},
    }


def anthropic(reply: Reply) -> Json:
    """A message."""
    block: Json = {"type": "text", "text": reply.text}
    if reply.tool_calls:
        block = {"type": "tool_use", "id": "toolu_mock", "name": "mock_tool", "input": {"mock": True}}
    return {**_anthropic_head(reply), "content": [block]}


def anthropic_events(reply: Reply) -> Iterator[Json]:
    """The events of a stream; each one's ``type`` is its name."""
    head = _anthropic_head(reply)
    prompt, completion = reply.usage
    start = {
        **head,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": prompt, "output_tokens": 1},
    }
    yield {"type": "message_start", "message": start}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for word in reply.words:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
    yield {"type": "content_block_stop", "index": 0}
    delta = {"stop_reason": head["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": completion}}
    yield {"type": "message_stop"}


def _gemini(reply: Reply, text: str, finish: str | None) -> Json:
    prompt, completion = reply.usage
    candidate: Json = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    usage = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": completion,
        "totalTokenCount": prompt + completion,
    }
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": reply.model}


def gemini(reply: Reply) -> Json:
    """The reply of generateContent."""
    return _gemini(reply, reply.text, {"length": "MAX_TOKENS"}.get(reply.finish_reason, "STOP"))


def gemini_array(reply: Reply) -> Iterator[str]:
    """The pieces of streamGenerateContent's JSON array."""
    words = reply.words
    for i, word in enumerate(words):
        last = i == len(words) - 1
        reason = {"length": "MAX_TOKENS"}.get(reply.finish_reason, "STOP") if last else None
        # The line end after each element is Gemini's, and Kong's parser needs it.
        piece = json.dumps(_gemini(reply, word, reason)) + "\n" + ("]" if last else "")
        yield ("[" if i == 0 else ",\r\n") + piece

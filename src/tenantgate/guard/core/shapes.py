"""Replies of Anthropic, Google, Cohere, Amazon and Ollama as a ``chat.completion``, where that can tell them whole.

An answer from Kong's response phase isn't normalised by ai-proxy, so what is sent in a reply's place must be in
OpenAI's shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.llm.usage import token_count, usage_object

__all__ = ["chunks", "completion", "completion_of_events"]

_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "COMPLETE": "stop",
    "tool_use": "tool_calls",
    "TOOL_CALL": "tool_calls",
    "ERROR": "stop",
    "stop": "stop",
    "SAFETY": "content_filter",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


@dataclass
class _Said:
    """What one choice says."""

    text: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    reason: Any = None
    whole: bool = True

    def part(self, part: Any) -> None:
        """One part of the content, of any provider; what is unknown can't be told."""
        part = {"text": part} if isinstance(part, str) else _mapping(part)
        call = _mapping(part.get("toolUse") or part.get("functionCall"))
        if call:
            self.call(
                call.get("toolUseId") or call.get("id"),
                call.get("name"),
                call.get("input") or call.get("args"),
            )
        elif part.get("type") == "tool_use":
            self.call(part.get("id"), part.get("name"), part.get("input"))
        elif isinstance(part.get("thinking"), str):
            self.thought.append(part["thinking"])
        elif isinstance(part.get("text"), str):
            (self.thought if part.get("thought") is True else self.text).append(part["text"])
        else:
            self.whole = False

    def call(self, identifier: Any, name: Any, arguments: Any) -> None:
        """A call of a tool."""
        told = (
            arguments
            if isinstance(arguments, str)
            else json.dumps(arguments if arguments is not None else {}, ensure_ascii=False)
        )
        function = {"name": _string(name), "arguments": told}
        known = _string(identifier) or f"call_{len(self.calls)}"
        self.calls.append({"id": known, "type": "function", "function": function})

    def choice(self, index: int) -> dict[str, Any]:
        """As a choice of a ``chat.completion``."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self.text) or (None if self.calls else ""),
        }
        if self.thought:
            message["reasoning_content"] = "".join(self.thought)
        if self.calls:
            message["tool_calls"] = self.calls
        reason = _REASONS.get(self.reason, self.reason) if isinstance(self.reason, str) else None
        if reason == "stop" and self.calls:
            reason = "tool_calls"
        return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def completion(body: Any, *, identifier: str, created: int) -> dict[str, Any] | None:
    """A plain reply; None for one of an unknown shape, or with more in it than texts and calls of tools."""
    if not isinstance(body, Mapping):
        return None
    said = list(_of_candidates(body)) or list(_of_message(body))
    if not said or not all(s.whole for s in said):
        return None
    return _made(body, said, identifier, created)


def completion_of_events(values: Sequence[Any], *, identifier: str, created: int) -> dict[str, Any] | None:
    """The same of a stream's values; an error among them is kept under ``error``."""
    events = [v for v in values if isinstance(v, Mapping)]
    error = next((e["error"] for e in events if e.get("error")), None)
    body = _of_blocks(events) or _of_gemini(events) or _of_cohere(events) or _of_ollama(events)
    made = None if body is None else completion(body, identifier=identifier, created=created)
    return made if made is None or error is None else made | {"error": error}


def chunks(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A ``chat.completion`` as the chunks that a provider would have sent."""
    head = {k: told[k] for k in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    for choice in told["choices"]:
        message, index = choice["message"], choice["index"]

        def chunk(delta: Mapping[str, Any], reason: Any = None, index: int = index) -> dict[str, Any]:
            return {
                **head,
                "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}],
            }

        yield chunk({"role": "assistant", "content": ""})
        for name in ("reasoning_content", "content"):
            if message.get(name):
                yield chunk({name: message[name]})
        for i, call in enumerate(message.get("tool_calls", ())):
            yield chunk({"tool_calls": [{"index": i, **call}]})
        yield chunk({}, choice["finish_reason"])
    if told.get("usage"):
        yield {**head, "choices": [], "usage": told["usage"]}
    if told.get("error"):
        yield {"error": told["error"]}


def _made(body: Mapping[str, Any], said: Sequence[_Said], identifier: str, created: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": identifier,
        "object": "chat.completion",
        "created": created,
        "model": _string(body.get("model") or body.get("modelVersion")),
        "choices": [s.choice(i) for i, s in enumerate(said)],
    }
    usage = _usage(body)
    return made | {"usage": usage} if usage else made


def _of_candidates(body: Mapping[str, Any]) -> Iterator[_Said]:
    for candidate in _mappings(body.get("candidates")):
        said = _Said(reason=candidate.get("finishReason"))
        for part in _list(_mapping(candidate.get("content")).get("parts")):
            said.part(part)
        yield said


def _of_message(body: Mapping[str, Any]) -> Iterator[_Said]:
    """Anthropic's, Amazon's, Cohere's or Ollama's one message."""
    inner = _mapping(_mapping(body.get("output")).get("message") or body.get("message") or body)
    content = inner.get("content", inner.get("text"))
    calls = _mappings(inner.get("tool_calls"))
    if not isinstance(content, str | list) and not calls:
        return
    said = _Said(
        reason=body.get("stop_reason")
        or body.get("stopReason")
        or body.get("finish_reason")
        or body.get("done_reason")
    )
    for part in [content] if isinstance(content, str) else _list(content):
        said.part(part)
    for call in calls:
        function = _mapping(call.get("function"))
        said.call(call.get("id"), function.get("name"), function.get("arguments"))
    yield said


def _of_blocks(events: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Anthropic's message from its events."""
    if not any(e.get("type") in ("message_start", "content_block_delta", "message_delta") for e in events):
        plain = [_mapping(e.get("delta")).get("text") for e in events]
        texts = [t for t in plain if isinstance(t, str)]
        return {"content": [{"type": "text", "text": "".join(texts)}]} if texts else None
    body: dict[str, Any] = {}
    blocks: dict[Any, dict[str, Any]] = {}
    usage: dict[str, Any] = {}
    for event in events:
        delta = _mapping(event.get("delta"))
        start = _mapping(event.get("message"))
        body["model"] = start.get("model") or body.get("model")
        usage |= {**_mapping(start.get("usage")), **_mapping(event.get("usage"))}
        body["stop_reason"] = delta.get("stop_reason") or body.get("stop_reason")
        if "content_block" in event:
            blocks[event.get("index")] = dict(_mapping(event["content_block"]))
        for name in ("text", "thinking", "partial_json"):
            if isinstance(delta.get(name), str):
                block = blocks.setdefault(event.get("index"), {"type": "text"})
                if name == "partial_json":
                    before = block.get("input")
                    block["input"] = (before if isinstance(before, str) else "") + delta[name]
                else:
                    block[name] = _string(block.get(name)) + delta[name]
    return {**body, "usage": usage, "content": [blocks[i] for i in sorted(blocks, key=str)]}


def _of_gemini(events: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    found: dict[int, dict[str, Any]] = {}
    body: dict[str, Any] = {}
    for event in events:
        for i, candidate in enumerate(_mappings(event.get("candidates"))):
            index = candidate.get("index") if isinstance(candidate.get("index"), int) else i
            kept = found.setdefault(int(index or 0), {"content": {"parts": []}})
            kept["content"]["parts"] += _list(_mapping(candidate.get("content")).get("parts"))
            kept["finishReason"] = candidate.get("finishReason") or kept.get("finishReason")
        body |= {k: event[k] for k in ("modelVersion", "usageMetadata") if k in event}
    return {**body, "candidates": [found[i] for i in sorted(found)]} if found else None


def _of_cohere(events: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not any(e.get("type") in ("content-delta", "tool-call-start", "message-end") for e in events):
        return None
    text: list[str] = []
    calls: list[dict[str, Any]] = []
    end: Mapping[str, Any] = {}
    for event in events:
        delta = _mapping(event.get("delta"))
        message = _mapping(delta.get("message"))
        text.append(_string(_mapping(message.get("content")).get("text")))
        call = _mapping(message.get("tool_calls"))
        if event.get("type") == "tool-call-start":
            calls.append({**call, "function": dict(_mapping(call.get("function")))})
        elif call and calls:
            function = calls[-1]["function"]
            function["arguments"] = _string(function.get("arguments")) + _string(
                _mapping(call.get("function")).get("arguments")
            )
        end = delta if event.get("type") == "message-end" else end
    content = [{"type": "text", "text": "".join(text)}] if any(text) else []
    return {
        "message": {"content": content, "tool_calls": calls},
        "finish_reason": end.get("finish_reason"),
        "usage": end.get("usage"),
    }


def _of_ollama(events: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not any("done" in e for e in events):
        return None
    messages = [_mapping(e.get("message")) for e in events]
    return {
        **events[-1],
        "message": {
            "content": "".join(_string(m.get("content")) for m in messages),
            "tool_calls": [c for m in messages for c in _mappings(m.get("tool_calls"))],
        },
    }


def _usage(body: Mapping[str, Any]) -> dict[str, int] | None:
    usage = _mapping(body.get("usage") or body.get("usageMetadata"))
    tokens = _mapping(usage.get("tokens")) or usage
    prompt, completion = (
        next((n for name in names if (n := token_count(tokens.get(name))) is not None), None)
        for names in (
            ("input_tokens", "inputTokens", "promptTokenCount"),
            ("output_tokens", "outputTokens", "candidatesTokenCount"),
        )
    )
    if prompt is None or completion is None:
        return None
    return usage_object((prompt, completion, prompt + completion))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in _list(value) if isinstance(v, Mapping)]


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""

"""Providers' request and reply shapes, as ai-proxy translates them (`kong/llm/drivers/*.lua`)."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any, Final, Protocol

from tenantgate.devhost import lua
from tenantgate.devhost.stock.sse import TERMINATOR, Event

__all__ = ["CHAT", "DRIVERS", "Driver", "FormatError"]

CHAT: Final = "llm/v1/chat"
Json = dict[str, Any]
Chunk = tuple[bytes | None, Mapping[str, int] | None]
"""(what goes to the client, token counts), both None where the event means nothing to it."""


class FormatError(Exception):
    """A reply or request that can't be translated; the text is Kong's."""


class Driver(Protocol):
    """One provider."""

    counts_in_stream: bool
    """Whether the stream tells token counts; else Kong estimates the prompt's."""

    def to_format(self, request: Json, model: Json) -> Json:
        """The provider's request body."""

    def from_format(self, body: bytes, model: Json) -> bytes:
        """OpenAI's reply body."""

    def stream_event(self, event: Event, model: Json, state: Json) -> Chunk:
        """OpenAI's chunk; `state` lasts as long as the stream."""

    def url(self, model: Json, *, stream: bool) -> urllib.parse.SplitResult:
        """Where to send it."""


def _merged(request: Json, options: Mapping[str, Any]) -> Json:
    # merge_config_defaults: the operator's value comes before the client's.
    for name in ("temperature", "max_tokens", "top_p", "top_k"):
        if options.get(name) is not None:
            request[name] = options[name]
    return request


def _url(model: Json, base: str, path: str) -> urllib.parse.SplitResult:
    options = model.get("options") or {}
    if options.get("upstream_url"):
        return urllib.parse.urlsplit(str(options["upstream_url"]))
    return urllib.parse.urlsplit(base + str(options.get("upstream_path") or path))


def _decoded(body: bytes, message: str) -> Json:
    value = lua.decode(body)
    if value is lua.MISSING:
        raise FormatError(message)
    return value if isinstance(value, dict) else {}


class OpenAi:
    """OpenAI and everything that speaks its protocol."""

    counts_in_stream = False

    def to_format(self, request: Json, model: Json) -> Json:
        """Model and stream are always set; top_k is never sent."""
        request = _merged(request, model.get("options") or {})
        request["model"] = model.get("name") or request.get("model")
        request.setdefault("stream", False)
        request.pop("top_k", None)
        return request

    def from_format(self, body: bytes, model: Json) -> bytes:
        """As it is, if it has choices."""
        if "choices" not in _decoded(body, "failed to decode llm/v1/chat response"):
            raise FormatError("'choices' not in llm/v1/chat response")
        return body

    def stream_event(self, event: Event, model: Json, state: Json) -> Chunk:
        """As it is."""
        return event.data, None

    def url(self, model: Json, *, stream: bool) -> urllib.parse.SplitResult:
        """Its own address, or the one that the operator set."""
        return _url(model, "https://api.openai.com:443", "/v1/chat/completions")


class Mistral(OpenAi):
    """Mistral, by ``mistral_format: openai``."""

    def url(self, model: Json, *, stream: bool) -> urllib.parse.SplitResult:
        """Its own address, or the one that the operator set."""
        return _url(model, "https://api.mistral.ai:443", "/v1/chat/completions")


class Anthropic:
    """Anthropic's Messages API."""

    counts_in_stream = True

    def to_format(self, request: Json, model: Json) -> Json:
        """System messages become `system`, tools and their calls Anthropic's blocks."""
        request = _merged(request, model.get("options") or {})
        messages: list[Any] = []
        body: Json = {"messages": messages}
        for message in request["messages"]:
            role = lua.get(message, "role")
            if role not in ("assistant", "user", "tool"):
                body["system"] = lua.get(message, "content")
            elif role == "assistant" and message.get("tool_calls"):
                messages.append({"role": role, "content": [_tool_use(c) for c in message["tool_calls"]]})
            elif role == "tool":
                result = {
                    "type": "tool_result",
                    "tool_use_id": message.get("tool_call_id", lua.MISSING),
                    "content": message.get("content", lua.MISSING),
                }
                messages.append({"role": "user", "content": [result]})
            else:
                messages.append(message)
        for name in ("temperature", "max_tokens", "tool_choice"):
            body[name] = request.get(name, lua.MISSING)
        body["model"] = model.get("name") or request.get("model", lua.MISSING)
        body["stream"] = request.get("stream", False)
        if request.get("tools"):
            functions = [t["function"] for t in request["tools"] if "function" in t]
            for function in functions:
                function["input_schema"] = function.pop("parameters", lua.MISSING)
            body["tools"] = functions
        return body

    def from_format(self, body: bytes, model: Json) -> bytes:
        """One choice, its text put together from the blocks."""
        reply = _decoded(body, "failed to decode anthropic response")
        if "content" not in reply:
            raise FormatError("'content' not in anthropic://llm/v1/chat response")
        blocks = reply["content"]
        text = "".join(("\n" if i else "") + b["text"] for i, b in enumerate(blocks) if "text" in b)
        calls = [_tool_call(b) for b in blocks if b.get("type") == "tool_use"]
        usage: Any = "no usage data returned from upstream"
        if given := reply.get("usage"):
            usage = _usage(given.get("input_tokens"), given.get("output_tokens"))
        message = {"role": "assistant", "content": text, "tool_calls": calls or lua.MISSING}
        choice = {"index": 0, "message": message, "finish_reason": reply.get("stop_reason", lua.MISSING)}
        return lua.encode(
            {
                "choices": [choice],
                "usage": usage,
                "model": reply.get("model", lua.MISSING),
                "object": "chat.completion",
            }
        )

    def stream_event(self, event: Event, model: Json, state: Json) -> Chunk:
        """Text deltas as chunks, token counts as numbers."""
        data = lua.decode(event.data) if event.data else lua.MISSING
        if not event.event or not isinstance(data, dict):
            return None, None
        kind = event.event
        if kind == b"message_start" and isinstance(data.get("message"), dict):
            message = data["message"]
            state["id"] = message.get("id", lua.MISSING)
            usage = message.get("usage") or {}
            counts = {"prompt": usage.get("input_tokens") or 0, "completion": usage.get("output_tokens") or 0}
            delta = {"content": "", "role": message.get("role", lua.MISSING)}
            choice: Json = {"delta": delta, "index": 0, "logprobs": None}
            return _chunk(choice, model, state, system_fingerprint=None), counts
        if kind == b"message_delta" and data.get("usage"):
            return None, {"prompt": 0, "completion": data["usage"].get("output_tokens") or 0}
        if kind in (b"content_block_start", b"content_block_delta"):
            text = (data.get("delta") or {}).get("text") or ""
            choice = {"delta": {"content": text}, "index": 0, "finish_reason": None, "logprobs": None}
            return _chunk(choice, model, state), None
        return (TERMINATOR, None) if kind == b"message_stop" else (None, None)

    def url(self, model: Json, *, stream: bool) -> urllib.parse.SplitResult:
        """Its own address, or the one that the operator set."""
        return _url(model, "https://api.anthropic.com:443", "/v1/messages")


class Gemini:
    """Google's Gemini API (not Vertex AI); text and images, no tools."""

    counts_in_stream = True

    def to_format(self, request: Json, model: Json) -> Json:
        """Messages become contents, system messages one instruction."""
        request = _merged(request, model.get("options") or {})
        if request.get("tools") or any(lua.get(m, "role") == "tool" for m in request["messages"]):
            raise FormatError("the embedded host doesn't translate tools for gemini")
        roles = {"system": "system", "user": "user", "assistant": "model"}
        contents, system = [], ""
        for i, message in enumerate(request["messages"], 1):
            role, content = lua.get(message, "role"), lua.get(message, "content")
            if role == "system":
                system += content or ""
                continue
            parts: list[Any] = [{"text": content}] if isinstance(content, str) else []
            if isinstance(content, list):
                if not content:
                    raise FormatError(f"message at position {i} does not match expected array format")
                parts = [_gemini_part(p) for p in content]
            contents.append({"role": roles.get(role if isinstance(role, str) else "user"), "parts": parts})
        names = {
            "max_tokens": "maxOutputTokens",
            "stop": "stopSequences",
            "temperature": "temperature",
            "top_k": "topK",
            "top_p": "topP",
        }
        body: Json = {
            "contents": contents,
            "generationConfig": {to: request[of] for of, to in names.items() if of in request},
        }
        if system:
            body["systemInstruction"] = {"parts": [{"text": system}]}
        return body

    def from_format(self, body: bytes, model: Json) -> bytes:
        """The first candidate's first part."""
        reply = _decoded(body, "failed to decode response from Gemini")
        candidate = next(iter(reply.get("candidates") or []), None)
        if candidate is None:
            raise FormatError("no generation candidates received from Gemini, or max_tokens too short")
        out: Json = {"choices": [], "object": "chat.completion", "model": model.get("name")}
        if (text := _gemini_text(reply)) is not None:
            message = {"role": "assistant", "content": text}
            reason = str(candidate.get("finishReason", "")).lower()
            out["choices"] = [{"index": 0, "message": message, "finish_reason": reason}]
        if usage := reply.get("usageMetadata"):
            out["usage"] = {
                "prompt_tokens": usage.get("promptTokenCount", lua.MISSING),
                "completion_tokens": usage.get("candidatesTokenCount", lua.MISSING),
                "total_tokens": usage.get("totalTokenCount", lua.MISSING),
            }
        return lua.encode(out)

    def stream_event(self, event: Event, model: Json, state: Json) -> Chunk:
        """Each element of the array as a chunk."""
        if not event.data or event.data == TERMINATOR:
            return event.data or None, None
        reply = lua.decode(event.data)
        if not isinstance(reply, dict) or (text := _gemini_text(reply)) is None:
            return None, None
        usage = reply.get("usageMetadata") or {}
        counts = {
            "prompt": usage.get("promptTokenCount") or 0,
            "completion": usage.get("candidatesTokenCount") or 0,
        }
        choice = {
            "delta": {"content": text, "role": "assistant"},
            "index": 0,
            "finish_reason": reply["candidates"][0].get("finishReason", lua.MISSING),
        }
        return lua.encode({"choices": [choice]}), counts

    def url(self, model: Json, *, stream: bool) -> urllib.parse.SplitResult:
        """The operation is in the path; an operator's URL is taken as it is."""
        operation = "streamGenerateContent" if stream else "generateContent"
        path = f"/v1beta/models/{model.get('name')}:{operation}"
        return _url(model, "https://generativelanguage.googleapis.com", path)


def _tool_use(call: Json) -> Json:
    arguments = lua.decode(lua.to_bytes(call["function"]["arguments"]))
    return {
        "type": "tool_use",
        "id": call.get("id", lua.MISSING),
        "name": call["function"]["name"],
        "input": arguments,
    }


def _tool_call(block: Json) -> Json:
    arguments = lua.from_bytes(lua.encode(block.get("input")))
    return {
        "id": block.get("id", lua.MISSING),
        "type": "function",
        "function": {"name": block.get("name", lua.MISSING), "arguments": arguments},
    }


def _usage(prompt: Any, completion: Any) -> Json:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    if prompt is not None and completion is not None:
        usage["total_tokens"] = prompt + completion
    return {k: v for k, v in usage.items() if v is not None}


def _chunk(choice: Json, model: Json, state: Json, **more: Any) -> bytes:
    return lua.encode(
        {
            "choices": [choice],
            "id": state.get("id", lua.MISSING),
            "model": model.get("name"),
            "object": "chat.completion.chunk",
            **more,
        }
    )


def _gemini_text(reply: Json) -> Any:
    try:
        return reply["candidates"][0]["content"]["parts"][0]["text"]
    except (LookupError, TypeError):
        return None


def _gemini_part(part: Any) -> Json:
    kind = lua.get(part, "type")
    if kind == "text" and "text" in part:
        return {"text": part["text"]}
    if kind == "image_url" and (url := (part.get("image_url") or {}).get("url")):
        if url.startswith("data:"):
            mime, _, data = url[len("data:") :].partition(";")
            return {"inlineData": {"data": data.partition(",")[2], "mimeType": mime}}
        return {"fileData": {"fileUri": url, "mimeType": "image/generic"}}
    raise FormatError(f"cannot transform part of type '{kind}' to Gemini format")


DRIVERS: Final[Mapping[str, Driver]] = {
    "openai": OpenAi(),
    "anthropic": Anthropic(),
    "gemini": Gemini(),
    "mistral": Mistral(),
}

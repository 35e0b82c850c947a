"""Providers' wire formats in full, with usage by kind.

Requests are checked for what the provider demands, replies are as its documentation shows them; where a request has
tools, they are called. Each format has a path of its own below ``/strict``, beside the plain ones of
`tenantgate.devhost.mock_provider`. The pieces of a stream end in the middle of events. The text is always the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from aiohttp import web

from tenantgate.devhost import mock_aws, mock_demands, mock_errors

__all__ = ["AWS_KEY", "AWS_REGION", "AWS_SECRET", "CALLS", "TEXT", "Requests", "add_routes"]

TEXT: Final = "Sunny, with a bit of \u201cwind\u201d."
CALLS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("weather", {"city": "Oslo", "days": 2}),
    ("clock", {}),
)
"""Names and arguments of the calls, where there are tools."""
AWS_KEY: Final = "AKIAMOCK"
AWS_SECRET: Final = "mock-secret"  # noqa: S105 - of nobody
AWS_REGION: Final = "eu-central-1"

_CREATED: Final = 1_700_000_000
_CUT: Final = 37
"""Bytes of each piece of a stream."""
Json = dict[str, Any]


class Requests:
    """The last request's body, by format, and the credential of the last one in OpenAI's."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}
        self.authorization = ""


def add_routes(app: web.Application, seen: Requests) -> None:
    """Serve the formats."""
    for name, demands in _OPENAI.items():
        app.router.add_post(f"/strict/{name}/chat/completions", _openai(name, demands, seen))
    app.router.add_post("/strict/anthropic/v1/messages", _anthropic(seen))
    app.router.add_post("/strict/any{rest:.*}", _any(seen))
    app.router.add_post("/strict/bedrock/model/{model}/{operation}", _bedrock(seen))


def _pieces(text: bytes) -> Iterator[bytes]:
    for at in range(0, len(text), _CUT):
        yield text[at : at + _CUT]


async def _stream(request: web.Request, pieces: Iterable[bytes], kind: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": kind})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


def _calls(body: Mapping[str, Any], *, done: bool) -> bool:
    """Whether the model calls tools: where there are some, and no results yet."""
    return bool(body.get("tools") or body.get("toolConfig")) and not done


# -- OpenAI's format, with the ways of those who offer it --------------------------------------------------------


def _openai_call(index: int, name: str, arguments: Json) -> Json:
    return {
        "index": index,
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }


_USAGE: Final = {
    "prompt_tokens": 40,
    "completion_tokens": 12,
    "total_tokens": 52,
    "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 0},
}
_GOOGLE_USAGE: Final = {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 152}
_OPENAI: Final[Mapping[str, Callable[[Mapping[str, Any]], str | None]]] = {
    "openai": mock_demands.openai,
    "gemini": mock_demands.openai,
    "mistral": mock_demands.mistral,
}


def _openai(
    name: str, demands: Callable[[Mapping[str, Any]], str | None], seen: Requests
) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = seen.last[name] = await request.json()
        seen.authorization = request.headers.get("Authorization", "")
        if problem := demands(body):
            status = 422 if name == "mistral" else 400
            return web.json_response(mock_errors.openai(status, problem), status=status)
        calls = _calls(body, done=body["messages"][-1]["role"] == "tool")
        usage = _GOOGLE_USAGE if name == "gemini" else _USAGE
        if not body.get("stream"):
            return web.json_response(_openai_reply(body, usage, calls=calls))
        asked = bool((body.get("stream_options") or {}).get("include_usage"))
        chunks = list(_openai_chunks(body, usage, calls=calls, asked=asked, name=name))
        end = "\r\n\r\n" if name == "gemini" else "\n\n"
        text = "".join(f"data: {json.dumps(chunk)}{end}" for chunk in chunks) + f"data: [DONE]{end}"
        return await _stream(request, _pieces(text.encode()), "text/event-stream")

    return handle


def _openai_reply(body: Json, usage: Json, *, calls: bool) -> Json:
    message: Json = {"role": "assistant", "content": TEXT, "refusal": None}
    if calls:
        made = [_openai_call(i, name, arguments) for i, (name, arguments) in enumerate(CALLS)]
        message |= {
            "content": None,
            "tool_calls": [{k: v for k, v in c.items() if k != "index"} for c in made],
        }
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": "tool_calls" if calls else "stop",
    }
    return {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": _CREATED,
        "model": body["model"],
        "choices": [choice],
        "usage": usage,
    }


def _openai_chunks(body: Json, usage: Json, *, calls: bool, asked: bool, name: str) -> Iterator[Json]:
    head = {
        "id": "chatcmpl-mock",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": body["model"],
    }
    nothing = {"usage": None} if asked else {}

    def chunk(delta: Json, finish: str | None = None, more: Json = nothing) -> Json:
        return {
            **head,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
            **more,
        }

    yield chunk({"role": "assistant", "content": ""})
    if calls:
        for i, (tool, arguments) in enumerate(CALLS):
            yield chunk({"tool_calls": [_openai_call(i, tool, arguments)]})
    else:
        for word in TEXT.split(" "):
            yield chunk({"content": word if word == TEXT.split(" ")[0] else " " + word})
    finish = "tool_calls" if calls else "stop"
    if name == "openai":
        yield chunk({}, finish)
        if asked:
            yield {**head, "choices": [], "usage": usage}
    else:
        # Mistral and Google tell it with the last choice, unasked.
        yield chunk({}, finish, {"usage": usage})


def _any(seen: Requests) -> Callable[[web.Request], Any]:
    """Whatever is sent is only kept."""

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.last["any"] = await request.json()
        return web.json_response({}, status=418)

    return handle


# -- Anthropic ---------------------------------------------------------------------------------------------------

_ANTHROPIC_USAGE: Final = {
    "input_tokens": 4,
    "cache_creation_input_tokens": 20,
    "cache_read_input_tokens": 16,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 0},
    "service_tier": "standard",
}


def _anthropic_blocks(*, calls: bool) -> list[Json]:
    blocks: list[Json] = [{"type": "text", "text": TEXT}]
    if calls:
        blocks += [
            {"type": "tool_use", "id": f"toolu_{i}", "name": name, "input": arguments}
            for i, (name, arguments) in enumerate(CALLS)
        ]
    return blocks


def _anthropic(seen: Requests) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = seen.last["anthropic"] = await request.json()
        if problem := mock_demands.anthropic(body, request.headers):
            return web.json_response(mock_errors.anthropic(400, problem), status=400)
        content = body["messages"][-1]["content"]
        calls = _calls(body, done=isinstance(content, list) and content[0]["type"] == "tool_result")
        reason = "tool_use" if calls else "stop_sequence"
        head = {"id": "msg_mock", "type": "message", "role": "assistant", "model": body["model"]}
        if not body.get("stream"):
            return web.json_response(
                {
                    **head,
                    "content": _anthropic_blocks(calls=calls),
                    "stop_reason": reason,
                    "stop_sequence": None,
                    "usage": {**_ANTHROPIC_USAGE, "output_tokens": 12},
                }
            )
        events = _anthropic_events(head, reason, calls=calls)
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        return await _stream(request, _pieces(text.encode()), "text/event-stream; charset=utf-8")

    return handle


def _anthropic_events(head: Json, reason: str, *, calls: bool) -> Iterator[Json]:
    start = {**head, "content": [], "stop_reason": None, "usage": {**_ANTHROPIC_USAGE, "output_tokens": 1}}
    yield {"type": "message_start", "message": start}
    for i, block in enumerate(_anthropic_blocks(calls=calls)):
        text = block["type"] == "text"
        empty = {"type": "text", "text": ""} if text else {**block, "input": {}}
        yield {"type": "content_block_start", "index": i, "content_block": empty}
        yield {"type": "ping"}
        whole = block["text"] if text else json.dumps(block["input"]) if block["input"] else ""
        half = len(whole) // 2
        for part in (whole[:half], whole[half:]):
            delta = (
                {"type": "text_delta", "text": part}
                if text
                else {"type": "input_json_delta", "partial_json": part}
            )
            yield {"type": "content_block_delta", "index": i, "delta": delta}
        yield {"type": "content_block_stop", "index": i}
    delta = {"stop_reason": reason, "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 12}}
    yield {"type": "message_stop"}


# -- Bedrock -----------------------------------------------------------------------------------------------------

_BEDROCK_USAGE: Final = {
    "inputTokens": 4,
    "outputTokens": 12,
    "totalTokens": 52,
    "cacheReadInputTokens": 16,
    "cacheWriteInputTokens": 20,
}


def _bedrock_blocks(*, calls: bool) -> list[Json]:
    blocks: list[Json] = [{"text": TEXT}]
    if calls:
        blocks += [
            {"toolUse": {"toolUseId": f"tooluse_{i}", "name": name, "input": arguments}}
            for i, (name, arguments) in enumerate(CALLS)
        ]
    return blocks


def _bedrock(seen: Requests) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        problem = mock_aws.signature_problem(
            request.method,
            request.raw_path,
            request.headers,
            raw,
            key=AWS_KEY,
            secret=AWS_SECRET,
            region=AWS_REGION,
        )
        if problem:
            return web.json_response({"message": problem}, status=403, headers={"x-amzn-errortype": problem})
        body = seen.last["bedrock"] = json.loads(raw)
        seen.last["bedrock_model"] = request.match_info["model"]
        if problem := mock_demands.bedrock(body):
            return web.json_response({"message": problem}, status=400)
        calls = _calls(body, done="toolResult" in body["messages"][-1]["content"][0])
        reason = "tool_use" if calls else "end_turn"
        blocks = _bedrock_blocks(calls=calls)
        if request.match_info["operation"] == "converse":
            message = {"role": "assistant", "content": blocks}
            return web.json_response(
                {
                    "output": {"message": message},
                    "stopReason": reason,
                    "usage": _BEDROCK_USAGE,
                    "metrics": {"latencyMs": 5},
                }
            )
        whole = b"".join(
            mock_aws.message(kind, json.dumps(payload).encode())
            for kind, payload in _bedrock_events(blocks, reason)
        )
        return await _stream(request, _pieces(whole), "application/vnd.amazon.eventstream")

    return handle


def _bedrock_events(blocks: list[Json], reason: str) -> Iterator[tuple[str, Json]]:
    yield "messageStart", {"role": "assistant", "p": "abcd"}
    for i, block in enumerate(blocks):
        if use := block.get("toolUse"):
            start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
            yield "contentBlockStart", {"contentBlockIndex": i, "start": start}
            text = json.dumps(use["input"]) if use["input"] else ""
            deltas: list[Json] = [{"toolUse": {"input": text[:5]}}, {"toolUse": {"input": text[5:]}}]
        else:
            deltas = [{"text": block["text"][:7]}, {"text": block["text"][7:]}]
        for delta in deltas:
            yield "contentBlockDelta", {"contentBlockIndex": i, "delta": delta, "p": "ab"}
        yield "contentBlockStop", {"contentBlockIndex": i}
    yield "messageStop", {"stopReason": reason}
    yield "metadata", {"usage": _BEDROCK_USAGE, "metrics": {"latencyMs": 5}}

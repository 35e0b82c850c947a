"""A provider that only pretends: OpenAI's chat completions, Anthropic's messages, Gemini's generateContent.

``python -m tenantgate.devhost.mock_provider --port 0`` runs it by itself. It keeps no credential, only its
SHA-256, and the last requests' models and headers for tests: ``GET /_mock/requests``; ``DELETE`` forgets them.
``PUT /_mock/behaviour`` makes it fail or linger for the requests that follow; ``DELETE`` ends that.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from tenantgate.devhost import mock_shapes
from tenantgate.devhost.mock_shapes import Reply

__all__ = ["Behaviour", "MockProvider", "main"]

_SECRETS: Final = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "apikey", "cookie"})
_KEPT: Final = 1000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How it answers; times in milliseconds."""

    latency_ms: float = 0.0
    """Before the first byte of a reply."""
    chunk_ms: float = 0.0
    """Before each chunk of a stream."""
    status: int = 200
    """Another status is an error in the provider's shape."""
    close_after: int | None = None
    """Close the connection after so many chunks of a stream, or instead of a plain reply."""
    finish_reason: str = "stop"
    tool_calls: bool = False
    refusal: bool = False
    """Refuse after the answer's text, in a field of its own; OpenAI's shape only."""
    at_once: bool = False
    """Send a stream in one piece, as a proxy on the way may do."""
    malformed: bool = False
    """Answer 200 with a body that isn't JSON."""
    keep_bodies: bool = False
    """Keep request bodies in the records, too, as Base64."""


class MockProvider:
    """The provider's state and its web application."""

    def __init__(self, default: Behaviour) -> None:
        self._default = default
        self._now = default
        self._records: collections.deque[dict[str, Any]] = collections.deque(maxlen=_KEPT)
        self._counts: collections.Counter[str] = collections.Counter()

    def app(self) -> web.Application:
        """Its routes."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/v1/chat/completions", self._openai)
        app.router.add_post("/openai/v1/chat/completions", self._openai)  # Groq's path
        app.router.add_post("/v1/messages", self._anthropic)
        app.router.add_post("/v1beta/models/{model}:{operation}", self._gemini)
        app.router.add_get("/_mock/requests", self._requests)
        app.router.add_delete("/_mock/requests", self._forget)
        app.router.add_put("/_mock/behaviour", self._behave)
        app.router.add_delete("/_mock/behaviour", self._behave_again)
        app.router.add_get("/_mock/ready", self._ready)
        return app

    # -- control

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    async def _requests(self, _request: web.Request) -> web.Response:
        total = sum(self._counts.values())
        return web.json_response({"total": total, "counts": self._counts, "records": list(self._records)})

    async def _forget(self, _request: web.Request) -> web.Response:
        self._records.clear()
        self._counts.clear()
        return web.json_response({})

    async def _behave(self, request: web.Request) -> web.Response:
        try:
            self._now = dataclasses.replace(self._default, **await request.json())
        except (TypeError, ValueError):
            known = ", ".join(f.name for f in dataclasses.fields(Behaviour))
            return web.json_response({"error": f"known are: {known}"}, status=400)
        return web.json_response(dataclasses.asdict(self._now))

    async def _behave_again(self, _request: web.Request) -> web.Response:
        self._now = self._default
        return web.json_response({})

    async def _note(self, request: web.Request, model: str, *, stream: bool) -> None:
        secret = next((v for n, v in request.headers.items() if n.lower() in _SECRETS), "")
        credential = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        headers = {n: v for n, v in request.headers.items() if n.lower() not in _SECRETS}
        self._counts[f"{model} {credential[:16]}"] += 1
        self._records.append(
            {
                "model": model,
                "path": request.path,
                "query": request.query_string,
                "stream": stream,
                "credential_sha256": credential,
                "headers": {n: v.encode("utf-8", "backslashreplace").decode() for n, v in headers.items()},
                **(
                    {"body": base64.b64encode(await request.read()).decode()} if self._now.keep_bodies else {}
                ),
            }
        )

    # -- providers

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        messages = body.get("messages") if body else None
        stream = bool(body and body.get("stream"))
        await self._note(request, str(body.get("model") if body else None), stream=stream)
        if not body or not isinstance(messages, list):
            return _openai_error(400, "messages: required")
        behaviour = self._now
        await asyncio.sleep(behaviour.latency_ms / 1000)
        if behaviour.status != 200:
            return _openai_error(behaviour.status, "the mock provider was told to fail")
        reply = self._reply(behaviour, _question(messages), str(body.get("model")))
        if not stream:
            return await self._plain(request, behaviour, mock_shapes.openai(reply))
        options = body.get("stream_options") or {}
        chunks = mock_shapes.openai_chunks(reply, include_usage=bool(options.get("include_usage")))

        async def events() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
            yield b"data: [DONE]\n\n"

        return await self._stream(request, behaviour, events(), "text/event-stream")

    async def _anthropic(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        messages = body.get("messages") if body else None
        stream = bool(body and body.get("stream"))
        await self._note(request, str(body.get("model") if body else None), stream=stream)
        if not body or not isinstance(messages, list):
            return _anthropic_error(400, "messages: field required")
        behaviour = self._now
        await asyncio.sleep(behaviour.latency_ms / 1000)
        if behaviour.status != 200:
            return _anthropic_error(behaviour.status, "the mock provider was told to fail")
        reply = self._reply(behaviour, _question(messages), str(body.get("model")))
        if not stream:
            return await self._plain(request, behaviour, mock_shapes.anthropic(reply))

        async def events() -> AsyncIterator[bytes]:
            for event in mock_shapes.anthropic_events(reply):
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()

        return await self._stream(request, behaviour, events(), "text/event-stream")

    async def _gemini(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        model = request.match_info["model"]
        stream = request.match_info["operation"] == "streamGenerateContent"
        await self._note(request, model, stream=stream)
        contents = body.get("contents") if body else None
        if not body or not isinstance(contents, list):
            return _gemini_error(400, "contents is not specified")
        behaviour = self._now
        await asyncio.sleep(behaviour.latency_ms / 1000)
        if behaviour.status != 200:
            return _gemini_error(behaviour.status, "the mock provider was told to fail")
        turns = [{"role": c.get("role"), "content": c.get("parts")} for c in contents if isinstance(c, dict)]
        reply = self._reply(behaviour, _question(turns), model)
        if not stream:
            return await self._plain(request, behaviour, mock_shapes.gemini(reply))

        async def pieces() -> AsyncIterator[bytes]:
            for piece in mock_shapes.gemini_array(reply):
                yield piece.encode()

        return await self._stream(request, behaviour, pieces(), "application/json")

    @staticmethod
    def _reply(behaviour: Behaviour, question: str, model: str) -> Reply:
        reason = "tool_calls" if behaviour.tool_calls else behaviour.finish_reason
        return Reply(question, model, reason, behaviour.tool_calls, behaviour.refusal)

    async def _plain(self, request: web.Request, behaviour: Behaviour, value: Any) -> web.StreamResponse:
        if behaviour.close_after is not None:
            _abort(request)
        if behaviour.malformed:
            return web.Response(text="this is not JSON", content_type="application/json")
        return web.json_response(value)

    async def _stream(
        self, request: web.Request, behaviour: Behaviour, chunks: AsyncIterator[bytes], kind: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "no-cache"})
        await response.prepare(request)
        if behaviour.at_once:
            await response.write(b"".join([chunk async for chunk in chunks]))
            await response.write_eof()
            return response
        sent = 0
        async for chunk in chunks:
            if behaviour.close_after is not None and sent >= behaviour.close_after:
                _abort(request)
                return response
            await asyncio.sleep(behaviour.chunk_ms / 1000)
            await response.write(chunk)
            sent += 1
        await response.write_eof()
        return response


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _body(request: web.Request) -> dict[str, Any] | None:
    raw = await request.read()
    try:
        value = json.loads(raw.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _question(messages: list[Any]) -> str:
    """The text of the last user message, or what stands there instead."""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                texts = [p.get("text") for p in content if isinstance(p, dict)]
                return " ".join(t for t in texts if isinstance(t, str))
            return content if isinstance(content, str) else json.dumps(content)
    return ""


def _openai_error(status: int, message: str) -> web.Response:
    kind = {429: "rate_limit_error", 400: "invalid_request_error", 401: "authentication_error"}.get(status)
    error = {"message": message, "type": kind or "server_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=status)


def _anthropic_error(status: int, message: str) -> web.Response:
    kind = {429: "rate_limit_error", 400: "invalid_request_error"}.get(status, "api_error")
    return web.json_response({"type": "error", "error": {"type": kind, "message": message}}, status=status)


def _gemini_error(status: int, message: str) -> web.Response:
    names = {429: "RESOURCE_EXHAUSTED", 400: "INVALID_ARGUMENT"}
    error = {"code": status, "message": message, "status": names.get(status, "INTERNAL")}
    return web.json_response({"error": error}, status=status)


async def _serve(args: argparse.Namespace) -> None:
    provider = MockProvider(Behaviour(latency_ms=args.latency_ms, chunk_ms=args.chunk_ms))
    # Cancelled, a handler ends when its client leaves.
    runner = web.AppRunner(provider.app(), access_log=None, handler_cancellation=True, keepalive_timeout=75.0)
    await runner.setup()
    await web.TCPSite(runner, args.host, args.port).start()
    port = runner.addresses[0][1]
    if args.ports_file:
        made = args.ports_file.with_suffix(".new")
        made.write_text(json.dumps({"port": port, "pid": os.getpid()}))
        made.replace(args.ports_file)
    else:
        sys.stdout.write(f"http://{args.host}:{port}\n")
        sys.stdout.flush()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    parent = os.getppid()
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), timeout=0.5)
        if args.exit_with_parent and os.getppid() != parent:
            break
    await runner.cleanup()


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--chunk-ms", type=float, default=0.0)
    parser.add_argument("--ports-file", type=Path, help="written when it listens")
    parser.add_argument("--exit-with-parent", action="store_true")
    asyncio.run(_serve(parser.parse_args(argv)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

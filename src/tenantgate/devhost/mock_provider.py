"""A provider that only pretends: OpenAI's chat completions, Anthropic's messages, Gemini's generateContent.

``python -m tenantgate.devhost.mock_provider --port 0`` runs it by itself. It keeps no credential, only its
SHA-256, and the last requests' models and headers for tests: ``GET /_mock/requests``; ``DELETE`` forgets them.
``PUT /_mock/behaviour`` makes it fail or linger for the requests that follow, ``PUT /_mock/rules`` only for those of a
port, a path, a model or a number; ``DELETE`` ends that. ``POST /_mock/ports`` opens one more port, so that one process
stands for several providers, and ``PUT /_mock/ports/PORT`` makes it refuse connections.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from tenantgate.devhost import mock_errors, mock_formats, mock_operations, mock_shapes
from tenantgate.devhost.mock_faults import Behaviour, Rule, Rules
from tenantgate.devhost.mock_ledger import Asked, Ledger
from tenantgate.devhost.mock_ports import Ports
from tenantgate.devhost.mock_shapes import Reply
from tenantgate.devhost.mock_tls import Authority

__all__ = ["Behaviour", "MockProvider", "main"]

_RAW: Final = frozenset({"short", "long"})


class MockProvider:
    """The provider's state and its web application."""

    def __init__(self, default: Behaviour) -> None:
        self.rules = Rules(default)
        self.ledger = Ledger()
        self.formats = mock_formats.Requests()
        self.ports: Ports | None = None

    def app(self) -> web.Application:
        """Its routes."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/v1/chat/completions", self._openai)
        app.router.add_post("/openai/v1/chat/completions", self._openai)  # Groq's path
        for path, operation in {
            "embeddings": mock_operations.embeddings,
            "completions": mock_operations.completion,
            "images/generations": mock_operations.image,
            "audio/speech": mock_operations.speech,
            "audio/transcriptions": mock_operations.transcription,
        }.items():
            app.router.add_post(f"/v1/{path}", functools.partial(self._operation, operation))
        app.router.add_post("/v1/messages", self._anthropic)
        app.router.add_post("/v1beta/models/{model}:{operation}", self._gemini)
        mock_formats.add_routes(app, self.formats)
        app.router.add_get("/_mock/requests", self._requests)
        app.router.add_delete("/_mock/requests", self._forget)
        app.router.add_put("/_mock/behaviour", self._behave)
        app.router.add_delete("/_mock/behaviour", self._behave_again)
        app.router.add_put("/_mock/rules", self._rule)
        app.router.add_delete("/_mock/rules", self._no_rules)
        app.router.add_get("/_mock/billing", self._billing)
        app.router.add_post("/_mock/ports", self._open_port)
        app.router.add_put("/_mock/ports/{port}", self._change_port)
        app.router.add_get("/_mock/ready", self._ready)
        return app

    # -- control

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    async def _requests(self, _request: web.Request) -> web.Response:
        return web.json_response(self.ledger.summary())

    async def _billing(self, _request: web.Request) -> web.Response:
        return web.json_response(self.ledger.billing())

    async def _forget(self, _request: web.Request) -> web.Response:
        self.ledger.forget()
        return web.json_response({})

    async def _behave(self, request: web.Request) -> web.Response:
        try:
            self.rules.now = dataclasses.replace(self.rules.default, **await request.json())
        except (TypeError, ValueError):
            known = ", ".join(f.name for f in dataclasses.fields(Behaviour))
            return web.json_response({"error": f"known are: {known}"}, status=400)
        return web.json_response(dataclasses.asdict(self.rules.now))

    async def _behave_again(self, _request: web.Request) -> web.Response:
        self.rules.now = self.rules.default
        return web.json_response({})

    async def _rule(self, request: web.Request) -> web.Response:
        try:
            self.rules.rules = [Rule.of(table) for table in await request.json()]
        except (AttributeError, TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({})

    async def _no_rules(self, _request: web.Request) -> web.Response:
        self.rules.rules = []
        return web.json_response({})

    async def _open_port(self, request: web.Request) -> web.Response:
        body = await request.json()
        try:
            port = await self._need_ports().open(body.get("port", 0), tls=body.get("tls", ""))
        except OSError as error:
            return web.json_response({"error": str(error.strerror)}, status=409)
        return web.json_response({"port": port})

    async def _change_port(self, request: web.Request) -> web.Response:
        port, body = int(request.match_info["port"]), await request.json()
        ports = self._need_ports()
        await (ports.refuse(port) if body["refuses"] else ports.accept(port))
        return web.json_response({})

    def _need_ports(self) -> Ports:
        if self.ports is None:
            raise web.HTTPConflict
        return self.ports

    async def _note(
        self, request: web.Request, model: str, question: str | None, *, stream: bool
    ) -> Behaviour:
        """Write a request down; how to answer it. `question` is None where it is no request that can be answered."""
        sock = request.transport.get_extra_info("sockname") if request.transport else None
        port = int(sock[1]) if sock else 0
        behaviour = self.rules.choose(port=port, path=request.path, model=model)
        keeps = behaviour.keep_bodies or self.rules.now.keep_bodies
        self.ledger.note(
            Asked(
                port=port,
                path=request.path,
                query=request.query_string,
                model=model,
                stream=stream,
                question=_digest(question or ""),
                headers=tuple(request.headers.items()),
                body=await request.read() if keeps else None,
                billed=behaviour.billed and question is not None,
                tokens=Reply(question or "", model).usage,
            ),
            time.perf_counter(),
        )
        return behaviour

    async def _failed(
        self, request: web.Request, behaviour: Behaviour, question: str, error: Callable[..., Any]
    ) -> web.StreamResponse | None:
        """What there is in place of a reply; None where one follows."""
        await asyncio.sleep(behaviour.latency_ms / 1000)
        if behaviour.fault == "hang_head":
            await asyncio.Event().wait()
        if behaviour.fault == "close_head":
            _abort(request)
            return web.Response()
        if behaviour.fault == "redirect":
            return web.Response(status=307, headers={**behaviour.headers, "Location": behaviour.location})
        if behaviour.status == 200 and not behaviour.context_length:
            return None
        status = behaviour.status if behaviour.status != 200 else 400
        body = error(status, context_length=behaviour.context_length)
        self.ledger.refused(_digest(question), time.perf_counter())
        return web.json_response(body, status=status, headers=behaviour.headers)

    # -- providers

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        messages = body.get("messages") if body else None
        stream = bool(body and body.get("stream"))
        question = _question(messages) if isinstance(messages, list) else None
        behaviour = await self._note(
            request, str(body.get("model") if body else None), question, stream=stream
        )
        if not body or question is None:
            return web.json_response(mock_errors.openai(400, "messages: required"), status=400)
        if failed := await self._failed(request, behaviour, question, mock_errors.openai):
            return failed
        reply = self._reply(behaviour, question, str(body.get("model")))
        if not stream:
            return await self._plain(request, behaviour, mock_shapes.openai(reply))
        options = body.get("stream_options") or {}
        chunks = mock_shapes.openai_chunks(reply, include_usage=bool(options.get("include_usage")))

        async def events() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
            yield b"data: [DONE]\n\n"

        return await self._stream(request, behaviour, events(), "text/event-stream")

    async def _operation(
        self, answer: Callable[[dict[str, Any]], Any], request: web.Request
    ) -> web.StreamResponse:
        """An operation besides chat: a form's files count as their sizes."""
        if request.content_type.startswith("multipart/"):
            form = await request.post()
            body: dict[str, Any] | None = {
                k: v if isinstance(v, str) else len(v.file.read()) if isinstance(v, web.FileField) else 0
                for k, v in form.items()
            }
        else:
            body = await _body(request)
        asked = body or {}
        question = json.dumps(asked.get("input", asked.get("prompt")))
        stream = asked.get("stream") is True
        behaviour = await self._note(request, str(asked.get("model")), question, stream=stream)
        if failed := await self._failed(request, behaviour, question, mock_errors.openai):
            return failed
        made = answer(asked)
        if isinstance(made, bytes):
            return web.Response(body=made, content_type="audio/mpeg", headers=behaviour.headers)
        if not stream:
            return await self._plain(request, behaviour, made)

        async def events() -> AsyncIterator[bytes]:
            for chunk in mock_operations.completion_chunks(made):
                yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
            yield b"data: [DONE]\n\n"

        return await self._stream(request, behaviour, events(), "text/event-stream")

    async def _anthropic(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        messages = body.get("messages") if body else None
        stream = bool(body and body.get("stream"))
        question = _question(messages) if isinstance(messages, list) else None
        behaviour = await self._note(
            request, str(body.get("model") if body else None), question, stream=stream
        )
        if not body or question is None:
            return web.json_response(mock_errors.anthropic(400, "messages: field required"), status=400)
        if failed := await self._failed(request, behaviour, question, mock_errors.anthropic):
            return failed
        reply = self._reply(behaviour, question, str(body.get("model")))
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
        contents = body.get("contents") if body else None
        question = None
        if isinstance(contents, list):
            turns = [
                {"role": c.get("role"), "content": c.get("parts")} for c in contents if isinstance(c, dict)
            ]
            question = _question(turns)
        behaviour = await self._note(request, model, question, stream=stream)
        if question is None:
            return web.json_response(mock_errors.gemini(400, "contents is not specified"), status=400)
        if failed := await self._failed(request, behaviour, question, mock_errors.gemini):
            return failed
        reply = self._reply(behaviour, question, model)
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
        if behaviour.fault:
            text = json.dumps(value).encode()
            half = len(text) // 2
            return await _broken(request, behaviour, [text[:half], text[half:]], "application/json")
        if behaviour.malformed:
            return web.Response(
                text="this is not JSON", content_type="application/json", headers=behaviour.headers
            )
        return web.json_response(value, headers=behaviour.headers)

    async def _stream(
        self, request: web.Request, behaviour: Behaviour, chunks: AsyncIterator[bytes], kind: str
    ) -> web.StreamResponse:
        if behaviour.fault:
            return await _broken(request, behaviour, [chunk async for chunk in chunks], kind)
        head = {**behaviour.headers, "Content-Type": kind, "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=head)
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


async def _broken(
    request: web.Request, behaviour: Behaviour, pieces: list[bytes], kind: str
) -> web.StreamResponse:
    """A reply with a fault in its body."""
    if behaviour.fault in _RAW:
        return _with_wrong_length(
            request, b"".join(pieces), kind, more=50 if behaviour.fault == "short" else -10
        )
    response = web.StreamResponse(headers={**behaviour.headers, "Content-Type": kind})
    await response.prepare(request)
    if behaviour.fault.endswith("_middle"):
        for piece in pieces[: len(pieces) // 2]:
            await response.write(piece)
    if behaviour.fault.startswith("hang"):
        await asyncio.Event().wait()
    _abort(request)
    return response


def _with_wrong_length(request: web.Request, body: bytes, kind: str, *, more: int) -> web.Response:
    if request.transport is not None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body) + more}\r\n\r\n"
        request.transport.write(head.encode() + body)
        request.transport.close()
    return web.Response()


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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


async def _serve(args: argparse.Namespace) -> None:
    provider = MockProvider(Behaviour(latency_ms=args.latency_ms, chunk_ms=args.chunk_ms))
    authority = Authority()
    if args.ca_file:
        args.ca_file.write_bytes(authority.pem)
    ports = provider.ports = Ports(provider.app, args.host, authority)
    port = await ports.open(args.port)
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
    await ports.close()


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--chunk-ms", type=float, default=0.0)
    parser.add_argument("--ports-file", type=Path, help="written when it listens")
    parser.add_argument(
        "--ca-file", type=Path, help="written with the certificate that its ports with TLS go by"
    )
    parser.add_argument("--exit-with-parent", action="store_true")
    asyncio.run(_serve(parser.parse_args(argv)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

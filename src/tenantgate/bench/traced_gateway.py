"""The embedded gateway with a stopwatch in it: for each request a line of JSON in `FILE`, beside its error log.

A line holds seconds by part: ``gateway`` (all of the request, but what follows the answer), ``provider``, and for each
plugin and phase ``plugin``, the ``pdk`` calls that were answered for it, and their ``methods``. Not for measuring how
fast anything is as a whole: the stopwatch itself takes time.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tenantgate.devhost import external, gateway, pdk, pipeline, upstream

__all__ = ["FILE", "main"]

FILE: Final = "trace.jsonl"


@dataclass(slots=True)
class _Trace:
    gateway_s: float = 0.0
    provider_s: float = 0.0
    plugins: list[dict[str, Any]] = field(default_factory=list)


_request: Final[ContextVar[_Trace | None]] = ContextVar("request", default=None)
_event: Final[ContextVar[dict[str, Any] | None]] = ContextVar("event", default=None)
Method = Callable[..., Awaitable[Any]]


def _run(inner: Method) -> Method:
    async def run(self: pipeline.Pipeline, x: Any, client: Any) -> Any:
        trace = _Trace()
        _request.set(trace)
        started = time.perf_counter()
        try:
            return await inner(self, x, client)
        finally:
            trace.gateway_s = time.perf_counter() - started
            _write({"gateway": trace.gateway_s, "provider": trace.provider_s, "plugins": trace.plugins})

    return run


def _handle(inner: Method) -> Method:
    async def handle(self: external.ExternalPlugin, x: Any, conf: Any, phase: Any, saved: Any = None) -> Any:
        trace = _request.get()
        event: dict[str, Any] = {"name": self.name, "phase": phase.value, "pdk": 0.0, "methods": []}
        _event.set(event)
        if trace is not None and phase.value != "log":
            trace.plugins.append(event)
        started = time.perf_counter()
        try:
            return await inner(self, x, conf, phase, saved)
        finally:
            event["plugin"] = time.perf_counter() - started
            if phase.value == "log":
                _write({"log": event})

    return handle


def _call(inner: Callable[..., Any]) -> Callable[..., Any]:
    def call(at: Any, method: str, args: Any) -> Any:
        started = time.perf_counter()
        try:
            return inner(at, method, args)
        finally:
            event = _event.get()
            if event is not None:
                event["pdk"] += time.perf_counter() - started
                event["methods"].append(method.removeprefix("kong."))

    return call


def _send(inner: Method) -> Method:
    async def send(self: upstream.Client, x: Any) -> Any:
        started = time.perf_counter()
        try:
            return await inner(self, x)
        finally:
            trace = _request.get()
            if trace is not None:
                trace.provider_s += time.perf_counter() - started

    return send


def _write(line: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, ValueError), _beside_error_log().open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def _beside_error_log() -> Path:
    return Path(sys.argv[sys.argv.index("--error-log") + 1]).with_name(FILE)


def main() -> int:
    """Run the gateway with its parts wrapped."""
    wrapped: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (pipeline.Pipeline, "run", _run),
        (external.ExternalPlugin, "handle", _handle),
        (upstream.Client, "send", _send),
        (pdk, "call", _call),
    )
    for owner, name, wrap in wrapped:
        setattr(owner, name, wrap(getattr(owner, name)))
    return gateway.main()


if __name__ == "__main__":
    sys.exit(main())

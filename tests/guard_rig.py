"""The guards' plugin files as Kong would run them, with Kong played in this process: what the tests share."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

from tenantgate import llm
from tenantgate.kong.testing import FakeKong
from tenantgate.paths import plugin_file

__all__ = ["CANARY", "KEY", "REPLY", "REQUEST", "access", "chat", "load", "plugin", "response", "rule"]

KEY = "key-of-the-tests-key-of-the-tests"
CANARY = "canary.person@example.com"
REQUEST, REPLY = "tenant-guardrails", "tenant-response-guardrails"


def load(name: str) -> ModuleType:
    module = "tests_" + name.replace("-", "_")
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, plugin_file(name))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])
    return sys.modules[module]


def rule(detector: str, mode: str = "alert", **more: Any) -> dict[str, Any]:
    return {"name": detector.replace("_", "-"), "detector": detector, "mode": mode, **more}


def plugin(*rules: dict[str, Any], kind: str = REQUEST, **config: Any) -> Any:
    values = {"rules": list(rules), "encryption_key": KEY, **config}
    if kind == REQUEST:
        values = {"exemptions": False, **values}
    return load(kind).Plugin(values)


def chat(text: Any, **more: Any) -> bytes:
    return llm.write({"messages": [{"role": "user", "content": text}], **more})


def access(made: Any, body: bytes, *, consumer: str | None = "acme", **headers: str) -> FakeKong:
    named = {"X-Request-ID": "req-1", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return FakeKong(consumer=consumer, body=body, headers=named).run(made, "access")


def response(
    made: Any,
    raw: bytes,
    *,
    kind: str = "application/json",
    encoding: str | None = None,
    shared: Any = None,
    status: int = 200,
    **headers: str,
) -> FakeKong:
    kong = FakeKong(
        consumer="acme",
        status=status,
        shared=dict(shared or {}),
        headers={"X-Request-ID": "req-1", **headers},
        response_headers={"Content-Type": kind, **({"Content-Encoding": encoding} if encoding else {})},
        answers={"kong.service.response.get_raw_body": raw, "kong.response.clear_header": None},
    )
    return kong.run(made, "response")

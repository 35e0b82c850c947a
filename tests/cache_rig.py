"""A plugin object beside a real Redis, with Kong played in this process and models that need no weights."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import redis

from tenantgate import llm
from tenantgate.cache import learning as cache_learning
from tenantgate.cache import redis_store
from tenantgate.cache import service as cache_service
from tenantgate.cache.core.calibration import Calibration, Point
from tenantgate.cache.core.testing import HashingEmbedder, WordVerifier
from tenantgate.cache.models import CacheModels
from tenantgate.kong.testing import FakeKong
from tenantgate.models.language import load_identifier
from tenantgate.paths import plugin_file

PLUGIN = "tenant-semantic-cache"
KEY = "key-of-the-tests-key-of-the-tests"


def load_plugin() -> ModuleType:
    """The plugin's module, loaded from its file."""
    name = "tests_tenant_semantic_cache"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, plugin_file(PLUGIN))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def small_models() -> CacheModels:
    """Models that run at once: shared words make two texts similar."""
    verifier = WordVerifier()
    table = Calibration(verifier.fingerprint, "", "tests", (Point(0.7, 10_000, 10, 10_000),))
    return CacheModels(HashingEmbedder(), verifier, table)


@dataclass
class Rig:
    """One route of a gateway: asks, and lets the provider answer."""

    port: int
    config: dict[str, Any] = field(default_factory=dict)
    answer: str = "An answer."

    def __post_init__(self) -> None:
        values = {
            "encryption_key": KEY,
            "route_id": "route-1",
            # Other work on the same two processors must not look like a Redis that is gone.
            "redis": {"port": self.port, "timeout_ms": 1000},
            "deadline_ms": 1500,
            # A process's thread that would sweep a Redis, and complain of it, when both tests and Redis are gone.
            "sweep_interval": 0,
        }
        load_identifier()  # as the plugin's `warm_up` does: a first request may take longer than its deadline
        cache_learning._SEEN._held.clear()  # the process's: what another test looked up counts for it alone
        self.plugin = load_plugin().Plugin({**values, **self.config})

    @property
    def redis(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def access(
        self,
        text: Any = "q",
        *,
        tenant: str | None = "acme",
        headers: dict[str, str] | None = None,
        messages: Any = None,
        body: bytes | None = None,
        **parameters: Any,
    ) -> FakeKong:
        messages = messages or [{"role": "user", "content": text}]
        raw = llm.write({"messages": messages, **parameters}) if body is None else body
        kong = FakeKong(consumer=tenant, body=raw, headers=headers or {})
        return kong.run(self.plugin, "access")

    def log(
        self,
        kong: FakeKong,
        *,
        status: int = 200,
        reason: str | None = "stop",
        kind: str = "application/json",
        **message: Any,
    ) -> None:
        choice = {
            "message": {"role": "assistant", "content": self.answer, **message},
            "finish_reason": reason,
        }
        payload = {"choices": [choice], "model": "m"}
        kong.record = {
            "response": {"status": status, "headers": {"content-type": kind}},
            "ai": {"proxy": {"payload": {"response": json.dumps(payload)}}},
        }
        kong.run(self.plugin, "log")

    def ask(self, text: Any = "q", **how: Any) -> FakeKong:
        """A whole request: access, and the provider's answer unless the cache gave one."""
        kong = self.access(text, **how)
        if kong.exit is None:
            self.log(kong)
        return kong


def status(kong: FakeKong) -> str | None:
    """``X-Cache-Status`` as the client gets it."""
    headers = kong.exit.headers if kong.exit else {k.lower(): v for k, v in kong.reply_headers.items()}
    return headers.get("x-cache-status")


def fresh_stores(monkeypatch: Any, *, recent: int = 100) -> None:
    """Give a test stores of its own, which remember so many names; with 0 all is as if another node had stored it."""
    monkeypatch.setattr(cache_service, "_stores_by_redis", {})
    monkeypatch.setattr(redis_store, "_RECENT", recent)


def use_small_models(monkeypatch: Any) -> None:
    """Replace the process's models."""
    models = small_models()
    monkeypatch.setattr(cache_service.MODELS, "get", lambda *_names: models)


def no_models(monkeypatch: Any) -> None:
    """As if they were never built."""
    monkeypatch.setattr(cache_service.MODELS, "get", lambda *_names: None)

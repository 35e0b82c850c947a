"""An engine with a policy directory in memory, against a scripted Kong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tenantgate.engine.config import EngineConfig
from tenantgate.engine.core.tables import REQUEST
from tenantgate.engine.service import Engine
from tenantgate.kong.phase import phase
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.testing import FakeKong
from tenantgate.policy.core.records import (
    CATALOG,
    Blocked,
    Catalog,
    ModelPolicy,
    Target,
    TenantPolicy,
    write_catalog,
    write_record,
)
from tenantgate.routing.in_flight import InFlight
from tenantgate.routing.registry import Registry
from tenantgate.routing.service import Router
from tenantgate.routing.stored import sealer
from tenantgate.tenant import TenantId

CONFIG = EngineConfig(policy_path="/nowhere/policy.sqlite", encryption_key="k" * 32)
PATIENT: dict[str, Any] = {"exemptions": False, "deadline_ms": 1500}
BLOCK: dict[str, Any] = {"rules": [{"name": "secrets", "detector": "secrets", "mode": "block"}], **PATIENT}


class Memory:
    """A policy directory in memory."""

    def __init__(self, engine_parse: Any, records: Mapping[str, bytes]) -> None:
        self.ready = True
        self._parse, self._records = engine_parse, records

    def get(self, tenant: TenantId) -> Any:
        raw = self._records.get(str(tenant))
        return None if raw is None else self._parse(str(tenant), raw)


class Plugin:
    """The engine as a plugin."""

    policy = PhasePolicy(deadline_ms=60_000)  # the machine may be busy

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @phase
    def access(self, host: Any) -> None:
        self._engine.access(host)

    @phase
    def response(self, host: Any) -> None:
        self._engine.response(host)

    @phase
    def log(self, host: Any) -> None:
        self._engine.log(host)


def model(name: str = "gpt-4o-mini", provider: str = "openai", **changes: Any) -> ModelPolicy:
    given: dict[str, Any] = {
        "provider": provider,
        "model": name,
        "route_name": f"llm.{provider}.{name}.acme",
        "targets": (
            Target(
                provider="openai",
                name=name,
                header_name="Authorization",
                credential="{vault://env/KEY}",
                bearer=True,
            ),
        ),
    }
    return ModelPolicy(**(given | changes))


def plugin(
    *models: ModelPolicy, others: frozenset[str] = frozenset(), blocked: Blocked | None = None
) -> Plugin:
    routing = Router(Registry(None, sealer(CONFIG.encryption_key)), InFlight(None))
    engine = Engine(CONFIG, directory=object(), routing=routing)  # type: ignore[arg-type]
    made = models or (model(aliases=("fast",)),)
    policy = TenantPolicy(tenant=TenantId("acme"), models=made, blocked=blocked)
    names = {n for m in policy.models for n in (m.model, m.qualified)} | others
    records = {"acme": write_record(policy), CATALOG: write_catalog(Catalog(models=frozenset(names)))}
    engine._directory = Memory(engine._parse, records)  # type: ignore[assignment]
    return Plugin(engine)


def packed(body: Any, **changes: Any) -> dict[str, Any]:
    return {
        "tenant": "acme",
        "credential": "c-1",
        "id": "ab" * 16,
        "method": "POST",
        "path": "/v1/chat/completions",
        "captures": [],
        "headers": {"content-type": "application/json"},
        "body": body if isinstance(body, bytes) else json.dumps(body).encode(),
    } | changes


def ask(name: str | None = "gpt-4o-mini", text: str = "hello", **members: Any) -> dict[str, Any]:
    named = {} if name is None else {"model": name}
    return {**named, "messages": [{"role": "user", "content": text}], **members}


def access(what: Plugin, request: dict[str, Any]) -> FakeKong:
    kong = FakeKong(shared={REQUEST: request})
    return kong.run(what, "access")

"""The audit log's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from tenantgate.audit.config import Audit, AuditConfig, PipelineConfig
from tenantgate.fields import plain
from tenantgate.manifest import Command, Feature, GatewaySection, Journal, PluginManifest, RouteSettings

__all__ = ["AUDIT", "FEATURE"]

_REDIS_TIMEOUT_MS: Final = 500  # nobody waits for the spool, other than for a cache


def _journal(own: Audit) -> str:
    return f"{own.dir}/journal.jsonl"


def _pipeline(settings: RouteSettings) -> Mapping[str, Any]:
    if isinstance(settings.own, PipelineConfig):
        return asdict(settings.own)
    own: Audit = settings.own
    redis = {**settings.redis, "timeout_ms": _REDIS_TIMEOUT_MS}
    return {
        "journal": _journal(own),
        "state_dir": own.dir,
        "node": own.node,
        "spool": own.spool,
        "max_records": own.max_records,
        "max_megabytes": own.max_megabytes,
        "sinks": [plain(sink) for sink in own.sinks],
        "receivers": [plain(receiver) for receiver in settings.receivers],
        "redis": redis if own.spool == "redis" else None,
    }


AUDIT: Final = PluginManifest(
    name="tenant-audit-log",
    section="audit",
    description="The tenant-audit-log plugin.",
    priority=799,  # above all that may end a request
    phases=("access", "log"),
    config_class=AuditConfig,
    of_tools=True,
    service="tenantgate.audit.service:AuditLog",
    filled={
        "strict_requests": lambda settings: settings.strict_requests,
        "encryption_key": lambda settings: settings.encryption_key,
        "pipeline": _pipeline,
    },
    price_lists_field="prices",
    needs_replies=lambda config: config.content != "off",
    journal=Journal(
        path=_journal,
        fields="tenantgate.audit.scripts:journal",
        instead="with an audit log Kong's file-log writes its journal; give gateway.audit a sink of type file",
    ),
)

FEATURE: Final = Feature(
    plugins=(AUDIT,),
    gateway=GatewaySection(
        name="audit",
        config_class=Audit,
        description="Storage and delivery of the records of tenants with an `audit` section.",
    ),
    commands=(
        Command(
            name="audit",
            help="the records of LLM requests: look, check, send again, compare",
            adds="tenantgate.audit.commands:audit",
        ),
    ),
    documents={"audit-record.schema.json": "tenantgate.audit.core.record:schema"},
)

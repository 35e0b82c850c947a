"""Tenantgate's plugins as the configuration knows them; a new plugin is one more entry here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tenantgate import fields
from tenantgate.audit import config as audit
from tenantgate.cache.config import CacheConfig
from tenantgate.compress import config as compress
from tenantgate.config import scripts
from tenantgate.config.model import Gateway
from tenantgate.errors import ConfigError
from tenantgate.guard import config as guard

__all__ = [
    "AUDIT",
    "CACHE",
    "CATALOG",
    "COMPRESSOR",
    "COSTS",
    "GUARD",
    "REPLY_GUARD",
    "CataloguedPlugin",
    "by_section",
]

AUDIT: Final = "tenant-audit-log"
CACHE: Final = "tenant-semantic-cache"
COMPRESSOR: Final = "tenant-prompt-compressor"
GUARD: Final = "tenant-guardrails"
REPLY_GUARD: Final = "tenant-response-guardrails"

COSTS: Final = {COMPRESSOR: ("input_cost",), AUDIT: ("input_cost", "output_cost")}
"""Plugins that count money, and the prices of the route's model that they take unless they have their own."""


def _never(_config: Any) -> bool:
    return False


def _always(_config: Any) -> bool:
    return True


def _fine(_config: Any) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguedPlugin:
    """A plugin, its section in tenants.yaml, and what it asks of its routes."""

    name: str
    """The plugin's name in Kong, and its file's."""
    section: str
    """The key in tenants.yaml, under `defaults`, a tenant or a model."""
    description: str
    config_class: type
    """Its configuration class, whose fields the section takes."""
    filled: Callable[[Gateway, str], Mapping[str, Any]]
    """The fields that the renderer sets, from the gateway's settings and the route's name."""
    needs_replies: Callable[[Any], bool] = _never
    """Whether it takes replies from Kong's log, with this configuration: ai-proxy's payloads, and the finish
    reason of streams."""
    check: Callable[[Any], None] = _fine
    """What the fields of a configuration alone can't say; raises `ConfigError`."""
    fails_closed: Callable[[Any], bool] = _never
    """Whether nothing may pass without it, with this configuration."""
    closing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By phase the Lua that then refuses what it didn't let pass."""


def _redis(gateway: Gateway) -> Mapping[str, Any]:
    redis = gateway.redis
    nodes = [{"ip": node.ip, "port": node.port} for node in redis.cluster_nodes]
    where = {"cluster_nodes": nodes} if nodes else {"host": redis.host, "port": redis.port}
    return {
        **where, "database": redis.database,
        "username": redis.username, "password": redis.password,
        "ssl": redis.ssl, "ssl_verify": redis.ssl_verify, "timeout_ms": redis.plugin_timeout_ms,
    }  # fmt: skip


def _strict(gateway: Gateway) -> Mapping[str, Any]:
    # What is as the plugins have it by themselves need not be said.
    return {"strict_requests": None if gateway.strict_requests else False}


def _cache_fields(gateway: Gateway, route: str) -> Mapping[str, Any]:
    return {
        **_strict(gateway),
        "upstream_headers": sorted(gateway.upstream_headers, key=str.lower) or None,
        "namespace": route,
        "encryption_key": gateway.encryption_key,
        "redis": _redis(gateway),
        "guards": None,  # the renderer knows the route's
    }


def _compressor_fields(gateway: Gateway, _route: str) -> Mapping[str, Any]:
    return _strict(gateway)


def _guard_fields(gateway: Gateway, _route: str) -> Mapping[str, Any]:
    return {
        **_strict(gateway),
        "encryption_key": gateway.encryption_key,
        "redis": _redis(gateway),
        "correlation_header": gateway.correlation_header,
    }


def _check_rules(rules: Sequence[guard.RuleConfig], *, replies: bool = False) -> None:
    guard.check(rules, replies=replies)
    for rule in rules:
        if rule.patterns:
            # Imported here: RE2 is only needed where there are expressions.
            from tenantgate.guard.patterns import Re2Patterns  # noqa: PLC0415

            try:
                Re2Patterns(rule.patterns)
            except ConfigError as error:
                raise ConfigError(f"rules.{rule.name}.{error}") from None


def _check_compression(config: compress.CompressConfig) -> None:
    compress.check(config)
    # Elsewhere the directory is the gateway's own and can't be looked into.
    if config.pruner_model and Path(config.pruner_model).is_dir():
        from tenantgate.compress.pruners import check_model  # noqa: PLC0415

        check_model(config.pruner_model)


def journal(gateway: Gateway) -> str:
    """The file in which Kong notes each request for the audit log."""
    return f"{gateway.audit.dir}/journal.jsonl"


def _audit_fields(gateway: Gateway, _route: str) -> Mapping[str, Any]:
    audit = gateway.audit
    sinks = [
        {
            name: _plain(value)
            for name in fields.specs(type(sink))
            if (value := getattr(sink, name)) is not None
        }
        for sink in audit.sinks
    ]
    return {
        **_strict(gateway),
        "encryption_key": gateway.encryption_key,
        "pipeline": {
            "journal": journal(gateway), "state_dir": audit.dir, "node": audit.node, "spool": audit.spool,
            "max_records": audit.max_records, "max_megabytes": audit.max_megabytes, "sinks": sinks,
            "redis": {**_redis(gateway), "timeout_ms": 500} if audit.spool == "redis" else None,
        },
    }  # fmt: skip


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _reply_guard_fields(gateway: Gateway, _route: str) -> Mapping[str, Any]:
    return {
        "encryption_key": gateway.encryption_key,
        "redis": _redis(gateway),
        "correlation_header": gateway.correlation_header,
        "recover_redacted": None,  # as tenant-guardrails has it
    }


CATALOG: Final = (
    CataloguedPlugin(
        name=AUDIT,
        section="audit",
        description="The tenant-audit-log plugin.",
        config_class=audit.AuditConfig,
        filled=_audit_fields,
        needs_replies=lambda config: config.content != "off",
        check=audit.check,
    ),
    CataloguedPlugin(
        name=COMPRESSOR,
        section="compression",
        description="The tenant-prompt-compressor plugin.",
        config_class=compress.CompressConfig,
        filled=_compressor_fields,
        check=_check_compression,
    ),
    CataloguedPlugin(
        name=GUARD,
        section="guardrails",
        description="The tenant-guardrails plugin.",
        config_class=guard.GuardConfig,
        filled=_guard_fields,
        needs_replies=lambda config: any(r.target == "reply" for r in config.effective),
        check=lambda config: _check_rules(config.effective),
        fails_closed=lambda config: config.enforces and config.on_error == "reject",
        closing={"access": scripts.GUARD_CHECK},
    ),
    CataloguedPlugin(
        name=CACHE,
        section="cache",
        description="The tenant-semantic-cache plugin.",
        config_class=CacheConfig,
        filled=_cache_fields,
        needs_replies=_always,
    ),
    CataloguedPlugin(
        name=REPLY_GUARD,
        section="response_guardrails",
        description="The tenant-response-guardrails plugin: Kong then holds back each reply until its end.",
        config_class=guard.ReplyGuardConfig,
        filled=_reply_guard_fields,
        check=lambda config: _check_rules(config.rules, replies=True),
        fails_closed=lambda config: config.enforces and config.on_error == "reject",
        closing={"header_filter": scripts.REPLY_GUARD_CHECK, "body_filter": scripts.REPLY_GUARD_BODY},
    ),
)


def by_section() -> dict[str, CataloguedPlugin]:
    """The plugins by their section in tenants.yaml."""
    return {plugin.section: plugin for plugin in CATALOG}

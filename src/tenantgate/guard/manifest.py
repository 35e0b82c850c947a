"""The guardrails' manifest: two plugins, one for requests and one for replies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tenantgate.guard.config import GuardConfig, ReplyGuardConfig
from tenantgate.manifest import Command, Feature, PluginManifest

__all__ = ["FEATURE", "GUARD", "REPLY_GUARD"]

_REPLIES: Final = "response_guardrails"


def _rejects(config: GuardConfig | ReplyGuardConfig) -> bool:
    """Rules in alert never stop a request or a reply, whatever fails."""
    return config.enforces and config.on_error == "reject"


def _gate(config: GuardConfig | ReplyGuardConfig) -> bool:
    return _rejects(config) or config.recover_redacted


def _brings(config: GuardConfig) -> Mapping[str, Mapping[str, Any]]:
    """The reply has to come by our way, even where none of its own rules wants that."""
    return {_REPLIES: {"recover_redacted": True}} if config.recover_redacted else {}


GUARD: Final = PluginManifest(
    name="tenant-guardrails",
    section="guardrails",
    description="The tenant-guardrails plugin.",
    priority=796,  # below the compressor (798): nothing rewrites a prompt after its guard
    phases=("access", "log"),
    config_class=GuardConfig,
    of_tools=True,
    service="tenantgate.guard.service:Guard",
    filled={
        "strict_requests": lambda settings: settings.strict_requests,
        "encryption_key": lambda settings: settings.encryption_key,
        "redis": lambda settings: settings.redis,
        "correlation_header": lambda settings: settings.correlation_header,
    },
    gate=_gate,
    brings=_brings,
    needs_replies=lambda config: any(rule.target == "reply" for rule in config.effective),
    rejects=_rejects,
    closing={"access": "tenantgate.guard.scripts:GUARD_CHECK"},
    inspects="tenantgate.guard.validation:problems",
)

REPLY_GUARD: Final = PluginManifest(
    name="tenant-response-guardrails",
    section=_REPLIES,
    description="The tenant-response-guardrails plugin. Kong then buffers each reply until its end.",
    priority=785,
    phases=("response",),
    config_class=ReplyGuardConfig,
    of_tools=True,
    service="tenantgate.guard.reply_service:ReplyGuard",
    filled={
        "encryption_key": lambda settings: settings.encryption_key,
        "redis": lambda settings: settings.redis,
        "correlation_header": lambda settings: settings.correlation_header,
        "recover_redacted": lambda _settings: None,  # as tenant-guardrails has it
    },
    gate=_gate,
    rejects=_rejects,
    closing={
        "header_filter": "tenantgate.guard.scripts:REPLY_GUARD_CHECK",
        "body_filter": "tenantgate.guard.scripts:REPLY_GUARD_BODY",
    },
    inspects="tenantgate.guard.validation:problems",
)

FEATURE: Final = Feature(
    plugins=(GUARD, REPLY_GUARD),
    commands=(
        Command(
            name="guard",
            help="exemptions from the guard's rules, and what rules in alert found",
            adds="tenantgate.guard.commands:guard",
        ),
    ),
)

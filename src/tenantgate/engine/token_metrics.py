"""Tokens of replies as metrics, by tenant and kind."""

from __future__ import annotations

from typing import Final

from tenantgate.llm.token_usage import TokenUsage
from tenantgate.telemetry import metrics
from tenantgate.tenant import TenantId

__all__ = ["count_tokens"]

_tokens: Final = metrics.counter(
    "tenantgate_llm_tokens_total",
    "Tokens as providers count them. Kinds: input and output; parts of these are cache_read, cache_write, reasoning, "
    "audio_input and audio_output.",
    ("tenant", "kind"),
)
_uncertain: Final = metrics.counter(
    "tenantgate_llm_usage_uncertain_total",
    "Replies whose tokens aren't known for sure: a stream that broke off (lower_bound).",
    ("tenant", "reason"),
)
_KINDS: Final = ("input", "output", "cache_read", "cache_write", "reasoning", "audio_input", "audio_output")


def count_tokens(tenant: TenantId, usage: TokenUsage | None) -> None:
    """Count the tokens of a reply; nothing where its provider named none."""
    if usage is None:
        return
    for kind in _KINDS:
        if count := getattr(usage, kind):
            _tokens.inc(count, tenant=tenant.slug, kind=kind)
    if usage.lower_bound:
        _uncertain.inc(tenant=tenant.slug, reason="lower_bound")

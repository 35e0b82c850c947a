"""The names of counters in Redis: there is none without a tenant."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from tenantgate.limits.core.rules import Per, Rule, Window
from tenantgate.tenant import TenantId, slug

__all__ = ["counter_name", "raises_key", "settled_key", "window_key"]

_TENANT: Final = Per.TENANT
_PREFIX: Final = "tg:money:1"  # the version of the layout, so that another one never meets these keys


def counter_name(rule: Rule, subject: str) -> str:
    """The name of a rule's counter within its tenant; another window or limit of the same rule goes on with it.

    Args:
        rule: what is counted; its name, any text, is unique in the tenant.
        subject: the id of the key, model, provider or end user, any text; without meaning where the tenant counts.
    """
    # Values of enums, whose hash is the text's own: that of a member is a call.
    return _counter(rule.name, rule.counted._value_, rule.per._value_, "" if rule.per is _TENANT else subject)


@lru_cache(maxsize=10_000)
def _counter(name: str, counted: str, per: str, subject: str) -> str:
    return f"{slug(name)}:{counted}:{per}:{slug(subject)}"


def window_key(tenant: TenantId, counter: str, window: Window, start_ms: int) -> str:
    """Where a counter lies; one of a calendar has a key for each window, by its start.

    In braces the hash tag: a Redis Cluster keeps a tenant on one node.
    """
    when = "s" if window.sliding_s else f"{window.unit}:{start_ms // 1000}"
    return f"{_PREFIX}:{{{tenant.slug}}}:counter:{counter}:{when}"


def raises_key(tenant: TenantId) -> str:
    """Where a tenant's temporary raises lie."""
    return f"{_PREFIX}:{{{tenant.slug}}}:raises"


def settled_key(tenant: TenantId, request: str) -> str:
    """Where it is noted for a while that a request is settled."""
    return f"{_PREFIX}:{{{tenant.slug}}}:settled:{slug(request)}"

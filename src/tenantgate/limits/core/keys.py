"""The names of counters in Redis: there is none without a tenant."""

from __future__ import annotations

from typing import Final

from tenantgate.limits.core.limit import Limit, Subject
from tenantgate.tenant import TenantId, slug

__all__ = ["counter_key"]

_PREFIX: Final = "tg:limits:1"  # the version of the layout, so that another one never meets these keys


def counter_key(tenant: TenantId, limit: Limit, *, model: str, credential: str | None) -> str:
    """Where a limit's window lies. In braces the hash tag: a Redis Cluster keeps a tenant on one node.

    Args:
        tenant: whose request it is.
        limit: one of those that count the request.
        model: the model's name, any text.
        credential: the id of the client's credential, any text. Requests without one are counted together.
    """
    name = {Subject.TENANT: "", Subject.MODEL: model, Subject.KEY: credential or ""}[limit.subject]
    return f"{_PREFIX}:{{{tenant.slug}}}:{limit.subject}:{slug(name)}:{limit.period.word}"

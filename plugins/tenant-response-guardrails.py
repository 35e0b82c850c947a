"""tenant-response-guardrails: masks or refuses replies, and recovers what the request's guard has masked.

It has a response phase, for which Kong holds back every reply of its routes until the reply's end: attach it only
where replies must be blocked or changed.
"""

from __future__ import annotations

from tenantgate import __version__
from tenantgate.guard.config import ReplyGuardConfig
from tenantgate.guard.manifest import REPLY_GUARD
from tenantgate.kong import TenantPlugin, kong_fields

version, priority, Schema = __version__, REPLY_GUARD.priority, kong_fields(REPLY_GUARD.config_class)


class Plugin(TenantPlugin[ReplyGuardConfig], manifest=REPLY_GUARD):
    """One configured instance."""


def warm_up() -> None:
    """Load what the first reply would wait for."""
    from tenantgate.guard.models import PARTS

    PARTS.load("injection")

"""Requests as metrics, by tenant: how they ended, and how long they took."""

from __future__ import annotations

import re
from typing import Final

from tenantgate.engine.core.tables import PackedLog
from tenantgate.telemetry import metrics

__all__ = ["count_request", "outcome_of"]

_requests: Final = metrics.counter(
    "tenantgate_llm_requests_total",
    "Requests by how they ended: ok; refused (4xx: the client's to mend); error (5xx); client_gone.",
    ("tenant", "outcome"),
)
_seconds: Final = metrics.histogram(
    "tenantgate_llm_request_seconds",
    "From a request's arrival to the end of its answer, of those that ended ok.",
    ("tenant",),
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACE: Final = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_GONE: Final = 499


def count_request(packed: PackedLog) -> None:
    """Count a request at its end; its trace is the exemplar of its time."""
    outcome, tenant = outcome_of(packed.status), packed.tenant.slug
    _requests.inc(tenant=tenant, outcome=outcome)
    if outcome == "ok":
        found = _TRACE.fullmatch(packed.traceparent)
        _seconds.observe(packed.took_ms / 1000, tenant=tenant, trace_id=found[1] if found else "")


def outcome_of(status: int) -> str:
    """The outcome of a request with this HTTP status; 0: there was no answer."""
    if status == _GONE:
        return "client_gone"
    if 0 < status < 400:
        return "ok"
    return "refused" if 400 <= status < 500 else "error"

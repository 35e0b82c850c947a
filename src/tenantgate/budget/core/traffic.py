"""Requests as audit records tell of them: whose they were, and what each used. Pure.

Where a record tells no usage, what the tenant's other requests for the same model used on average stands for it, and
the request counts as estimated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tenantgate.audit.core.journal import route_parts
from tenantgate.prices.core.price_list import NANO_PER_DOLLAR

__all__ = ["Request", "estimated", "request_of"]

_CACHED: Final = "cached"
_ASKED: Final = frozenset({"answered", _CACHED, "blocked", "rate_limited", "upstream_error", "client_gone"})
"""Outcomes of requests that limits count: they came as far as the limits."""
_FREE: Final = frozenset({"upstream_error", "blocked"})
"""Outcomes that cost nothing where no usage is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        time_ms: when it came, Unix.
        model: ``provider/model`` as tenants.yaml names it.
        provider: that answered, else the model's.
        key: id of the client's credential; empty: not told.
        end_user: id or digest of who asked among the tenant's users; empty: not told.
        cached: whether the cache answered.
        prompt, completion: tokens; None: not told.
        nano: what it cost in nano-dollars; None: not told.
        estimated: whether some of these are averages.
    """

    tenant: str
    time_ms: int
    model: str
    provider: str = ""
    key: str = ""
    end_user: str = ""
    cached: bool = False
    prompt: int | None = None
    completion: int | None = None
    nano: int | None = None
    estimated: bool = False

    def costing(self, nano: int | None) -> Request:
        """The same with what it cost."""
        return replace(self, nano=nano)


def request_of(record: Mapping[str, Any]) -> Request | None:
    """The request of an audit record; None for one that no limit counts, or that isn't of a request."""
    outcome = record.get("outcome")
    if outcome not in _ASKED:
        return None
    try:
        time_ms = int(datetime.fromisoformat(str(record["time"])).timestamp() * 1000)
        tenant = str(record["tenant"])
    except (KeyError, ValueError):
        return None
    ai = _mapping(record.get("gen_ai"))
    usage = _mapping(ai.get("usage"))
    provider, name, _ = route_parts(str(_mapping(record.get("route")).get("name", "")))
    model = f"{provider}/{name}" if name else ""
    target = str(_mapping(record.get("response")).get("target", ""))
    who = _mapping(record.get("end_user"))
    known = "input_tokens" in usage or "output_tokens" in usage
    free = outcome in _FREE and not known
    nano = _nano(_mapping(record.get("cost")))
    return Request(
        tenant=tenant,
        time_ms=time_ms,
        model=model,
        provider=target.partition("/")[0] or provider,
        key=str(_mapping(record.get("key")).get("id", "")),
        end_user=str(who.get("id") or who.get("hash") or ""),
        cached=outcome == _CACHED,
        prompt=_count(usage.get("input_tokens")) if known else 0 if free else None,
        completion=_count(usage.get("output_tokens")) if known else 0 if free else None,
        nano=0 if nano is None and free else nano,
    )


def estimated(requests: Iterable[Request]) -> list[Request]:
    """The requests by their time, with averages where nothing is told."""
    found = sorted(requests, key=lambda r: r.time_ms)
    sums: dict[tuple[str, str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for request in found:
        for name in ("prompt", "completion", "nano"):
            value = getattr(request, name)
            if value and not request.cached:  # what has failed and cost nothing tells nothing of the others
                for key in ((request.tenant, request.model, name), (request.tenant, "", name)):
                    total, count = sums[key]
                    sums[key] = total + value, count + 1

    def average(request: Request, name: str) -> int:
        for key in ((request.tenant, request.model, name), (request.tenant, "", name)):
            total, count = sums[key]
            if count:
                return -(-total // count)
        return 0

    out = []
    for request in found:
        if None in (request.prompt, request.completion, request.nano):
            prompt, completion, nano = (
                average(request, name) if value is None else value
                for name, value in (
                    ("prompt", request.prompt),
                    ("completion", request.completion),
                    ("nano", request.nano),
                )
            )
            request = replace(  # noqa: PLW2901 - completed
                request, prompt=prompt, completion=completion, nano=nano, estimated=not request.cached
            )
        out.append(request)
    return out


def _nano(cost: Mapping[str, Any]) -> int | None:
    text = cost.get("exact", cost.get("amount"))
    if text is None:
        return None
    try:
        return int((Decimal(str(text)) * NANO_PER_DOLLAR).to_integral_value())
    except (InvalidOperation, ValueError, OverflowError):
        return None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

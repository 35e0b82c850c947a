"""How records are grouped, named and tried again on their way to a sink: pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from tenantgate.audit.ports import Queued

__all__ = ["LONGEST_PAUSE_S", "batch_key", "pause_s", "span"]

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0
_CLIENT: Final = 3  # OTLP's SpanKind
_OK, _ERROR = 1, 2  # OTLP's StatusCode


def pause_s(failures: int, random: float, *, asked_s: float | None = None) -> float:
    """How long to wait after so many failures in a row, with full jitter; `random` from 0 to 1.

    At least what the receiver asked for (``Retry-After``), an hour at most.
    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    top = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20))
    return max(top * random, min(asked_s or 0.0, 3600.0))


def batch_key(batch: Sequence[Queued]) -> str:
    """The same for the same records in the same order: what a receiver drops doubles by."""
    digest = hashlib.sha256()
    for queued in batch:
        digest.update(queued.id.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def span(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a span of OTLP's JSON, with the attributes of OpenTelemetry's gen_ai conventions.

    Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
    """
    trace = record.get("trace") or {}
    start = int(datetime.fromisoformat(record["time"]).timestamp() * 1e9)
    took = float((record.get("latencies") or {}).get("request") or 0)
    model = ((record.get("gen_ai") or {}).get("request") or {}).get("model", "")
    status = int((record.get("response") or {}).get("status") or 0)
    out: dict[str, Any] = {
        "traceId": trace.get("trace_id", ""),
        "spanId": trace.get("span_id", ""),
        "name": f"chat {model}".strip(),
        "kind": _CLIENT,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + int(took * 1e6)),
        "attributes": [
            {"key": key, "value": value}
            for key, found in _flat("", record)
            if not key.startswith("trace.") and (value := _value(found)) is not None
        ],
        "status": {"code": _OK if 0 < status < 400 else _ERROR},
    }
    if trace.get("parent_id"):
        out["parentSpanId"] = trace["parent_id"]
    return out


_NAMES: Final = {
    "response.status": "http.response.status_code",
    "request.method": "http.request.method",
    "client.address": "client.address",
    "tenant": "tenantgate.tenant",
    "outcome": "tenantgate.outcome",
    "id": "tenantgate.record.id",
}


def _flat(prefix: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif prefix.startswith("gen_ai."):
        yield prefix, value
    else:
        yield _NAMES.get(prefix, f"tenantgate.{prefix}"), value


def _value(found: Any) -> dict[str, Any] | None:
    if isinstance(found, bool):
        return {"boolValue": found}
    if isinstance(found, int):
        return {"intValue": str(found)}
    if isinstance(found, float):
        return {"doubleValue": found}
    if isinstance(found, str):
        return {"stringValue": found}
    if isinstance(found, list):
        inner = [v for item in found if (v := _value(item)) is not None]
        return {"arrayValue": {"values": inner}}
    if isinstance(found, Mapping):
        return {
            "kvlistValue": {"values": [{"key": k, "value": v} for k, i in found.items() if (v := _value(i))]}
        }
    return None

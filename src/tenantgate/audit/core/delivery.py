"""Batches, pauses and spans of records on their way to a sink. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from tenantgate.audit.core.ports import Queued

__all__ = ["LONGEST_PAUSE_S", "batch_key", "pause_s", "span"]

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0
_INTERNAL, _CLIENT = 1, 3  # OTLP's SpanKind
_UNSET, _OK, _ERROR = 0, 1, 2  # OTLP's StatusCode


def pause_s(
    failures: int, random: float, *, asked_s: float | None = None, longest_s: float = LONGEST_PAUSE_S
) -> float:
    """Seconds to wait after so many failures in a row, with full jitter; `random` from 0 to 1.

    At least what the receiver asked for (``Retry-After``), an hour at most.
    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    top = min(longest_s, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20))
    return max(top * random, min(asked_s or 0.0, 3600.0))


def batch_key(batch: Sequence[Queued]) -> str:
    """Key of a batch, the same for the same records in the same order: receivers drop doubles by it."""
    digest = hashlib.sha256()
    for queued in batch:
        digest.update(queued.id.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def span(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a span of OTLP's JSON, with the attributes of OpenTelemetry's gen_ai conventions.

    Prompt and reply are ``gen_ai.input.messages`` and ``gen_ai.output.messages``, if the record has them as text: as
    JSON texts, which the conventions allow and which receivers show best. A few ``langfuse.`` attributes say what
    Langfuse takes from no other.
    Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/,
    https://langfuse.com/integrations/native/opentelemetry
    """
    trace = record.get("trace") or {}
    came = datetime.fromisoformat(record["time"])
    start = int(came.timestamp() * 1e9)
    happened = (record.get("event") or {}).get("type", "")
    request = record.get("gap") is None and not happened  # else the record reports dropped ones, or an event
    took = float((record.get("latencies") or {}).get("request") or 0)
    model = ((record.get("gen_ai") or {}).get("request") or {}).get("model", "")
    status = int((record.get("response") or {}).get("status") or 0)
    out: dict[str, Any] = {
        "traceId": trace.get("trace_id", ""),
        "spanId": trace.get("span_id", ""),
        "name": f"chat {model}".strip() if request else happened or "records dropped",
        "kind": _CLIENT if request else _INTERNAL,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + int(took * 1e6)),
        "attributes": [
            {"key": key, "value": value}
            for key, found in (*_flat("", _bare(record)), *_messages(record), *_langfuse(record, came))
            if not key.startswith("tenantgate.trace.") and (value := _value(found)) is not None
        ],
        "status": {"code": (_OK if 0 < status < 400 else _ERROR) if request else _UNSET},
    }
    if trace.get("parent_id"):
        out["parentSpanId"] = trace["parent_id"]
    return out


_SIDES: Final = ("input_messages", "output_messages")
_KEPT: Final = "kept"


def _bare(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record without its messages where they get attributes of their own."""
    content = record.get("content") or {}
    if content.get("state") != _KEPT:
        return record
    return {**record, "content": {name: value for name, value in content.items() if name not in _SIDES}}


def _messages(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    content = record.get("content") or {}
    if content.get("state") != _KEPT:
        return
    for side in _SIDES:
        messages = content.get(side)
        if messages:
            whole = [_message(message, reply=side == "output_messages") for message in messages]
            yield f"gen_ai.{side.replace('_', '.')}", json.dumps(whole, ensure_ascii=False)


def _message(message: Mapping[str, Any], *, reply: bool) -> dict[str, Any]:
    """With the fields that the conventions' schemas of messages demand."""
    parts = [
        {"content": "", **part} if part.get("type") == "text" else part for part in message.get("parts") or ()
    ]
    return {**({"finish_reason": "unknown"} if reply else {}), **message, "parts": parts}


_PARTS: Final = (
    ("cache_read", "input_cached_tokens", "input"),
    ("cache_creation", "input_cache_creation", "input"),
    ("reasoning", "output_reasoning_tokens", "output"),
)
"""Parts of a usage, Langfuse's names of them, and of which side they are."""


def _langfuse(record: Mapping[str, Any], came: datetime) -> Iterator[tuple[str, str]]:
    yield "langfuse.observation.metadata.tenant", str(record.get("tenant", ""))
    ai = record.get("gen_ai") or {}
    usage, cost = ai.get("usage"), record.get("cost")
    if usage:
        # Langfuse adds its kinds up, so a part isn't in the whole.
        tokens = {"input": usage.get("input_tokens", 0), "output": usage.get("output_tokens", 0)}
        for part, kind, side in _PARTS:
            if count := (usage.get(part) or {}).get(f"{side}_tokens"):
                tokens |= {kind: count, side: max(0, tokens[side] - count)}
        yield "langfuse.observation.usage_details", json.dumps(tokens)
    if cost:
        yield "langfuse.observation.cost_details", json.dumps({"total": cost["amount"]})
    first = (ai.get("server") or {}).get("time_to_first_token")
    if first is not None:
        moment = came + timedelta(seconds=float(first))
        yield "langfuse.observation.completion_start_time", moment.isoformat(timespec="milliseconds")


_NAMES: Final = {
    "response.status": "http.response.status_code",
    "request.method": "http.request.method",
    "client.address": "client.address",
    "tenant": "tenantgate.tenant",
    "outcome": "tenantgate.outcome",
    "id": "tenantgate.record.id",
}


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
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
        if any(isinstance(item, list | Mapping) for item in found):
            return {
                "stringValue": json.dumps(found, ensure_ascii=False)
            }  # many receivers take no deeper arrays
        return {"arrayValue": {"values": [v for item in found if (v := _value(item)) is not None]}}
    return None

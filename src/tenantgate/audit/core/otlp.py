"""Records as spans, log records and metrics of OTLP's JSON, with the attributes of OpenTelemetry's gen_ai conventions.

The usage and the cost of a request are on one span, its own: the spans of its tries have none, so that a backend which
adds them up counts them once.
Source: https://opentelemetry.io/docs/specs/otlp/, https://langfuse.com/integrations/native/opentelemetry
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tenantgate.audit.core import gen_ai
from tenantgate.audit.core.gen_ai import CONVENTIONS, Conventions

__all__ = ["View", "is_request", "log_record", "metrics", "spans"]

_INTERNAL, _CLIENT = 1, 3  # SpanKind
_UNSET, _OK, _ERROR = 0, 1, 2  # StatusCode
_INFO, _WARN, _ERROR_LOG = 9, 13, 17  # SeverityNumber
_DELTA: Final = 1  # AggregationTemporality
_SIDES: Final = ("input_messages", "output_messages")
_KEPT: Final = "kept"


@dataclass(frozen=True, slots=True)
class View:
    """What a receiver gets of a record.

    Attributes:
        conventions: version of the names.
        usage: tokens and cost, too; False where the clients' own spans, which go to the same place, have them.
        content: prompt and reply, too, where the record has them, which is redacted text.
    """

    conventions: str = "1.41"
    usage: bool = True
    content: bool = True

    @property
    def names(self) -> Conventions:
        """The names of the version."""
        return CONVENTIONS[self.conventions]


def is_request(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a request; others report dropped ones, or an event."""
    return record.get("gap") is None and not (record.get("event") or {}).get("type")


# -- spans ---------------------------------------------------------------------------------------------------


def spans(record: Mapping[str, Any], view: View) -> list[dict[str, Any]]:
    """The span of a record, a child of the caller's, and where there were several tries a child of it for each.

    Ids are derived from the record's, so that a span that is sent again is the same one.
    """
    trace = record.get("trace") or {}
    start, end = _times(record)
    found: dict[str, Any] = {
        "traceId": trace.get("trace_id", ""),
        "spanId": trace.get("span_id", ""),
        "name": _name(record),
        "kind": _CLIENT if is_request(record) else _INTERNAL,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "attributes": _attributes(record, view, _langfuse(record, view)),
        "status": {"code": _status(record)},
    }
    if trace.get("parent_id"):
        found["parentSpanId"] = trace["parent_id"]
    return [found, *_tries(record, trace, start)]


def _tries(record: Mapping[str, Any], trace: Mapping[str, Any], start: int) -> Iterator[dict[str, Any]]:
    """One after another from the request's start: Kong's log says how long each took, and not when it began."""
    tries = record.get("tries") or ()
    if len(tries) < 2 or not is_request(record):
        return
    for number, one in enumerate(tries, 1):
        end = start + int(float(one.get("ms") or 0) * 1e6)
        outcome = str(one.get("outcome", ""))
        values = {
            "tenantgate.tenant": record.get("tenant"),
            "tenantgate.target": one.get("target"),
            "tenantgate.try": number,
            "http.response.status_code": one.get("status"),
            **_server(one.get("host"), one.get("address")),
            **({} if outcome == "ok" else {"error.type": outcome}),
        }
        yield {
            "traceId": trace.get("trace_id", ""),
            "spanId": _try_id(record, number),
            "parentSpanId": trace.get("span_id", ""),
            "name": f"try {one.get('target', '')}".strip(),
            "kind": _CLIENT,
            "startTimeUnixNano": str(start),
            "endTimeUnixNano": str(end),
            "attributes": _pairs(values.items()),
            "status": {"code": _OK if outcome == "ok" else _ERROR},
        }
        start = end


def _try_id(record: Mapping[str, Any], number: int) -> str:
    identifier = f"{record.get('id', '')} {(record.get('trace') or {}).get('span_id', '')} try {number}"
    digits = hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return digits if int(digits, 16) else "0" * 15 + "1"


def _name(record: Mapping[str, Any]) -> str:
    """``{operation} {model}``, of a tool ``execute_tool {tool}``, as the conventions have it."""
    if not is_request(record):
        return (record.get("event") or {}).get("type") or "records dropped"
    ai = record.get("gen_ai") or {}
    if tool := (ai.get("tool") or {}).get("name"):
        return f"execute_tool {tool}"
    if mcp := record.get("mcp"):
        return str((mcp.get("method") or {}).get("name") or "mcp")
    operation = (ai.get("operation") or {}).get("name") or "chat"
    return f"{operation} {(ai.get('request') or {}).get('model', '')}".strip()


def _times(record: Mapping[str, Any]) -> tuple[int, int]:
    """Beginning and end, in nanoseconds since 1970."""
    start = int(datetime.fromisoformat(record["time"]).timestamp() * 1e9)
    return start, start + int(float((record.get("latencies") or {}).get("request") or 0) * 1e6)


def _http_status(record: Mapping[str, Any]) -> int:
    return int((record.get("response") or {}).get("status") or 0)


def _failed(record: Mapping[str, Any]) -> bool:
    return is_request(record) and not 0 < _http_status(record) < 400


def _status(record: Mapping[str, Any]) -> int:
    if not is_request(record):
        return _UNSET
    return _ERROR if _failed(record) else _OK


# -- logs ----------------------------------------------------------------------------------------------------


def log_record(record: Mapping[str, Any], view: View) -> dict[str, Any]:
    """The log record of a record: its attributes, and a line of text. Within its trace, at the request's end."""
    trace = record.get("trace") or {}
    _, end = _times(record)
    status = _http_status(record)
    outcome = str(record.get("outcome") or "")
    severity = (
        (_INFO, "INFO")
        if not _failed(record)
        else ((_ERROR_LOG, "ERROR") if status >= 500 else (_WARN, "WARN"))
    )
    found: dict[str, Any] = {
        "timeUnixNano": str(end),
        "observedTimeUnixNano": str(end),
        "severityNumber": severity[0],
        "severityText": severity[1],
        "body": {"stringValue": " ".join(filter(None, (_name(record), outcome, str(status or ""))))},
        "attributes": _attributes(record, view, ()),
        "traceId": trace.get("trace_id", ""),
        "spanId": trace.get("span_id", ""),
    }
    if is_request(record) and record.get("gen_ai") and view.names.event:
        found["eventName"] = view.names.event
    return found


# -- metrics -------------------------------------------------------------------------------------------------


def metrics(records: Iterable[Mapping[str, Any]], view: View) -> list[dict[str, Any]]:
    """Histograms of what the requests of a batch took, by tenant, provider and model; empty where there is none.

    They are of the batch alone (delta), so that a batch which is sent again is the same one, and no state has to
    outlive this process. A request counts at its end.
    """
    tokens = _Histograms(gen_ai.TOKEN_BOUNDS)
    durations = _Histograms(gen_ai.DURATION_BOUNDS_S)
    firsts = _Histograms(gen_ai.FIRST_TOKEN_BOUNDS_S)
    times: list[tuple[int, int]] = []
    for record in records:
        ai = record.get("gen_ai") or {}
        if not is_request(record) or not ai:
            continue
        times.append(_times(record))
        labels = _labels(record, view.names)
        usage = ai.get("usage") or {}
        for kind in ("input", "output") if view.usage else ():
            if (count := usage.get(f"{kind}_tokens")) is not None:
                tokens.observe({**labels, gen_ai.TOKEN_TYPE: kind}, count)
        failed = {"error.type": _error_type(record)} if _failed(record) else {}
        durations.observe({**labels, **failed}, (times[-1][1] - times[-1][0]) / 1e9)
        if (first := (ai.get("server") or {}).get("time_to_first_token")) is not None:
            firsts.observe(labels, float(first))
    if not times:
        return []
    span = (min(start for start, _ in times), max(end for _, end in times))
    return [
        {"name": name, "unit": unit, "histogram": histogram}
        for name, unit, made in (
            (gen_ai.TOKEN_USAGE, "{token}", tokens),
            (gen_ai.OPERATION_DURATION, "s", durations),
            (gen_ai.TIME_TO_FIRST_TOKEN, "s", firsts),
        )
        if (histogram := made.otlp(span))
    ]


class _Histograms:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._found: dict[tuple[tuple[str, str], ...], tuple[list[int], list[float]]] = {}

    def observe(self, labels: Mapping[str, str], value: float) -> None:
        key = tuple(sorted(labels.items()))
        counts, values = self._found.setdefault(key, ([0] * (len(self._bounds) + 1), []))
        counts[bisect_left(self._bounds, value)] += 1
        values.append(value)

    def otlp(self, span: tuple[int, int]) -> dict[str, Any]:
        points = [
            {
                "attributes": _pairs(key),
                "startTimeUnixNano": str(span[0]),
                "timeUnixNano": str(span[1]),
                "count": str(len(values)),
                "sum": float(sum(values)),
                "min": float(min(values)),
                "max": float(max(values)),
                "explicitBounds": list(map(float, self._bounds)),
                "bucketCounts": list(map(str, counts)),
            }
            for key, (counts, values) in sorted(self._found.items())
        ]
        return {"aggregationTemporality": _DELTA, "dataPoints": points} if points else {}


def _labels(record: Mapping[str, Any], names: Conventions) -> dict[str, str]:
    found = {"tenantgate.tenant": str(record.get("tenant", ""))}
    for path, name in names.metric_attributes.items():
        value: Any = record
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            found[name] = value
    return found


# -- attributes ----------------------------------------------------------------------------------------------

_NAMES: Final = {
    "response.status": "http.response.status_code",
    "request.method": "http.request.method",
    "client.address": "client.address",
    "tenant": "tenantgate.tenant",
    "outcome": "tenantgate.outcome",
    "id": "tenantgate.record.id",
}
_OF_USAGE: Final = ("gen_ai.usage.", "cost.")


def _attributes(
    record: Mapping[str, Any], view: View, more: Iterable[tuple[str, Any]]
) -> list[dict[str, Any]]:
    shown = record if view.content else {**record, "content": _without_texts(record)}
    last = (record.get("tries") or [{}])[-1]
    return _pairs(
        [
            *(
                (_attribute(path, view.names), value)
                for path, value in _flat("", _bare(shown))
                if view.usage or not path.startswith(_OF_USAGE)
            ),
            *_server(last.get("host"), last.get("address")).items(),
            *([("error.type", _error_type(record))] if _failed(record) else ()),
            *_messages(shown, view.names),
            *more,
        ]
    )


def _attribute(path: str, names: Conventions) -> str:
    return names.attributes.get(path) or _NAMES.get(path) or f"tenantgate.{path}"


def _error_type(record: Mapping[str, Any]) -> str:
    """The HTTP status, as the conventions want it; where there is none what became of the request."""
    status = _http_status(record)
    return str(status) if status else str(record.get("outcome") or "_OTHER")


def _server(host: Any, address: Any) -> dict[str, Any]:
    """``server.address`` and ``server.port`` of a try."""
    if not isinstance(host, str) or not host:
        return {}
    name, _, port = host.rpartition(":")
    if not name or not port.isdecimal():  # no port of its own: that of the address, which has one
        name, port = host, str(address or "").rpartition(":")[2]
    return {"server.address": name, **({"server.port": int(port)} if port.isdecimal() else {})}


def _bare(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record without what gets attributes of its own: its trace, and messages that are text."""
    out = {name: value for name, value in record.items() if name != "trace"}
    content = record.get("content") or {}
    if content.get("state") == _KEPT:
        out["content"] = {name: value for name, value in content.items() if name not in _SIDES}
    return out


def _without_texts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the content, without any of it."""
    return {n: v for n, v in (record.get("content") or {}).items() if n not in (*_SIDES, "headers")}


def _messages(record: Mapping[str, Any], names: Conventions) -> Iterator[tuple[str, str]]:
    content = record.get("content") or {}
    if content.get("state") != _KEPT:
        return
    for side, name in zip(_SIDES, (names.input_messages, names.output_messages), strict=True):
        messages = content.get(side)
        if messages and name:
            # As a JSON text, which the conventions allow and which receivers show best.
            whole = [_message(message, reply=side == "output_messages") for message in messages]
            yield name, json.dumps(whole, ensure_ascii=False)


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
_FOR_LANGFUSE: Final = Conventions({}, "langfuse.observation.input", "langfuse.observation.output")
_OBSERVATIONS: Final = {"embeddings": "embedding", "execute_tool": "tool"}


def _langfuse(record: Mapping[str, Any], view: View) -> Iterator[tuple[str, Any]]:
    """What Langfuse takes from no attribute of the conventions; other receivers let it lie."""
    ai = record.get("gen_ai") or {}
    trace = record.get("trace") or {}
    tenant = str(record.get("tenant", ""))
    operation = "execute_tool" if ai.get("tool") else (ai.get("operation") or {}).get("name", "")
    yield "langfuse.observation.type", _OBSERVATIONS.get(operation, "generation" if operation else "span")
    yield "langfuse.observation.metadata.tenant", tenant
    if not trace.get("parent_id"):  # else it is the client's trace, which has a name already
        yield "langfuse.trace.name", _name(record)
        yield "langfuse.trace.metadata.tenant", tenant
    user = record.get("end_user") or {}
    yield "langfuse.user.id", user.get("id") or user.get("hash")
    yield "langfuse.observation.model.name", _model(ai)
    if _failed(record):
        yield "langfuse.observation.level", "ERROR"
        yield (
            "langfuse.observation.status_message",
            f"{record.get('outcome', '')} {_error_type(record)}".strip(),
        )
    if view.content and not view.names.input_messages:
        yield from _messages(record, _FOR_LANGFUSE)
    if view.usage:
        yield from _langfuse_usage(ai.get("usage"), record.get("cost"))
    first = (ai.get("server") or {}).get("time_to_first_token")
    if first is not None:
        moment = datetime.fromisoformat(record["time"]) + timedelta(seconds=float(first))
        yield "langfuse.observation.completion_start_time", moment.isoformat(timespec="milliseconds")


def _model(ai: Mapping[str, Any]) -> str | None:
    return (ai.get("response") or {}).get("model") or (ai.get("request") or {}).get("model")


def _langfuse_usage(
    usage: Mapping[str, Any] | None, cost: Mapping[str, Any] | None
) -> Iterator[tuple[str, str]]:
    if usage:
        # Langfuse adds its kinds up, so a part isn't in the whole.
        tokens = {"input": usage.get("input_tokens", 0), "output": usage.get("output_tokens", 0)}
        for part, kind, side in _PARTS:
            if count := (usage.get(part) or {}).get(f"{side}_tokens"):
                tokens |= {kind: count, side: max(0, tokens[side] - count)}
        yield "langfuse.observation.usage_details", json.dumps(tokens)
    if cost:
        yield "langfuse.observation.cost_details", json.dumps({"total": cost["amount"]})


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, value


def _pairs(found: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    values = {name: value for name, given in found if (value := _value(given)) is not None}
    return [{"key": name, "value": value} for name, value in values.items()]


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
            # Many receivers take no deeper arrays.
            return {"stringValue": json.dumps(found, ensure_ascii=False)}
        return {"arrayValue": {"values": [v for item in found if (v := _value(item)) is not None]}}
    return None

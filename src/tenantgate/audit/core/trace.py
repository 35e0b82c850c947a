"""W3C trace context (https://www.w3.org/TR/trace-context/), as much as a record needs."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Trace", "parse_traceparent", "span_id", "trace_of"]

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """Place of a request in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: of the record's own span, 16 hexadecimal digits.
        parent_id: of the span that it belongs to, or None where the trace begins here.
        sampled: what the caller decided.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    sampled: bool = True


def parse_traceparent(header: str | None) -> tuple[str, str, bool] | None:
    """(trace id, span id, sampled) of a ``traceparent``, or None for one that the standard refuses."""
    match = _TRACEPARENT.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(parent_id, 16):
        return None
    return trace_id, parent_id, bool(int(flags, 16) & 1)


def trace_of(header: str | None, kong_trace_id: str | None, identifier: str) -> Trace:
    """The trace of the request `identifier`.

    It continues the ``traceparent`` that Kong saw, else the trace that Kong itself began, else it begins here. The
    ids are derived from the request's, so that a record made again has them again.
    """
    span = span_id(identifier)
    if (found := parse_traceparent(header)) is not None:
        return Trace(found[0], span, found[1], found[2])
    if kong_trace_id and re.fullmatch(r"[0-9a-f]{32}", kong_trace_id) and int(kong_trace_id, 16):
        return Trace(kong_trace_id, span)
    return Trace(
        hashlib.sha256(f"trace {identifier}".encode("utf-8", "surrogatepass")).hexdigest()[:32], span
    )


def span_id(identifier: str) -> str:
    """The id of the record's span: 16 hexadecimal digits, never all zero."""
    digits = hashlib.sha256(f"span {identifier}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return digits if int(digits, 16) else "0" * 15 + "1"

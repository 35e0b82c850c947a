"""The record of one request: what it holds, how it is built, and its JSON schema.

Names are Kong's where Kong's log has the value, and OpenTelemetry's gen_ai conventions for what concerns the model, so
that the path of a field is the name of its attribute: ``gen_ai.usage.input_tokens``.
Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tenantgate.audit.core.chain import SHED, Numbers
from tenantgate.audit.core.content import ROLES
from tenantgate.audit.core.costs import PriceLists, cost_of, cost_schema
from tenantgate.audit.core.event import Event, event_schema
from tenantgate.audit.core.gen_ai import PROVIDERS
from tenantgate.audit.core.journal import JournalLine, Try
from tenantgate.audit.core.ports import GapReason
from tenantgate.audit.core.redaction import ContentState, Redacted, absent
from tenantgate.audit.core.trace import trace_of
from tenantgate.audit.core.usage import usage_of, usage_schema
from tenantgate.tenant import TenantId

__all__ = ["VERSION", "Outcome", "Terms", "asks_no_model", "build", "gap", "of_event", "outcome_of", "schema"]

VERSION: Final = 1
"""Version of the record; a field may be added under the same, none may change its meaning."""

_CACHE_STATUS: Final = "cache_status"
_FROM_CACHE: Final = ("hit", "coalesced", "stale")
_COMPLETE: Final = "complete"
_GUARDS: Final = ("guardrails", "response_guardrails")
_MCP: Final = "mcp"
"""Among the verdicts what the engine says of a request to an MCP endpoint."""


class Outcome(enum.StrEnum):
    """Outcome of a request."""

    ANSWERED = "answered"  # by the provider; or by the gateway what needs no model, as a list of them
    CACHED = "cached"  # by the cache
    BLOCKED = "blocked"  # by a guard
    UNAUTHORIZED = "unauthorized"  # 401, 403
    RATE_LIMITED = "rate_limited"  # 429 of the gateway's own
    REFUSED = "refused"  # another error of the client's
    UPSTREAM_ERROR = "upstream_error"  # the provider said no, or could not be reached
    GATEWAY_ERROR = "gateway_error"
    CLIENT_GONE = "client_gone"  # before it had its answer


_OF_CALLS: Final = {"guard": Outcome.BLOCKED, "limit": Outcome.RATE_LIMITED, "arguments": Outcome.REFUSED}
"""Outcomes of calls of tools that end with an error, which the model reads: HTTP's status says nothing of it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Settings of a route that a record depends on beside its content.

    `key` is the tenant's own; without one, and with an unknown route, the client's address and the end user are left
    out.
    """

    client_ip: str = "remove"
    prices: PriceLists = field(default_factory=PriceLists)
    key: bytes = field(default=b"", repr=False)
    end_user: str = "remove"


def build(line: JournalLine, redacted: Redacted, terms: Terms, *, identifier: str) -> dict[str, Any]:
    """The record of a request, to be linked into its tenant's chain. Absent values are left out."""
    trace = trace_of(line.notes.get("traceparent"), line.kong_trace_id, identifier)
    record: dict[str, Any] = {
        "version": VERSION,
        "id": identifier,
        "time": _time(line.started_ms),
        "tenant": str(line.tenant),
        "outcome": outcome_of(line).value,
        "request": _known(
            id=line.request_id, correlation_id=line.correlation_id, method=line.method, size=line.request_size
        ),
        "response": _known(
            status=line.status,
            size=line.response_size,
            source=line.source,
            upstream_status=_upstream_status(line),
            target=line.tries[-1].target if line.tries and line.source == "upstream" else None,
            cache_status=line.notes.get(_CACHE_STATUS),
            cache_key=line.notes.get("cache_key"),
        ),
        "route": _known(id=line.route_id, name=line.route_name),
        "consumer": _consumer(line),
        "client": _client(line, terms),
        "latencies": dict(line.latencies),
        "attempts": sum(bool(t.address) for t in line.tries) if line.tries else line.attempts,
        "trace": _known(
            trace_id=trace.trace_id, span_id=trace.span_id, parent_id=trace.parent_id, sampled=trace.sampled
        ),
        "gen_ai": _gen_ai(line, redacted),
        "verdicts": {name: dict(verdict) for name, verdict in sorted(line.verdicts.items()) if name != _MCP},
        "content": dict(redacted.content),
    }
    if line.credential_id:
        record["key"] = {"id": line.credential_id}
    if end_user := _end_user(line, terms):
        record["end_user"] = end_user
    if mcp := line.verdicts.get(_MCP):
        record["mcp"] = {
            name: {"name": value} for name in ("method", "server") if (value := mcp.get(name)) is not None
        } | _known(error=mcp.get("error"))
    if line.tries:
        record["tries"] = [_try(t) for t in line.tries]
    if cost := cost_of(line, terms.prices):
        record["cost"] = cost
    return record


def gap(
    numbers: Numbers,
    *,
    tenant: TenantId,
    identifier: str,
    now_ms: int,
    reason: GapReason = GapReason.SPOOL_FULL,
) -> dict[str, Any]:
    """The record of records that are gone, to be linked into their own chain."""
    trace = trace_of(None, None, identifier)
    return {
        "version": VERSION,
        "id": identifier,
        "time": _time(now_ms),
        "tenant": str(tenant),
        "gap": {
            "reason": reason.value,
            "records": sum(last - first + 1 for first, last in numbers),
            "numbers": [{"from": first, "to": last} for first, last in numbers],
        },
        "trace": _known(trace_id=trace.trace_id, span_id=trace.span_id),
        "content": dict(absent(ContentState.NONE).content),
    }


def of_event(event: Event) -> dict[str, Any]:
    """The record of an event, to be linked into its tenant's chain."""
    trace = trace_of(None, None, event.id)
    return {
        "version": VERSION,
        "id": event.id,
        "time": _time(event.time_ms),
        "tenant": str(event.tenant),
        "event": dict(event.values),
        "trace": _known(trace_id=trace.trace_id, span_id=trace.span_id),
        "content": dict(absent(ContentState.NONE).content),
    }


def asks_no_model(line: JournalLine) -> bool:
    """Whether a request is none for a model, such as for the list of them: none of our plugins has read its content."""
    if line.verdicts.get(_MCP, {}).get("tool"):
        return False  # a call of a tool that we have answered
    return line.source != "upstream" and 0 < line.status < 400 and not line.attempts and not line.model


def outcome_of(line: JournalLine) -> Outcome:
    """The outcome of a request, by its status, the origin of the answer, and the verdicts of our plugins."""
    status, ours = line.status, line.source != "upstream"
    if (error := line.verdicts.get(_MCP, {}).get("error")) is not None and 0 < status < 400:
        return _OF_CALLS.get(error, Outcome.UPSTREAM_ERROR)
    # Only the cache answers with success in the provider's place.
    hit = line.notes.get(_CACHE_STATUS, "").lower() in _FROM_CACHE  # a provider may say so, too
    if ours and (hit or (0 < status < 400 and not line.attempts and not asks_no_model(line))):
        return Outcome.CACHED
    if status == 499 or (0 < status < 400 and line.notes.get(_COMPLETE) == "false"):
        return Outcome.CLIENT_GONE
    if status >= 400 and any(line.verdicts.get(guard, {}).get("action") == "block" for guard in _GUARDS):
        return Outcome.BLOCKED
    if 0 < status < 400:
        return Outcome.ANSWERED
    if not ours or (status in (502, 504) and line.attempts):
        return Outcome.UPSTREAM_ERROR
    if status in (401, 403):
        return Outcome.UNAUTHORIZED
    if status == 429:
        return Outcome.RATE_LIMITED
    return Outcome.REFUSED if 400 <= status < 500 else Outcome.GATEWAY_ERROR


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(min(max(milliseconds, 0), 4_102_444_800_000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _upstream_status(line: JournalLine) -> str:
    """The providers' statuses; Kong's own log has those of the loopback proxy where there were tries."""
    if not line.tries:
        return line.upstream_status
    return ", ".join(str(t.status) for t in line.tries if t.status)


def _try(one: Try) -> dict[str, Any]:
    made = {
        "target": one.target,
        "outcome": one.outcome,
        "ms": one.ms,
        **_known(status=one.status or None, address=one.address, host=one.host),
    }
    return {**made, "uncertain": True} if one.uncertain else made


def _consumer(line: JournalLine) -> dict[str, Any] | None:
    return _known(id=line.consumer_id, username=line.consumer_name) if line.consumer_id else None


def _client(line: JournalLine, terms: Terms) -> dict[str, Any]:
    if not line.client_ip or terms.client_ip == "remove":
        return {}
    if terms.client_ip == "keep":
        return {"address": line.client_ip}
    return {"address_hash": hmac.digest(terms.key, b"ip\0" + line.client_ip.encode(), "sha256").hex()[:32]}


def _end_user(line: JournalLine, terms: Terms) -> dict[str, Any]:
    if not line.end_user or terms.end_user == "remove":
        return {}
    if terms.end_user == "keep":
        return {"id": line.end_user}
    return {"hash": hmac.digest(terms.key, b"end_user\0" + line.end_user.encode(), "sha256").hex()[:32]}


def _gen_ai(line: JournalLine, redacted: Redacted) -> dict[str, Any]:
    mcp = line.verdicts.get(_MCP)
    operation = line.notes.get("operation", "" if mcp else "chat")
    out: dict[str, Any] = {"operation": {"name": operation}} if operation else {}
    if mcp and mcp.get("tool"):
        out["tool"] = {"name": mcp["tool"]}
    if line.provider:
        out["provider"] = {"name": PROVIDERS.get(line.provider, line.provider)}
    request = {**_known(model=line.model), **redacted.settings}
    if request:
        out["request"] = request
    response = _known(model=line.response_model)
    reasons = _reasons(line, redacted)
    if reasons:
        response["finish_reasons"] = reasons
    if response:
        out["response"] = response
    if usage := usage_of(line):
        out["usage"] = usage
    if line.time_to_first_token_ms is not None:
        out["server"] = {"time_to_first_token": round(line.time_to_first_token_ms / 1000, 6)}
    return out


def _reasons(line: JournalLine, redacted: Redacted) -> list[str]:
    if reason := line.notes.get("finish_reason"):
        return [reason]
    messages = redacted.content.get("output_messages") or ()
    return [m["finish_reason"] for m in messages if m.get("finish_reason")]


# -- the schema ----------------------------------------------------------------------------------------------


def _object(
    description: str, properties: Mapping[str, Any], required: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": dict(properties),
        **({"required": list(required)} if required else {}),
        **more,
    }


def _of(kind: str | list[str], description: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "description": description, **more}


def schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of a record: of a request, of an event, or one that says which had to be dropped."""
    text, whole, number = "string", "integer", "number"
    digest = {"pattern": "^[0-9a-f]{64}$"}
    part = _object(
        "A piece of a message. Hashed content has each text as NAME_hash.",
        {
            "type": _of(
                text, "text, tool_call, tool_call_response; image, input, file and other are not kept."
            ),
            "content": _of(text, "The redacted text."),
            "name": _of(text, "Of the speaker or of the tool."),
            "id": _of(text, "Of the tool call."),
            "arguments": _of(text, "Of the tool call, as JSON."),
            "response": _of(text, "Of the tool."),
        },
        ("type",),
    )
    message = _object(
        "A message.",
        {
            "role": _of(text, "Who says it.", enum=sorted((*ROLES, "other"))),
            "parts": {"type": "array", "items": part},
            "finish_reason": _of(text, "Why the reply ended."),
        },
        ("role", "parts"),
    )
    content = _object(
        "Prompt and reply, redacted, or why they aren't there.",
        {
            "state": _of(text, "What became of the content.", enum=[s.value for s in ContentState]),
            "reason": _of(text, "Why redaction failed.", enum=["timeout", "names_unavailable", "error"]),
            "error": _of(text, "Type of the error that made redaction fail."),
            "prompt_bytes": _of(whole, "Size of the request's body.", minimum=0),
            "reply_bytes": _of(whole, "Size of the reply as Kong logged it.", minimum=0),
            "input_messages": {"type": "array", "items": message, "description": "What was asked."},
            "output_messages": {"type": "array", "items": message, "description": "What was answered."},
            "prompt_truncated": _of("boolean", "Whether the prompt goes on."),
            "reply_truncated": _of("boolean", "Whether the reply goes on."),
            "headers": _object(
                "Allowed headers of the request, redacted.", {}, additionalProperties={"type": text}
            ),
            "redactions": _object(
                "How much was redacted, by kind.", {}, additionalProperties={"type": whole, "minimum": 1}
            ),
            "salt": _of(text, "Random, so that the chain's digest tells nothing once the content is gone."),
        },
        ("state",),
        additionalProperties=False,
    )
    properties = {
        "version": _of(whole, "Version of this schema.", const=VERSION),
        "id": _of(
            text, "The record's id, unique over all tenants and nodes; Kong's id of the request.", minLength=1
        ),
        "time": _of(text, "When the request came, UTC.", format="date-time"),
        "tenant": _of(text, "Whose the request is.", minLength=1),
        "outcome": _of(text, "What became of the request.", enum=[o.value for o in Outcome]),
        "request": _object(
            "The request.",
            {
                "id": _of(text, "Kong's id of it (X-Kong-Request-Id)."),
                "correlation_id": _of(text, "The client's or the gateway's correlation id, if it is a UUID."),
                "method": _of(text, "HTTP method."),
                "size": _of(whole, "Bytes, head included.", minimum=0),
            },
            additionalProperties=False,
        ),
        "response": _object(
            "The answer that the client got.",
            {
                "status": _of(whole, "HTTP status.", minimum=0),
                "size": _of(whole, "Bytes, head included.", minimum=0),
                "source": _of(text, "Who answered: upstream, kong."),
                "upstream_status": _of(text, "The provider's status; of several tries all of them."),
                "target": _of(text, "Id of the target whose answer it is, of a model with several."),
                "cache_status": _of(text, "X-Cache-Status: Hit, Miss, Bypass, Refresh, Coalesced, Stale."),
                "cache_key": _of(text, "X-Cache-Key of the answer."),
            },
            additionalProperties=False,
        ),
        "route": _object(
            "The route.",
            {"id": _of(text, "Kong's id."), "name": _of(text, "Its name.")},
            additionalProperties=False,
        ),
        "consumer": {
            "anyOf": [
                {"type": "null"},
                _object(
                    "Who asked; null for a request that was not let in.",
                    {"id": _of(text, "Kong's id."), "username": _of(text, "Its name.")},
                    additionalProperties=False,
                ),
            ]
        },
        "key": _object(
            "The client's key, by which it was let in.",
            {
                "id": _of(
                    text, "Kong's id of the credential; of an access token a hash of issuer and subject."
                )
            },
            ("id",),
            additionalProperties=False,
        ),
        "end_user": _object(
            "Who asked among the tenant's users, as the request says.",
            {"id": _of(text, "As given."), "hash": _of(text, "Hash of it, keyed by tenant.")},
            additionalProperties=False,
        ),
        "client": _object(
            "Where the request came from.",
            {"address": _of(text, "IP address."), "address_hash": _of(text, "Hash of it, keyed by tenant.")},
            additionalProperties=False,
        ),
        "latencies": _object(
            "In milliseconds, as in Kong's log.",
            {
                "kong": _of(number, "In Kong and its plugins."),
                "proxy": _of(number, "Until the provider's first byte; -1 where none was asked."),
                "request": _of(number, "From the first byte to the last."),
                "receive": _of(number, "While the reply came in."),
            },
            additionalProperties=False,
        ),
        "attempts": _of(whole, "How often a provider was connected to.", minimum=0),
        "tries": {
            "type": "array",
            "items": _object(
                "A try at one target.",
                {
                    "target": _of(text, "Its id, provider/model, with #2 for a second credential."),
                    "outcome": _of(
                        text,
                        "ok; a class of failure, as in failover_criteria; refused, by the egress policy; http_NNN; "
                        "aborted, by the client; unknown.",
                    ),
                    "status": _of(whole, "The provider's HTTP status.", minimum=100),
                    "ms": _of(number, "Until the reply's head, or the failure.", minimum=0),
                    "address": _of(text, "Address and port that was asked."),
                    "host": _of(text, "Host name that was asked for."),
                    "uncertain": _of(
                        "boolean", "The provider may have done the work, and bill it.", const=True
                    ),
                },
                ("target", "outcome", "ms"),
                additionalProperties=False,
            ),
            "description": "Tries of a request that goes through the gateway's loopback proxy, the last one answered.",
        },
        "trace": _object(
            "W3C trace context.",
            {
                "trace_id": _of(text, "Of the trace.", pattern="^[0-9a-f]{32}$"),
                "span_id": _of(text, "Of this request's span.", pattern="^[0-9a-f]{16}$"),
                "parent_id": _of(text, "Of the caller's span.", pattern="^[0-9a-f]{16}$"),
                "sampled": _of("boolean", "What the caller decided."),
            },
            ("trace_id", "span_id"),
            additionalProperties=False,
        ),
        "gen_ai": _object(
            "Attributes of OpenTelemetry's gen_ai conventions.",
            {
                "operation": _object("gen_ai.operation.*", {"name": _of(text, "Such as chat.")}),
                "tool": _object("gen_ai.tool.*", {"name": _of(text, "The tool that was called.")}),
                "provider": _object("gen_ai.provider.*", {"name": _of(text, "The provider.")}),
                "request": _object("gen_ai.request.*", {"model": _of(text, "The model that was asked for.")}),
                "response": _object(
                    "gen_ai.response.*",
                    {
                        "model": _of(text, "The model that answered."),
                        "finish_reasons": {"type": "array", "items": {"type": text}},
                    },
                ),
                "usage": usage_schema(),
                "server": _object("gen_ai.server.*", {"time_to_first_token": _of(number, "Seconds.")}),
            },
            additionalProperties=False,
        ),
        "mcp": _object(
            "Of a request to an MCP endpoint.",
            {
                "method": _object("mcp.method.*", {"name": _of(text, "Such as tools/call.")}),
                "server": _object("The MCP server.", {"name": _of(text, "Its name.")}),
                "error": _of(
                    text,
                    "Why a call ended with an error: guard, limit, arguments; http_NNN, by the API; refused, by the "
                    "egress policy; error, timeout, reset, too_large.",
                ),
            },
            additionalProperties=False,
        ),
        "cost": cost_schema(),
        "verdicts": _object(
            "What each plugin decided, by plugin: actions, rules, kinds and numbers, no text.",
            {},
            additionalProperties={"type": "object"},
        ),
        "content": content,
        "chain": _object(
            "Links the record to the one before it, by tenant and node.",
            {
                "node": _of(text, "The node."),
                "seq": _of(whole, "Number in the chain, from 1, without gaps.", minimum=1),
                "prev": _of(
                    text, "Hash of the record before; empty for the first.", pattern="^([0-9a-f]{64})?$"
                ),
                "content": _of(text, "SHA-256 of the canonical content.", **digest),
                "hash": _of(
                    text, "SHA-256 of the canonical record without content and chain.hash.", **digest
                ),
            },
            ("node", "seq", "prev", "content", "hash"),
            additionalProperties=False,
        ),
    }
    of_all = ("version", "id", "time", "tenant", "trace", "content", "chain")
    required = tuple(name for name in properties if name not in ("cost", "tries", "mcp", "key", "end_user"))
    span = _object(
        "Numbers, both included.",
        {"from": _of(whole, "The first.", minimum=1), "to": _of(whole, "The last.", minimum=1)},
        ("from", "to"),
        additionalProperties=False,
    )
    dropped = _object(
        "Records that went before all sinks had them; a sink that was quick enough has them.",
        {
            "reason": _of(
                text,
                "spool_full: the bound of the spool was reached. spool_lost: Redis lost them; sinks may have them.",
                enum=[*GapReason],
            ),
            "records": _of(whole, "How many.", minimum=1),
            "numbers": {
                "type": "array",
                "items": span,
                "description": "Which ones, by chain.seq, of the same chain.",
            },
        },
        ("reason", "records", "numbers"),
        additionalProperties=False,
    )
    common = {name: properties[name] for name in of_all}
    of_gap, happened = {**common, "gap": dropped}, {**common, "event": event_schema()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tenantgate audit record",
        "anyOf": [
            _object("The record of one LLM request.", properties, required, additionalProperties=False),
            _object(
                "Says which records had to be dropped.", of_gap, (*of_all, "gap"), additionalProperties=False
            ),
            _object("The record of an event.", happened, (*of_all, "event"), additionalProperties=False),
        ],
    }


if SHED["state"] != ContentState.SHED:  # pragma: no cover - the two are written apart and must agree
    raise AssertionError(SHED)

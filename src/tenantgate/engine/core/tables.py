"""The tables in ``kong.ctx.shared`` by which the engine and its Lua plugins tell each other of a request.

One table a direction and phase, so that a request costs one call to Kong for each. The Lua side is
``plugins/kong/plugins/tenantgate-request`` and ``tenantgate-target``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.llm.operations import Passed
from tenantgate.llm.token_usage import TokenUsage, token_usage
from tenantgate.policy.core.records import ModelPolicy, Routing, Target
from tenantgate.tenant import TenantId

__all__ = [
    "BODY_PART",
    "DECISION",
    "END_USER",
    "LOG",
    "REQUEST",
    "Decision",
    "PackedLog",
    "PackedRequest",
    "ReplyLimit",
    "Try",
]

REQUEST: Final = "tenantgate_request"
DECISION: Final = "tenantgate_decision"
LOG: Final = "tenantgate_log"
END_USER: Final = "tenantgate_end_user"
"""For the audit log's journal."""
BODY_PART: Final = "tenantgate_body_"
"""With a part's number: a part of the body for the provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRequest:
    """A request as tenantgate-request packs it."""

    tenant: TenantId
    credential: str
    """Id of the key in Kong; empty if there is none."""
    id: str
    """Kong's own id of the request (``kong_request_id``)."""
    method: str
    path: str
    captures: Mapping[str, str]
    """Named parts of the path: ``provider``, ``model``, ``tenant``."""
    headers: Mapping[str, Any] = field(repr=False)
    body: bytes = field(repr=False)
    mcp: bool = False
    """Whether it was sent to an MCP endpoint."""
    scopes: frozenset[str] | None = None
    """Of an access token, by which the caller was known; None: by a key."""

    @classmethod
    def of(cls, table: Any, *, scopes: frozenset[str] | None = None) -> PackedRequest | None:
        """The request in a table of Kong's; None where it holds none, or no tenant."""
        if not isinstance(table, Mapping) or not (tenant := _text(table.get("tenant"))):
            return None
        return cls(
            tenant=TenantId(tenant),
            credential=_text(table.get("credential")),
            id=_text(table.get("id")),
            method=_text(table.get("method")),
            path=_text(table.get("path")),
            captures={_text(k): _text(v) for k, v in _mapping(table.get("captures")).items()},
            headers=_mapping(table.get("headers")),
            body=_bytes(table.get("body")),
            mcp=table.get("mcp") is True,
            scopes=scopes,
        )


@dataclass(frozen=True, slots=True)
class ReplyLimit:
    """Most tokens of a reply, that Kong writes into a body which is too large to be sent back.

    Attributes:
        names: of the members that take it.
        tokens: 1 or more.
    """

    names: tuple[str, ...]
    tokens: int


@dataclass(slots=True, kw_only=True)
class Decision:
    """What the engine decided about a request."""

    model: ModelPolicy | None = None
    """The model that the request may use; None where it was answered before one was chosen."""
    target: Target | None = None
    """The first choice; None where the engine answers itself."""
    targets: Sequence[Target] = ()
    """The first choice and those after it, in order, where the model has a `routing`."""
    retry_after_s: float | None = None
    """For ``Retry-After`` where the target fails, which is tried although all are left out."""
    egress: Sequence[str] | None = None
    """The tenant's own list of hosts; None: the gateway's alone holds."""
    asked_model: str = ""
    """The name by which the client asked for the model; empty where only its path names one."""
    upstream_model: str | None = None
    """The name that Kong writes into the body as ``model``, where the body is too large to be sent back."""
    reply_limit: ReplyLimit | None = None
    body: bytes | None = field(default=None, repr=False)
    body_parts: int = 0
    """Number of parts that the body came to Kong in before, where it is too large for this table (`BODY_PART`)."""
    headers: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    """Texts for ``kong.ctx.shared``, which the journal's fields and other Lua read."""
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    """What the engine's later phases get back."""
    keep_body: bool = False
    keep_items: bool = False
    """Whether the log phase wants the output items of a response."""
    passed: Passed | None = None
    """The request, where it is of another operation than chat."""
    keep_headers: Sequence[str] | None = None
    """Headers of the client that reach the provider; None: those of the gateway."""
    settled: Sequence[str] = ()
    """Ids of earlier requests, of any tenant, whose ends Kong need not keep any longer."""
    reads_record: bool = False
    """Whether the log phase may read Kong's log record."""
    log_reply: bool = True
    """Whether the log phase may have the reply's text, where the model's stages want it."""

    def table(self, *, max_request_body_size: int) -> dict[str, Any]:
        """The table for Kong."""
        made: dict[str, Any] = {"shared": self.shared, "state": self.state}
        more = {"keep_body": self.keep_body, "keep_items": self.keep_items, "settled": list(self.settled)}
        made |= {name: value for name, value in more.items() if value}
        if self.model is not None and not self.model.reply_guard:
            # Of others the log phase also asks for what the response phase has left.
            made["log_reads"] = "record" if self.reads_record else "end"
        if self.model is None or self.target is None:
            return made
        made |= {
            "model": self.asked_model,
            "model_id": self.model.qualified,
            "fail_closed": self.model.fail_closed,
            "reply_guard": self.model.reply_guard
            and (self.passed is None or self.passed.operation.text_reply),
            "target": self._target(self.target, max_request_body_size),
        }
        lists = {"egress": self.egress, "keep_headers": self.keep_headers}
        made |= {name: list(given) for name, given in lists.items() if given is not None}
        if self.model.routing is not None:
            made["routing"] = _routing(self.model.routing)
            if self.retry_after_s is not None:
                made["routing"]["retry_after_s"] = self.retry_after_s
            made["targets"] = [
                self._of_several(target, max_request_body_size) for target in self.targets or (self.target,)
            ]
        if self.headers:
            made["headers"] = self.headers
        if self.body_parts:
            made["body_parts"] = self.body_parts
        elif self.body is not None:
            made["body"] = self.body
        if self.upstream_model is not None:
            made["upstream_model"] = self.upstream_model
        if self.reply_limit is not None and self.body is None:
            made["reply_limit"] = {"names": list(self.reply_limit.names), "tokens": self.reply_limit.tokens}
        return made

    def _of_several(self, target: Target, max_request_body_size: int) -> dict[str, Any]:
        made = {"id": target.id, **self._target(target, max_request_body_size)}
        if target.context_window is not None:
            made["context_window"] = target.context_window
        return made

    def _target(self, target: Target, max_request_body_size: int) -> dict[str, Any]:
        made: dict[str, Any] = {
            "provider": target.provider,
            "name": target.name,
            "options": dict(target.options),
            "response_streaming": target.response_streaming,
            "log_payloads": self.model is not None and self.model.log_payloads and self.log_reply,
            "max_request_body_size": max_request_body_size,
        }
        if self.passed is not None:
            made["route_type"] = self.passed.route_type
            if self.passed.operation.raw_reply:
                # ai-proxy reads whole replies as JSON, and streams not at all.
                made["response_streaming"] = "always"
        if target.header_name is not None and target.credential is not None:
            made["auth"] = {
                "header_name": target.header_name,
                "header_value": target.credential,
                "bearer": target.bearer,
            }
        elif target.secrets:
            made["auth"] = {"secrets": dict(target.secrets)}
        if target.accept_encoding is not None:
            made["accept_encoding"] = target.accept_encoding
        return made


def _routing(routing: Routing) -> dict[str, Any]:
    return {
        "retries": routing.retries,
        "failover_criteria": list(routing.failover_criteria),
        "connect_ms": routing.connect_ms,
        "ttft_ms": routing.ttft_ms,
        "streaming_total_ms": routing.streaming_total_ms,
        "non_streaming_total_ms": routing.non_streaming_total_ms,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One try at a target, as the Lua side saw it. Times in ms."""

    target: str
    """Its id in the policy."""
    outcome: str
    """``ok``, or a class of `FAILURES`, or ``refused`` (by the egress policy), or ``http_NNN`` for another status;
    ``aborted`` where the client left before, and ``unknown`` where the loopback proxy itself failed."""
    status: int
    """The provider's; 0: there was none."""
    ms: int
    """From the try's begin to the reply's head, or to the failure."""
    address: str
    """``ip:port`` that was asked; empty if it came to none."""
    host: str
    limits: Mapping[str, str]
    """Headers of the reply about limits and waiting, by name in lower case: ``retry-after``, ``x-ratelimit-…``,
    ``anthropic-ratelimit-…``."""

    @classmethod
    def of(cls, table: Any) -> Try | None:
        """The try in a table of Kong's; None where it names no target."""
        if not isinstance(table, Mapping) or not (target := _text(table.get("target"))):
            return None
        return cls(
            target=target,
            outcome=_text(table.get("outcome")),
            status=_number(table.get("status")),
            ms=_number(table.get("ms")),
            address=_text(table.get("address")),
            host=_text(table.get("host")),
            limits={_text(k).lower(): _text(v) for k, v in _mapping(table.get("limits")).items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLog:
    """A request's end as tenantgate-request packs it for the log phase."""

    tenant: TenantId
    credential: str
    id: str
    body: bytes | None = field(repr=False)
    """The client's body, where the decision asked for it."""
    decided: bool
    """Whether the engine decided about this request."""
    state: Mapping[str, Any] = field(repr=False)
    shared: Mapping[str, Any]
    source: str
    """Who answered: ``service``, ``exit`` or ``error`` (kong.response.get_source)."""
    status: int
    items: bytes | None = field(default=None, repr=False)
    """The output of a whole response as JSON, where the decision asked for it."""
    tries: tuple[Try, ...] = ()
    """In their order, the last one is whose reply the client got; empty where the target was asked directly."""
    usage: TokenUsage | None = None
    """Of the reply, as its provider has counted; None where it hasn't."""
    provider_status: int = 0
    """Of the provider's reply, or the loopback proxy's; 0: there was none."""
    sent: bool = False
    """Whether a provider may have got the request."""
    recalled: str = ""
    """The model, as ``provider/model``, that was asked without a decision, by the last one for such a request."""
    body_size: int = 0
    """Bytes of the client's body."""
    at_ms: int = 0
    """Unix time of the end in ms, by Kong's clock."""
    took_ms: int = 0
    """From the request's arrival to its end."""
    correlation: str = ""
    """The request's id in the header for it, where the request went upstream; a client may have put anything there."""
    traceparent: str = ""
    """The header of that name: the trace to which the request belongs; a client may have put anything there."""
    ends: tuple[PackedLog, ...] = ()
    """Ends of earlier requests, of any tenant, that no engine has settled, as far as Kong knows."""
    ends_dropped: int = 0
    """How many of these Kong had no room for."""

    @classmethod
    def of(cls, table: Any) -> PackedLog | None:
        """The end of a request in a table of Kong's; None where it holds none, or no tenant."""
        request = _mapping(table.get("request")) if isinstance(table, Mapping) else {}
        if not isinstance(table, Mapping) or not (tenant := _text(request.get("tenant"))):
            return None
        shared = {_text(k): v for k, v in _mapping(table.get("shared")).items()}
        for name in ("finish_reason", "stream_end"):
            if (value := table.get(name)) is not None:
                shared[f"tenantgate_{name}"] = value
        return cls(
            tenant=TenantId(tenant),
            credential=_text(request.get("credential")),
            id=_text(request.get("id")),
            body=None if request.get("body") is None else _bytes(request.get("body")),
            decided=table.get("decided") is True,
            state=_mapping(table.get("state")),
            shared=shared,
            source=_text(table.get("source")),
            status=_number(table.get("status")),
            items=None if table.get("items") is None else _bytes(table.get("items")),
            usage=token_usage(_named(table.get("usage"))),
            provider_status=_number(table.get("provider_status")),
            sent=table.get("sent") is True,
            recalled=_text(table.get("recalled")),
            body_size=_number(table.get("body_size")),
            at_ms=_number(table.get("at")),
            took_ms=_number(table.get("took_ms")),
            correlation=_text(table.get("correlation")),
            traceparent=_text(table.get("traceparent")),
            ends=tuple(end for each in _list(table.get("ends")) if (end := cls.of(each))),
            ends_dropped=_number(table.get("ends_dropped")),
            tries=tuple(t for each in _list(table.get("tries")) if (t := Try.of(each))),
        )


def _mapping(value: Any) -> Mapping[Any, Any]:
    if type(value) is dict:  # asked twenty times a request, and ten times as fast as the next line
        return value
    return value if isinstance(value, Mapping) else {}  # an empty Lua table comes as a list


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _named(value: Any) -> dict[str, Any]:
    """A table of texts and numbers, one level deep in tables of these."""
    found: dict[str, Any] = {}
    for name, held in _mapping(value).items():
        if isinstance(held, Mapping):
            found[_text(name)] = {
                _text(k): _named(v) if isinstance(v, Mapping) else v for k, v in held.items()
            }
        else:
            found[_text(name)] = _text(held) if isinstance(held, bytes) else held
    return found


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else ""


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else b""

"""The tables in ``kong.ctx.shared`` by which the engine and its Lua plugins tell each other of a request.

One table a direction and phase, so that a request costs one call to Kong for each. The Lua side is
``plugins/kong/plugins/tenantgate-request`` and ``tenantgate-target``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.policy.core.records import ModelPolicy, Target
from tenantgate.tenant import TenantId

__all__ = ["DECISION", "LOG", "REQUEST", "Decision", "PackedLog", "PackedRequest"]

REQUEST: Final = "tenantgate_request"
DECISION: Final = "tenantgate_decision"
LOG: Final = "tenantgate_log"


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

    @classmethod
    def of(cls, table: Any) -> PackedRequest | None:
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
        )


@dataclass(slots=True, kw_only=True)
class Decision:
    """What the engine decided about a request."""

    model: ModelPolicy | None = None
    """The model that the request may use; None where it was answered before one was chosen."""
    target: Target | None = None
    asked_model: str = ""
    """The name by which the client asked for the model; empty where only its path names one."""
    upstream_model: str | None = None
    """The name that Kong writes into the body as ``model``, where the body is too large to be sent back."""
    body: bytes | None = field(default=None, repr=False)
    headers: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    """Texts for ``kong.ctx.shared``, which the journal's fields and other Lua read."""
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    """What the engine's later phases get back."""
    keep_body: bool = False

    def table(self, *, max_request_body_size: int) -> dict[str, Any]:
        """The table for Kong."""
        made: dict[str, Any] = {"shared": self.shared, "state": self.state}
        if self.keep_body:
            made["keep_body"] = True
        if self.model is None or self.target is None:
            return made
        made |= {
            "model": self.asked_model,
            "fail_closed": self.model.fail_closed,
            "reply_guard": self.model.reply_guard,
            "target": _target(self.target, self.model, max_request_body_size),
        }
        if self.headers:
            made["headers"] = self.headers
        if self.body is not None:
            made["body"] = self.body
        if self.upstream_model is not None:
            made["upstream_model"] = self.upstream_model
        return made


def _target(target: Target, model: ModelPolicy, max_request_body_size: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "provider": target.provider,
        "name": target.name,
        "options": dict(target.options),
        "response_streaming": target.response_streaming,
        "log_payloads": model.log_payloads,
        "max_request_body_size": max_request_body_size,
    }
    if target.header_name is not None and target.credential is not None:
        made["auth"] = {
            "header_name": target.header_name,
            "header_value": target.credential,
            "bearer": target.bearer,
        }
    if target.accept_encoding is not None:
        made["accept_encoding"] = target.accept_encoding
    return made


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
        status = table.get("status")
        return cls(
            tenant=TenantId(tenant),
            credential=_text(request.get("credential")),
            id=_text(request.get("id")),
            body=None if request.get("body") is None else _bytes(request.get("body")),
            decided=table.get("decided") is True,
            state=_mapping(table.get("state")),
            shared=shared,
            source=_text(table.get("source")),
            status=int(status) if isinstance(status, int | float) else 0,
        )


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}  # an empty Lua table comes as a list


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else ""


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else b""

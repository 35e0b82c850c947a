"""The steps of a request's transformation that aren't a stage among others (`tenantgate.transform.service`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tenantgate import llm
from tenantgate.engine.core.terms import output_name
from tenantgate.llm.chat import ChatRequest, Refusal
from tenantgate.llm.operations import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tenantgate.engine.core.tables import Decision
    from tenantgate.engine.exchange import Exchange
    from tenantgate.engine.tenants import Tenant
    from tenantgate.policy.core.records import ModelPolicy
    from tenantgate.transform.service import Transformation

__all__ = ["SECTION", "finish", "headers", "prefix", "set_parameters"]

SECTION: Final = "transform"

_FILLED: Final = (Operation.CHAT, Operation.COMPLETIONS)
"""Operations that know the parameters."""
_NAMES_USERS: Final = (*_FILLED, Operation.EMBEDDINGS, Operation.IMAGES)
"""Operations that know an end user."""


def _of(tenant: Tenant, model: ModelPolicy) -> Transformation | None:
    if SECTION not in model.stages:
        return None
    found: Transformation = next(s.service for s in tenant.stages(model) if s.manifest.section == SECTION)
    return found


def prefix(tenant: Tenant, model: ModelPolicy, operation: Operation) -> str:
    """What will stand before the system prompt; empty if nothing."""
    found = _of(tenant, model)
    return "" if found is None or operation is not Operation.CHAT else found.prefix


def headers(tenant: Tenant, model: ModelPolicy) -> Sequence[str] | None:
    """Headers of the client that reach the provider; None: those of the gateway."""
    found = _of(tenant, model)
    return None if found is None else found.upstream_headers


def set_parameters(exchange: Exchange, tenant: Tenant, model: ModelPolicy, decision: Decision) -> None:
    """Let all stages read the request with the parameters that its model's policy gives it."""
    found, request = _of(tenant, model), exchange.chat_request()
    if found is None or isinstance(request, Refusal) or _is_form(decision):
        return
    name, fill = output_name(model.targets, exchange.operation), exchange.operation in _FILLED
    _use(exchange, request, found.parameters(request.body, name, fill=fill), decision)


def finish(exchange: Exchange, tenant: Tenant, model: ModelPolicy, decision: Decision, end_user: str) -> None:
    """The same once more, after what may have written others; and the end user that the provider gets to know."""
    found = _of(tenant, model)
    if found is None:
        return
    set_parameters(exchange, tenant, model, decision)
    limit, most = decision.reply_limit, found.max_tokens
    if limit is not None and most is not None and limit.tokens > most:
        decision.reply_limit = replace(limit, tokens=most)
    request = exchange.chat_request()
    if isinstance(request, ChatRequest) and exchange.operation in _NAMES_USERS:
        _use(exchange, request, found.end_user(request.body, exchange.tenant_id, end_user), decision)


def _use(exchange: Exchange, request: ChatRequest, body: Mapping[str, Any], decision: Decision) -> None:
    if body is request.body:
        return
    made = ChatRequest(body, request.messages)
    if decision.passed is None:
        exchange.replace_body(llm.write(body))
    else:
        decision.passed = replace(decision.passed, request=made)
    exchange.use_chat(made)


def _is_form(decision: Decision) -> bool:
    return decision.passed is not None and decision.passed.form is not None

"""The engine in Kong's phases: one reading of the request, all stages, one decision.

Calls to Kong: access two (the packed request, the decision), three where the client is answered; log two (the packed
end, Kong's log record where a stage reads it); response those of the guard of replies. On Kong those of access and log
cost no message of their own (`tenantgate.kong.ahead`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import unquote
from weakref import WeakSet

from tenantgate import llm
from tenantgate.audit.core.routes import NO_AUDIT
from tenantgate.audit.events import EventLog
from tenantgate.audit.service import POLICY, courier_of
from tenantgate.checkpoints import also_checked_by
from tenantgate.engine import transforming, wire
from tenantgate.engine.admission import Admission, Admitted, end_user_of
from tenantgate.engine.core.models import ModelError, by_body, by_path, listing
from tenantgate.engine.core.operations import SECTIONS
from tenantgate.engine.core.tables import DECISION, END_USER, LOG, REQUEST, Decision, PackedLog, PackedRequest
from tenantgate.engine.exchange import Exchange
from tenantgate.engine.items import item_store
from tenantgate.engine.request_metrics import count_request
from tenantgate.engine.stages import Stage, StageBuilder
from tenantgate.engine.tenants import Tenant, texts_of
from tenantgate.engine.token_metrics import count_tokens
from tenantgate.engine.tokens import TokenRequests
from tenantgate.engine.tools import Tools, is_tool_call
from tenantgate.engine.warm_up import load_for
from tenantgate.errors import EdgeError
from tenantgate.kong.host import MOST_SENT, Answered
from tenantgate.kong.phase import attempt
from tenantgate.limits.service import limits_of
from tenantgate.llm.chat import JSON_TYPE, ChatRequest, Refusal
from tenantgate.llm.errors import BY_STATUS, Code, ErrorType, error_body
from tenantgate.policy.core.records import CATALOG, Blocked, Catalog, read_catalog, read_record
from tenantgate.policy.directory import Directory
from tenantgate.policy.follower import Follower
from tenantgate.policy.stores import open_store
from tenantgate.routing.core.order import Why
from tenantgate.routing.service import Attempt, Choice, Router, router
from tenantgate.telemetry import metrics
from tenantgate.tenant import TenantId

if TYPE_CHECKING:
    from tenantgate.engine.config import EngineConfig
    from tenantgate.kong import Host
    from tenantgate.policy.core.records import ModelPolicy

__all__ = ["NAME", "Engine", "wait_for_policies"]

NAME: Final = "tenantgate"

_ROUTE: Final = "tenantgate_route"
_ROUTING: Final = "tenantgate_routing"
_MODEL_STATE: Final = "model"
_KEPT_STATE: Final = "kept"
_ROUTING_STATE: Final = "routing"

_BLOCKED: Final = {
    Blocked.DISABLED: (403, "This tenant is disabled.", ErrorType.INVALID_REQUEST, Code.TENANT_DISABLED),
    Blocked.STALE: (
        503,
        "The limits of this tenant are not known right now. Try again later.",
        ErrorType.SERVER,
        Code.SERVICE_UNAVAILABLE,
    ),
}
_BLOCKED_S: Final = "30"

_undecided: Final = metrics.counter(
    "tenantgate_engine_undecided_total",
    "Requests that reached a provider without a decision of the engine, by the last one for the same tenant.",
    ("tenant",),
)
_refused: Final = metrics.counter(
    "tenantgate_engine_refused_total", "Requests refused before their stages, by reason.", ("reason",)
)


class Engine:
    """The engine of one gateway."""

    def __init__(
        self,
        config: EngineConfig,
        directory: Directory[Tenant | Catalog] | None = None,
        routing: Router | None = None,
    ) -> None:
        self._config = config
        self._router = routing or router(config.redis, config.encryption_key, Path(config.policy_path).parent)
        self._builder = StageBuilder(config)
        counters = config.redis if config.rate_limit_redis is None else config.rate_limit_redis
        events = None if config.audit is None else EventLog(Path(config.audit.journal))
        limits = limits_of(
            config.rate_limit_policy, counters, events, Path(config.policy_path).parent / "leases"
        )
        self._admission = Admission(limits)
        self._tools = Tools(config, limits)
        self._tokens = TokenRequests(config.mcp.oauth)
        self._items = item_store(config.redis, config.encryption_key, config.keep_items_s)
        if config.audit is not None:
            courier_of(config.audit)  # reads Kong's journal from the start, whoever asks first
        self._directory = directory or _directory(config, self._parse, self._check)

    def close(self) -> None:
        """End the thread that looks for new versions. What engines share goes on: the follower, the audit's courier."""
        self._directory.close()

    def _parse(self, tenant: str, raw: bytes) -> Tenant | Catalog:
        if tenant == CATALOG:
            return read_catalog(raw)
        made = Tenant(read_record(tenant, raw), self._builder)
        made.check()
        return made

    def _check(self, tenant: str, raw: bytes) -> None:
        if tenant == CATALOG:
            read_catalog(raw)
        else:
            Tenant(read_record(tenant, raw), self._builder).check_settings()

    # -- access -------------------------------------------------------------------------------------------

    def access(self, host: Host) -> None:
        """Decide about a request."""
        table = host.call("ctx.shared.get", REQUEST)
        packed = PackedRequest.of(table) or self._tokens.read(host, table)
        if packed is None:
            raise EdgeError("tenantgate-request: packed no request of a tenant")
        host.belongs_to(packed.tenant)
        if packed.mcp:
            self._tools.access(host, packed, self._mcp_tenant(packed))
            return
        exchange, decision = Exchange(host, packed, shared={POLICY: NO_AUDIT}), Decision()
        with contextlib.suppress(Answered):
            self._decide(exchange, packed, decision)
        decision.headers = exchange.reply_headers
        wire.finish(exchange, decision)
        decision.keep_body = exchange.keeps_body
        decision.settled = self._admission.settled()
        decision.shared = {name: text for name, text in exchange.shared.items() if isinstance(text, str)}
        if exchange.kept_values:
            decision.state[_KEPT_STATE] = exchange.kept_values
        if exchange.answered is not None:
            # Without the answer, which is a call of its own, Kong must find nowhere to send the request.
            decision.target = None
        wire.send_body(host, decision)
        table = decision.table(max_request_body_size=self._config.max_request_body_mb << 20)
        host.call("ctx.shared.set", DECISION, table)
        if exchange.answered is not None:
            headers = {**exchange.reply_headers, **exchange.answer_headers}
            host.answer(exchange.answered, exchange.answer_body, headers)

    def _decide(self, exchange: Exchange, packed: PackedRequest, decision: Decision) -> None:
        tenant = self._tenant(exchange)
        exchange.shared.update(tenant.shared)
        if packed.method == "OPTIONS":  # no preflight request: that was answered before
            self._refuse(exchange, 405)
        if packed.method == "GET":
            self._list_models(exchange, tenant, packed)
        if (audited := _audit_of_refusals(tenant)) is not None:
            exchange.shared.update(audited[1].service.shared)
        most = self._config.max_request_body_mb << 20
        packed = wire.read(exchange, packed, decision, most=most, items=self._items)
        request = exchange.chat_request()
        end_user = end_user_of(exchange, tenant, packed, request)
        if audited is not None and end_user:
            exchange.shared[END_USER] = end_user
        model = self._model(exchange, tenant, packed, request)
        wire.count_tokens(exchange, packed, request)
        transforming.set_parameters(exchange, tenant, model, decision)
        request = exchange.chat_request()
        admitted = self._admission.admit(exchange, tenant, packed, model, decision)
        try:
            self._go_through(
                exchange,
                packed,
                request,
                tenant=tenant,
                admitted=admitted,
                decision=decision,
                end_user=end_user,
            )
        finally:
            self._admission.decided(exchange, admitted, decision)
            decision.reads_record |= self._admission.holds(decision.state)

    def _go_through(
        self,
        exchange: Exchange,
        packed: PackedRequest,
        request: ChatRequest | Refusal,
        *,
        tenant: Tenant,
        admitted: Admitted,
        decision: Decision,
        end_user: str,
    ) -> None:
        """Run the stages of a request that the limits have seen, and choose its target."""
        model = admitted.model
        decision.keep_headers = transforming.headers(tenant, model)
        decision.model, decision.target = model, model.targets[0]
        decision.egress = tenant.policy.egress
        decision.asked_model = request.model if isinstance(request, ChatRequest) else ""
        decision.state[_MODEL_STATE] = model.qualified
        exchange.name_route(model.route_name)
        exchange.shared[_ROUTE] = model.route_name
        exchange.shared[POLICY] = NO_AUDIT  # unless the model's own stages say otherwise
        stages = _stages(tenant, model, exchange, compress_more=admitted.compress_more)
        decision.reads_record = any("log" in stage.manifest.phases for stage in stages)
        if admitted.answer is not None:
            exchange.shared.update(texts_of(stages))
            exchange.answer(*admitted.answer)
        if decision.passed is not None:
            wire.use_model(exchange, decision.passed, model, decision)
        elif isinstance(request, ChatRequest):
            self._name_model(exchange, request, model, decision)
        wire.adapt(exchange, packed, decision, model.targets)
        transforming.set_parameters(exchange, tenant, model, decision)
        exchange.shared.update({POLICY: NO_AUDIT, **texts_of(stages)})
        _run(exchange, stages)
        if admitted.cache_only is not None:
            exchange.answer_instead()
            exchange.answer(*admitted.cache_only)
        self._admission.limit_reply(exchange, admitted, decision, len(packed.body))
        transforming.finish(exchange, tenant, model, decision, end_user)
        self._choose(exchange, tenant, packed, request, decision)
        self._admission.limit_targets(admitted, decision)
        if decision.upstream_model is not None and exchange.sent_body is not None:
            # Shortened or masked since then: small enough to be sent, and its model is the right one already.
            decision.upstream_model = None

    def _mcp_tenant(self, packed: PackedRequest | PackedLog) -> Tenant | None:
        found = self._directory.get(packed.tenant) if self._directory.ready else None
        return found if isinstance(found, Tenant) else None

    def _tenant(self, exchange: Exchange) -> Tenant:
        if not self._directory.ready:
            raise EdgeError("policy directory: no version to read yet")
        found = self._directory.get(exchange.tenant_id)
        if isinstance(found, Tenant):
            if found.policy.blocked is not None:
                self._refuse_blocked(exchange, found.policy.blocked)
            return found
        _refused.inc(reason="unknown_tenant")
        return self._refuse(exchange, 403)

    def _refuse(self, exchange: Exchange, status: int) -> NoReturn:
        message, kind, code = BY_STATUS[status]
        exchange.answer(status, error_body(message, kind=kind, code=code), {"Content-Type": JSON_TYPE})

    def _refuse_blocked(self, exchange: Exchange, blocked: Blocked) -> NoReturn:
        """Refuse a tenant's requests, whatever they ask."""
        _refused.inc(reason=f"tenant_{blocked.value}")
        status, message, kind, code = _BLOCKED[blocked]
        headers = {"Content-Type": JSON_TYPE} | ({"Retry-After": _BLOCKED_S} if status == 503 else {})
        exchange.answer(status, error_body(message, kind=kind, code=code), headers)

    def _list_models(self, exchange: Exchange, tenant: Tenant, packed: PackedRequest) -> None:
        _, _, name = packed.path.partition("/models/")
        # SDKs write the slash of `provider/model` as %2F.
        name = unquote(packed.captures.get("model") or name)
        body, status = listing(tenant.policy, name or None), 200
        if body is None:
            status = 404
            message = "This model does not exist here."
            body = error_body(
                message, kind=ErrorType.INVALID_REQUEST, code=Code.MODEL_NOT_FOUND, param="model"
            )
        exchange.answer(status, body, {"Content-Type": JSON_TYPE})

    def _model(
        self, exchange: Exchange, tenant: Tenant, packed: PackedRequest, request: ChatRequest | Refusal
    ) -> ModelPolicy:
        known = self._known()
        if packed.captures.get("provider"):
            name = request.model if isinstance(request, ChatRequest) else None
            found = by_path(tenant.policy, packed.captures, name, known)
        elif deployment := packed.captures.get("deployment"):
            # Azure's: the path names the model, whatever the body says.
            found = by_body(tenant.policy, unquote(deployment), known)
        else:
            if isinstance(request, Refusal):  # nobody knows which model it is for
                exchange.refuse_unread(request, strict=True)
                raise Answered
            found = by_body(tenant.policy, request.model, known)
        if isinstance(found, ModelError):
            _refused.inc(reason=found.code.value)
            body = found.body(exchange.request_id(self._config.correlation_header))
            exchange.answer(found.status, body, {"Content-Type": JSON_TYPE})
        return found

    def _known(self) -> frozenset[str]:
        catalog = self._directory.get(TenantId(CATALOG))
        return catalog.models if isinstance(catalog, Catalog) else frozenset()

    def _name_model(
        self, exchange: Exchange, request: ChatRequest, model: ModelPolicy, decision: Decision
    ) -> None:
        """Let all stages see the model's own name in place of the client's, and Kong where it has one target.

        With several the name stays the same whoever answers (`_name_target` comes after all stages).
        """
        name = model.targets[0].name if model.routing is None else model.model
        if request.model in ("", name):
            return
        renamed = ChatRequest({**request.body, "model": name}, request.messages)
        body = llm.write(renamed.body)
        if model.routing is not None:
            exchange.use_body(body)
        elif len(body) <= MOST_SENT or exchange.sent_body is not None:
            # What was translated Kong can't rename: it has the client's body.
            exchange.replace_body(body)
        else:
            decision.upstream_model = name
            exchange.use_body(body)
        exchange.use_chat(renamed)

    def _choose(
        self,
        exchange: Exchange,
        tenant: Tenant,
        packed: PackedRequest,
        request: ChatRequest | Refusal,
        decision: Decision,
    ) -> None:
        """Put the model's targets in the order in which they are tried, or refuse the request.

        By the client's own `request`: what stages make of it may differ from one turn of a conversation to the next.
        """
        if (model := decision.model) is None:
            return
        route = tenant.route(model, self._router)
        if route is None:
            refused = self._router.drained(packed.tenant, model)
            if refused is not None:
                exchange.shared[_ROUTING] = f'{{"why":"{refused.why}"}}'
                self._refuse_route(exchange, refused)
            return
        choice = self._router.choose(
            route,
            packed.tenant,
            request if isinstance(request, ChatRequest) else None,
            headers=packed.headers,
            size=len(packed.body),
            weight=tenant.policy.weight,
        )
        if choice.why is not Why.HEALTHY:
            exchange.shared[_ROUTING] = f'{{"why":"{choice.why}"}}'
        if not choice.targets:
            self._refuse_route(exchange, choice)
        decision.state[_ROUTING_STATE] = choice.state
        if choice.why is Why.LAST_RESORT:
            exchange.answer_instead()  # rather than a target that will hardly answer
        wire.use_targets(exchange, decision, choice.targets)
        if decision.passed is None:
            self._name_target(exchange, choice.targets[0].name, decision)
        decision.retry_after_s = choice.wait_s or None

    def _name_target(self, exchange: Exchange, name: str, decision: Decision) -> None:
        """Put the first target's name into the body that goes to it; Kong does it for those after it."""
        decision.upstream_model = name
        request = exchange.chat_request()
        if exchange.sent_body is not None and isinstance(request, ChatRequest):
            exchange.replace_body(llm.write({**request.body, "model": name}))

    def _refuse_route(self, exchange: Exchange, choice: Choice) -> NoReturn:
        if choice.why is not Why.OVER_SHARE:  # a tenant that has had its share isn't a provider's failure
            exchange.answer_instead()
        message, kind, code = BY_STATUS[429 if choice.why is Why.OVER_SHARE else 503]
        body = error_body(
            message, kind=kind, code=code, request_id=exchange.request_id(self._config.correlation_header)
        )
        headers = {"Content-Type": JSON_TYPE, "Retry-After": str(int(choice.wait_s))}
        exchange.answer(429 if choice.why is Why.OVER_SHARE else 503, body, headers)

    # -- response -----------------------------------------------------------------------------------------

    def response(self, host: Host) -> None:
        """Check a reply that was held back."""
        table = host.call("ctx.shared.get", DECISION)
        caller = table.get("caller") or {}
        request = caller if "id" in caller else {**host.call("ctx.shared.get", REQUEST), **caller}
        packed = PackedLog.of({**table, "request": request})
        if packed is not None and is_tool_call(packed):
            self._tools.response(host, packed, self._mcp_tenant(packed))
            return
        found = None if packed is None else self._after(packed)
        if packed is None or found is None:
            return  # without the engine's mark the reply is refused
        tenant, model = found
        exchange = _ended(host, packed, model, complete=False)
        _run(exchange, _stages(tenant, model, exchange))

    # -- log ----------------------------------------------------------------------------------------------

    def log(self, host: Host) -> None:
        """Hand the request's end to the stages."""
        packed = PackedLog.of(host.call("ctx.shared.get", LOG))
        if packed is None:
            return
        if packed.items is not None and self._items is not None:
            self._items.keep(packed.tenant, packed.items)
        packed = wire.as_chat(packed, self._items)
        host.belongs_to(packed.tenant)
        if is_tool_call(packed):
            self._tools.log(host, packed, self._mcp_tenant(packed))
            return
        count_request(packed)
        if not packed.decided:
            if packed.source == "service":
                _undecided.inc(tenant=packed.tenant.slug)
            self._charge(host, packed)
            return
        self._settle_again(packed)
        found = self._after(packed)
        if found is None:
            self._log_refused(host, packed)
            return
        tenant, model = found
        self._learn(tenant, model, packed)
        count_tokens(packed.tenant, packed.usage)
        # The verdict of a reply's guard comes after the decision.
        exchange = _ended(host, packed, model, complete=not model.reply_guard)
        self._admission.ended(exchange, tenant, model, packed)
        _run(exchange, _stages(tenant, model, exchange))

    def _settle_again(self, packed: PackedLog) -> None:
        """Settle earlier requests whose engine died, or couldn't."""
        self._admission.dropped(packed.ends_dropped)
        for earlier in packed.ends:
            if not earlier.decided:
                self._charge(None, earlier)
            elif (found := self._after(earlier)) is not None:
                self._admission.ended(None, *found, earlier)
            else:
                self._admission.forget(earlier)

    def _charge(self, host: Host | None, packed: PackedLog) -> None:
        """Charge a request that was asked without a decision, or give back what it holds if it wasn't asked."""
        refused = packed.source == "exit" and not packed.sent
        tenant = self._directory.get(packed.tenant) if packed.recalled or refused else None
        if not isinstance(tenant, Tenant):
            self._admission.forget(packed)
        elif packed.recalled:
            self._admission.undecided(host, tenant, packed)
        else:
            self._admission.refused(tenant, packed)

    def _learn(self, tenant: Tenant, model: ModelPolicy, packed: PackedLog) -> None:
        """Let the health of targets know how the request's tries went."""
        route = tenant.route(model, self._router)
        attempts = [Attempt(t.target, t.outcome, t.ms, t.limits) for t in packed.tries]
        if route is None:
            self._router.count(model.provider, model.model, attempts)
            return
        state = packed.state.get(_ROUTING_STATE)
        self._router.ended(route, attempts, state if isinstance(state, Mapping) else {})

    def _log_refused(self, host: Host, packed: PackedLog) -> None:
        """The end of a request that got no model: its line in the journal waits for the audit log's content."""
        tenant = self._directory.get(packed.tenant)
        audited = _audit_of_refusals(tenant) if isinstance(tenant, Tenant) else None
        if audited is not None and packed.shared.get(POLICY) != NO_AUDIT:
            model, stage = audited
            _run(_ended(host, packed, model, complete=True), [stage])

    def _after(self, packed: PackedLog) -> tuple[Tenant, ModelPolicy] | None:
        """The tenant and the model of a request that was decided about."""
        tenant = self._directory.get(packed.tenant)
        name = packed.state.get(_MODEL_STATE)
        if not isinstance(tenant, Tenant) or not isinstance(name, str | bytes):
            return None
        model = tenant.model(name if isinstance(name, str) else name.decode("utf-8", "replace"))
        return None if model is None else (tenant, model)


def _audit_of_refusals(tenant: Tenant) -> tuple[ModelPolicy, Stage] | None:
    """The audit stage of requests that get no model: that of the first model with an audit log."""
    for model in tenant.policy.models:
        for stage in tenant.stages(model):
            if POLICY in getattr(stage.service, "shared", {}):
                return model, stage
    return None


def _ended(host: Host, packed: PackedLog, model: ModelPolicy, *, complete: bool) -> Exchange:
    """The exchange of a request that was decided about."""
    made = Exchange(host, packed, shared=packed.shared, route_name=model.route_name, complete=complete)
    made.operation = wire.operation_in(packed)
    kept = packed.state.get(_KEPT_STATE)
    if isinstance(kept, Mapping):
        made.kept_values.update(kept)
    return made


def _stages(
    tenant: Tenant, model: ModelPolicy, exchange: Exchange, *, compress_more: bool = False
) -> Sequence[Stage]:
    """The model's stages that take part in such a request."""
    found = tenant.compressing(model) if compress_more else tenant.stages(model)
    sections = SECTIONS.get(exchange.operation)
    return found if sections is None else [s for s in found if s.manifest.section in sections]


def _run(exchange: Exchange, stages: Iterable[Stage]) -> None:
    """Run the stages' current phase, each with its own deadline and its own failure policy.

    Raises:
        Answered: a stage answered the client.
    """
    for stage in stages:
        if exchange.phase in stage.manifest.phases:
            exchange.limit(stage.deadline_ms if exchange.phase != "log" else None)
            attempt(_phase(stage, exchange), exchange, stage.policy, plugin=stage.name)
            exchange.limit(None)
            if exchange.answered is not None:
                raise Answered


def _phase(stage: Stage, exchange: Exchange) -> Callable[[], None]:
    method = getattr(stage.service, exchange.phase)

    def run() -> None:
        with also_checked_by(exchange.check_deadline):
            method(exchange)

    return run


# -- of the process --------------------------------------------------------------------------------------

_followers: Final[dict[Path, tuple[str, Follower]]] = {}
"""By local copy the store that is followed. One at a time: a follower holds the copy's lock."""
_followers_lock: Final = threading.Lock()
_directories: Final[WeakSet[Directory[Tenant | Catalog]]] = WeakSet()


def wait_for_policies(timeout_s: float) -> None:
    """Wait until what the policies of this process's engines need is loaded; not for policies that aren't there yet."""
    until = time.monotonic() + timeout_s
    for each in list(_directories):
        each.wait(max(0.0, until - time.monotonic()))


def _directory(
    config: EngineConfig, parse: Callable[[str, bytes], Tenant | Catalog], check: Callable[[str, bytes], None]
) -> Directory[Tenant | Catalog]:
    path = Path(config.policy_path)
    _follow(config.policy_store, path, config.encryption_key)
    made = Directory(path, parse, node=config.node, load=load_for, check=check)
    _directories.add(made)
    made.start()
    return made


def _follow(url: str | None, path: Path, encryption_key: str) -> None:
    """Follow the store into the local copy; an engine with other settings ends the follower of the one before."""
    with _followers_lock:
        before = _followers.get(path)
        wanted = None if url is None else f"{url}\0{encryption_key}"
        if before is not None and before[0] != wanted:
            del _followers[path]
            threading.Thread(target=before[1].stop, name="policy-follower-stop", daemon=True).start()
        if url is None or wanted is None or path in _followers:
            return
        name = "redis" if url.startswith("redis") else "postgres"
        follower = Follower(open_store(url, path=path, encryption_key=encryption_key), path, name=name)
        _followers[path] = wanted, follower
        follower.start()

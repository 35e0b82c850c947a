"""Limits and budgets in the engine: a reservation before the stages, what it changes, and its end in the log phase.

One call to the ledger reserves for all rules of a request at once, as soon as its model is known. Where a budget's
ladder says so, another model answers, texts are compressed more, or the cache alone may answer; that goes by what this
process last heard of the budget, and a second call is only made where the answer to the first one says otherwise. The
request's ``max_tokens`` is written after all stages, so that no key of the cache depends on what is left of a budget.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from tenantgate import llm
from tenantgate.compress.token_counts import token_counter
from tenantgate.engine import transforming
from tenantgate.engine.core.outcome import end_of, items, whole
from tenantgate.engine.core.tables import ReplyLimit
from tenantgate.engine.core.terms import (
    OUTPUT_NAMES,
    UNMETERED,
    Facts,
    Plan,
    limited_targets,
    output_name,
    paid_apart,
    plan_of,
    positive,
    provider_of,
)
from tenantgate.kong.host import MOST_SENT
from tenantgate.kong.policy import UNAVAILABLE
from tenantgate.limits.core.claims import Unpriced, end_user_subject, read_held
from tenantgate.limits.core.ends import settlement
from tenantgate.limits.core.keys import counter_name
from tenantgate.limits.core.ledger import Certainty, NotCountedError, Refused, Reserved, Settlement, Used
from tenantgate.limits.core.reply import cache_only_refusal, headers, reached, refusal, window_word
from tenantgate.limits.core.rules import CachedCost, Counted, Per, Rule
from tenantgate.limits.service import PLUGIN
from tenantgate.llm.body import parse
from tenantgate.llm.chat import JSON_TYPE, ChatRequest, Refusal
from tenantgate.llm.errors import Code, ErrorType, error_body
from tenantgate.llm.formats import Format, format_of
from tenantgate.llm.log_record import LogRecord
from tenantgate.llm.operations import Operation
from tenantgate.llm.token_usage import TokenUsage
from tenantgate.policy.core.names import find_model
from tenantgate.prices.core.cost import cost
from tenantgate.telemetry import metrics
from tenantgate.transform.core.prompt import prefixed

if TYPE_CHECKING:
    from tenantgate.engine.core.tables import Decision, PackedLog, PackedRequest
    from tenantgate.engine.exchange import Exchange
    from tenantgate.engine.tenants import Tenant
    from tenantgate.kong import Host
    from tenantgate.limits.core.claims import Held
    from tenantgate.limits.core.ladder import Level
    from tenantgate.limits.service import Limits
    from tenantgate.policy.core.records import ModelPolicy

__all__ = ["Admission", "Admitted", "end_user_by_header", "end_user_of"]

_STATE: Final = "limits"
_ENCODING: Final = "o200k_base"
_DEGRADED: Final = "X-Tenantgate-Degraded"
"""Names the budget by which another model answers."""
_CACHE_STATUS: Final = "X-Cache-Status"
_OK: Final = 200

_END_USER_MAX: Final = 256
_COUNTERS: Final = 256
"""Of a tenant, to be asked for at once."""
_requests: Final = metrics.counter(
    "tenantgate_limits_requests_total",
    "Requests by what the limits did: counted, refused, uncounted (Redis failed).",
    ("outcome",),
)
_refusals: Final = metrics.counter(
    "tenantgate_limits_refusals_total", "Requests that were refused, by the limit.", ("subject", "period")
)
_ends_dropped: Final = metrics.counter(
    "tenantgate_limits_ends_dropped_total",
    "Ends of requests that Kong had no room for, so that a dead engine's are charged as uncertain.",
)
_effects: Final = metrics.counter(
    "tenantgate_budget_effects_total",
    "Requests that a limit changed: degraded, compressed, cache_only, shrunk, elsewhere (at another provider).",
    ("effect",),
)

Answer = tuple[int, bytes, Mapping[str, str]]
"""Status, body and headers."""


@dataclass(slots=True)
class Admitted:
    """What the limits say about a request.

    Attributes:
        model: that answers.
        answer: what the client gets instead.
        compress_more: whether its texts are compressed as far as possible.
        cache_only: what the client gets unless the cache answers.
        tokens: most tokens of the reply, to be written into the request; None: as it is.
        state: what the log phase has to know; empty: nothing is held.
    """

    model: ModelPolicy
    answer: Answer | None = None
    compress_more: bool = False
    cache_only: Answer | None = None
    tokens: int | None = None
    state: dict[str, Any] = field(default_factory=dict)


class Admission:
    """The limits of one engine."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    # -- access -------------------------------------------------------------------------------------------

    def admit(
        self,
        exchange: Exchange,
        tenant: Tenant,
        packed: PackedRequest,
        model: ModelPolicy,
        decision: Decision,
    ) -> Admitted:
        """Reserve for a request, or say what it gets instead. One call to the ledger, seldom two.

        Raises:
            Answered: a rule counts tokens, and the request can't be read.
        """
        rules = tenant.rules(model)
        if not rules:
            return Admitted(model)
        prefix = transforming.prefix(tenant, model, exchange.operation)
        facts = _facts(exchange, tenant, packed, decision, rules, prefix=prefix)
        try:
            plan = self._plan(tenant, model, facts)
            if not plan.held:
                return Admitted(model)
            known = self._limits.known(facts.tenant, plan.held, facts.now_ms)
            other = _other_model(tenant, model, facts, known)
            if other is not None:
                plan = self._plan(tenant, other, facts)
            plan, held, answer = self._reserve(tenant, model, facts, plan, known)
        except Unpriced:
            return Admitted(model, answer=_unpriced(facts))
        except NotCountedError:
            _requests.inc(outcome="uncounted")
            status, told, more = UNAVAILABLE
            return Admitted(model, answer=(status, told.encode(), more))
        if answer is None:
            _requests.inc(outcome="uncounted")
            tokens = plan.worst_tokens if plan.caps() else None
            return Admitted(plan.model, tokens=tokens, state=_state(plan, facts.now_ms, plan.worst_tokens))
        levels = self._limits.levels(held, answer.rooms)
        made = self._go_by(exchange, plan, held, answer, levels)
        if made.answer is None:
            _degrade(exchange, made, model, _all_levels(known, levels))
        return made

    def _plan(self, tenant: Tenant, model: ModelPolicy, facts: Facts) -> Plan:
        """What an answer of this model would take.

        Raises:
            Unpriced: that isn't known, and a rule counts it.
        """
        return plan_of(
            tenant.rules(model),
            model,
            facts,
            count=token_counter(_ENCODING).count,
            expected=lambda most: self._limits.expected.tokens(facts.tenant, model.qualified, most),
        )

    def _reserve(
        self,
        tenant: Tenant,
        asked: ModelPolicy,
        facts: Facts,
        plan: Plan,
        known: Sequence[tuple[Rule, Level]],
    ) -> tuple[Plan, Sequence[Held], Reserved | None]:
        """The plan that stands, the claims that the ledger has answered, and its answer; None: it can't be asked.

        Raises:
            NotCountedError: it can't be asked, and a rule lets nothing pass then.
            Unpriced: what another model costs isn't known.
        """
        model = plan.model
        held, answer = self._limits.reserve(plan.reservation(facts), plan.held)
        full: frozenset[str] = frozenset()
        while answer is not None and (more := _full_providers(held, answer)):
            full |= more
            if (rest := tenant.without(model, full)) is None:
                break
            plan = self._plan(tenant, rest, facts)
            held, answer = self._limits.reserve(plan.reservation(facts), plan.held)
        if answer is None:
            return plan, held, None
        levels = _all_levels(known, self._limits.levels(held, answer.rooms))
        other = _other_model(tenant, asked, facts, levels) or asked
        if other is model:
            if plan.model is not model and answer.refused is None:
                _effects.inc(effect="elsewhere")
            return plan, held, answer
        changed = self._plan(tenant, other, facts)
        before = (plan, answer) if answer.refused is None else None
        second_held, second = self._limits.reserve(changed.reservation(facts, before), changed.held)
        if before is not None and (second is None or second.refused is not None):
            return plan, held, answer  # the first one stands
        return changed, second_held, second

    def _go_by(
        self,
        exchange: Exchange,
        plan: Plan,
        held: Sequence[Held],
        answer: Reserved,
        levels: Sequence[tuple[Rule, Level]],
    ) -> Admitted:
        made = Admitted(plan.model)
        made.state = _state(plan, answer.now_ms, answer.max_tokens)
        told = headers(held, answer)
        blocked = next((rule for rule, level in levels if level.block), None)
        only = _cache_only(held, answer, levels)
        if answer.refused is None and blocked is not None:
            # Spent by others up to a step that blocks, while the ledger still had room for this one.
            by = _indexes(held, blocked)
            refused = replace(answer, refused=Refused.EXHAUSTED, by=by)
            made.answer = self._refuse(exchange, held, refused)
            made.state["end"] = "refused"
        elif only is not None:
            wait_s = _wait_s(held, answer, only)
            refused_headers = {"Content-Type": JSON_TYPE, **told, "Retry-After": str(wait_s)}
            made.cache_only = 429, cache_only_refusal(only, wait_s), refused_headers
            _effects.inc(effect="cache_only")
        elif answer.refused is not None:
            made.answer = self._refuse(exchange, held, answer)
            made.state = {}
        if made.answer is not None:
            return made
        _requests.inc(outcome="counted")
        told.pop("Retry-After", None)
        exchange.set_headers(told)
        if made.cache_only is None:
            made.tokens = _tokens(plan, answer)
        return made

    def _refuse(self, exchange: Exchange, held: Sequence[Held], answer: Reserved) -> Answer:
        found = reached(held, answer)
        subject = "" if found is None else found.rule.per.value
        period = "" if found is None else window_word(found.rule.window)
        _requests.inc(outcome="refused")
        _refusals.inc(subject=subject, period=period)
        verdict = {"refused": True, "limit": subject, "period": period}
        if found is not None and found.rule.budget:
            verdict["budget"] = found.rule.name
        exchange.put_verdict(PLUGIN, verdict)
        return 429, refusal(held, answer), {"Content-Type": JSON_TYPE, **headers(held, answer)}

    def limit_reply(self, exchange: Exchange, admitted: Admitted, decision: Decision, size: int) -> None:
        """Write the most tokens of the reply into the request, once all stages have seen it.

        `size`: bytes of the client's body; Kong writes it into one that is too large to be sent back.
        """
        tokens, request = admitted.tokens, exchange.chat_request()
        if tokens is None or isinstance(request, Refusal):
            return
        names = [name for name in OUTPUT_NAMES if request.body.get(name) is not None]
        names = names or [output_name(admitted.model.targets, exchange.operation)]
        body = {**request.body, **dict.fromkeys(names, tokens)}
        if decision.passed is None and exchange.sent_body is None and size > MOST_SENT:
            decision.reply_limit = ReplyLimit(tuple(names), tokens)
        elif decision.passed is None:
            exchange.replace_body(llm.write(body))
        exchange.use_chat(ChatRequest(body, request.messages))

    @staticmethod
    def limit_targets(admitted: Admitted, decision: Decision) -> None:
        """Let no target put a larger number of its own in place of the most tokens of the reply."""
        if admitted.tokens is None:
            return
        if decision.target is not None:
            decision.target = limited_targets([decision.target], admitted.tokens)[0]
        decision.targets = limited_targets(decision.targets, admitted.tokens)

    def decided(self, exchange: Exchange, admitted: Admitted, decision: Decision) -> None:
        """Leave for the log phase what is held, and how a request ended that was answered here."""
        state = admitted.state
        if not state:
            return
        if exchange.answered is not None:
            if exchange.answered == _OK and _CACHE_STATUS in exchange.answer_headers:
                state |= {"end": "cached", "cached": _cached(exchange, admitted)}
            elif "end" not in state:
                state["end"] = "free" if admitted.cache_only is None else "refused"
        elif decision.target is not None:
            state["target"] = decision.target.id
        decision.state[_STATE] = state

    # -- log ----------------------------------------------------------------------------------------------

    def settled(self) -> Sequence[str]:
        """Requests that are settled since the last call; Kong keeps the others' ends."""
        return self._limits.take_settled()

    def forget(self, packed: PackedLog) -> None:
        """Have Kong keep the end of a request no longer, of which nothing can be settled."""
        self._limits.done(packed.id)

    @staticmethod
    def dropped(ends: int) -> None:
        """Count ends that Kong had no room for."""
        if ends > 0:
            _ends_dropped.inc(ends)

    def ended(self, host: Host | None, tenant: Tenant, model: ModelPolicy, packed: PackedLog) -> None:
        """Settle a request that was decided about. `host` is its own log phase; None: another request's."""
        state = packed.state.get(_STATE)
        if not isinstance(state, Mapping):
            if host is None:
                self.forget(packed)
            return
        held = self.held(state, tenant, model)
        self._settle(host, model, packed, {**state, "at": whole(state.get("at"))}, held)

    @staticmethod
    def holds(state: Mapping[str, Any]) -> bool:
        """Whether a decision's state has something that the request's end settles."""
        return _STATE in state

    @staticmethod
    def held(state: Mapping[str, Any], tenant: Tenant, model: ModelPolicy) -> list[Held]:
        """What a request holds, by what access has left; with its rules as they are now."""
        rules = {rule.name: rule for rule in tenant.rules(model)}
        read = (read_held(values) for values in items(state.get("held")))
        return [replace(h, source=rules.get(h.rule)) for h in read if h is not None]

    def undecided(self, host: Host | None, tenant: Tenant, packed: PackedLog) -> None:
        """Charge a request that reached a provider without a decision, by the last one for its tenant and model.

        Its prompt isn't here any more: where its provider names no usage, it is taken by the body's size. `host` is its
        own log phase; None: another request's.
        """
        model = tenant.model(packed.recalled)
        if model is None or not tenant.rules(model):
            self.forget(packed)
            return
        now_ms, size = packed.at_ms or _now_ms(), packed.body_size
        facts = Facts(
            tenant=packed.tenant,
            id=packed.id,
            key=packed.credential,
            body={"messages": [{"role": "user", "content": " a" * (size // 4)}]},
            now_ms=now_ms,
        )
        try:
            plan = self._plan(tenant, model, facts)
        except Unpriced:
            self.forget(packed)
            return
        state = {"prompt": plan.prompt.expected, "at": now_ms}
        self._settle(host, model, packed, state, plan.holding(plan.worst_tokens))

    def refused(self, tenant: Tenant, packed: PackedLog) -> None:
        """Give back what a request holds that Kong has refused, since no decision came in time.

        The engine may have died, or been late, after it had reserved. Which model it was for isn't known here, so all
        counters are asked for that it can have; those of end users are charged when it expires.
        """
        used: dict[str, Used] = {}
        for model in tenant.policy.models:
            for rule in tenant.rules(model):
                for subject in _subjects(rule, packed, model):
                    name = counter_name(rule, subject)
                    used[name] = Used(name, rule.window, 0, rule.counted, rule.most)
        if 0 < len(used) <= _COUNTERS:
            started_ms = packed.at_ms or _now_ms()
            self._limits.settle(
                Settlement(
                    tenant=packed.tenant,
                    id=packed.id,
                    certainty=Certainty.NONE,
                    used=tuple(used.values()),
                    started_ms=started_ms,
                ),
                (),
            )
        else:
            self.forget(packed)

    def _settle(
        self,
        host: Host | None,
        model: ModelPolicy,
        packed: PackedLog,
        state: Mapping[str, Any],
        held: Sequence[Held],
    ) -> None:
        started_ms = state["at"]
        end = end_of(
            packed,
            model,
            state,
            started_ms=started_ms,
            record=lambda: LogRecord({} if host is None else host.record()),
        )
        if end.billed and not end.cut:
            self._limits.expected.note(packed.tenant, model.qualified, end.billed[-1].completion)
        self._limits.settle(settlement(packed.tenant, packed.id, started_ms, held, end), held)


# -- of a request ----------------------------------------------------------------------------------------


def _facts(
    exchange: Exchange,
    tenant: Tenant,
    packed: PackedRequest,
    decision: Decision,
    rules: Sequence[Rule],
    *,
    prefix: str,
) -> Facts:
    """What holds for the request, whose system prompt gets `prefix`.

    Raises:
        Answered: a rule counts tokens, and it can't be read.
    """
    request = exchange.chat_request()
    if isinstance(request, Refusal):
        if any(rule.counted is not Counted.REQUESTS for rule in rules):
            exchange.refuse_unread(request, strict=True)
        request = ChatRequest({"messages": []}, ())
    counted = any(rule.counted is not Counted.REQUESTS or rule.per is Per.END_USER for rule in rules)
    if prefix:
        request = replace(request, body={**request.body, "messages": prefixed(request.messages, prefix)})
    body, name = _own_members(packed, request) if counted else (request.body, None)
    if tenant.policy.end_user_header is not None:
        name = end_user_by_header(exchange, tenant)
    return Facts(
        tenant=packed.tenant,
        id=packed.id,
        key=packed.credential,
        end_user=end_user_subject(name or ""),
        body=body,
        operation=exchange.operation,
        passed=decision.passed,
        now_ms=_now_ms(),
    )


def end_user_of(
    exchange: Exchange, tenant: Tenant, packed: PackedRequest, request: ChatRequest | Refusal
) -> str:
    """Who asks among the tenant's users, by the request's own word; empty where it says nothing, or far too much."""
    name = None
    if tenant.policy.end_user_header is not None:
        name = end_user_by_header(exchange, tenant)
    elif isinstance(request, ChatRequest):
        _, name = _own_members(packed, request)
    return name if name is not None and len(name) <= _END_USER_MAX else ""


def end_user_by_header(exchange: Exchange, tenant: Tenant) -> str:
    """Who asks by the tenant's header, whatever its length; empty where there is none."""
    header = tenant.policy.end_user_header
    return "" if header is None else exchange.headers().get(header) or ""


def _own_members(packed: PackedRequest, request: ChatRequest) -> tuple[Mapping[str, Any], str | None]:
    """The request with what Anthropic's format says beyond a chat, and the end user that it names."""
    if format_of(packed.path) is not Format.MESSAGES:
        return request.body, _named(request.body.get("user"))
    given = parse(packed.body)
    given = given if isinstance(given, dict) else {}
    metadata = given.get("metadata")
    user = _named(metadata.get("user_id")) if isinstance(metadata, dict) else None
    # Stages see it only where Anthropic answers, and that isn't decided yet.
    thinking = {"thinking": given["thinking"]} if "thinking" in given else {}
    return {**request.body, **thinking}, user


def _subjects(rule: Rule, packed: PackedLog, model: ModelPolicy) -> Iterable[str]:
    """Whose counters of a rule a request can have, but for the end user's."""
    match rule.per:
        case Per.TENANT:
            return ("",)
        case Per.KEY:
            return (packed.credential,)
        case Per.MODEL:
            return (model.qualified,)
        case Per.PROVIDER:
            return {provider_of(model, target) for target in model.targets}
    return ()


def _named(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _other_model(
    tenant: Tenant, asked: ModelPolicy, facts: Facts, levels: Sequence[tuple[Rule, Level]]
) -> ModelPolicy | None:
    """The model that answers in place of the one that was asked for; None: none does."""
    if facts.operation is not Operation.CHAT:
        return None
    name = _by_last(levels, lambda level: level.degrade.model)
    found = None if name is None else find_model(tenant.policy, name)
    return None if found is asked else found


def _all_levels(
    known: Sequence[tuple[Rule, Level]], told: Sequence[tuple[Rule, Level]]
) -> list[tuple[Rule, Level]]:
    """Those of an answer, and what is known of others.

    A budget that brought another model in may not count that one, and then the answer doesn't tell of it.
    """
    mine = {rule.name for rule, _ in told}
    return [*((rule, level) for rule, level in known if rule.name not in mine), *told]


def _by_last(levels: Sequence[tuple[Rule, Level]], of: Callable[[Level], str | None]) -> str | None:
    """Of what several budgets change the last one's word."""
    return next((found for _, level in reversed(levels) if (found := of(level)) is not None), None)


def _unpriced(facts: Facts) -> Answer:
    what, param = "operation" if facts.operation in UNMETERED else "model", "model"
    if (member := paid_apart(facts.body)) is not None:
        what, param = f"value of {member}", member
    message = f"A budget counts what requests cost, and for this {what} no price is known here."
    body = error_body(message, kind=ErrorType.INVALID_REQUEST, code=Code.PRICE_UNKNOWN, param=param)
    return 403, body, {"Content-Type": JSON_TYPE}


# -- of an answer ----------------------------------------------------------------------------------------


def _state(plan: Plan, now_ms: int, max_tokens: int) -> dict[str, Any]:
    if plan.final:
        return {}
    expected = min(max_tokens, plan.expected_tokens)
    held = [h.written(max_tokens, expected) for h in plan.held]
    more = {"pictures": plan.pictures} if plan.pictures > 1 else {}
    return {"at": now_ms, "held": held, "prompt": plan.prompt.expected, **more}


def _tokens(plan: Plan, answer: Reserved) -> int | None:
    if answer.max_tokens < plan.worst_tokens:
        _effects.inc(effect="shrunk")
        return answer.max_tokens
    return plan.worst_tokens if plan.caps() else None


def _cache_only(held: Sequence[Held], answer: Reserved, levels: Sequence[tuple[Rule, Level]]) -> Rule | None:
    """The budget by which only the cache may answer; None also where another limit refuses the request."""
    found = {rule.name: rule for rule, level in levels if level.cache_only and not level.block}
    refused = {held[i].rule for i in answer.by if not held[i].claim.shadow}
    if not found or (answer.refused is not None and not refused <= found.keys()):
        return None
    return next(iter(found.values()))


def _degrade(
    exchange: Exchange, made: Admitted, asked: ModelPolicy, levels: Sequence[tuple[Rule, Level]]
) -> None:
    if _by_last(levels, lambda level: level.degrade.compress) is not None:
        made.compress_more = True
        _effects.inc(effect="compressed")
    if made.model.qualified != asked.qualified:
        _effects.inc(effect="degraded")
        by = next((rule.name for rule, level in reversed(levels) if level.degrade.model is not None), None)
        exchange.set_headers({} if by is None else {_DEGRADED: by})


def _full_providers(held: Sequence[Held], answer: Reserved) -> frozenset[str]:
    """Providers whose own limits alone refuse a request, which others may take."""
    by = [held[i] for i in answer.by if not held[i].claim.shadow]
    if answer.refused is None or not all(h.provider for h in by):
        return frozenset()
    return frozenset(name for h in by for name in h.provider.split(","))


def _indexes(held: Sequence[Held], rule: Rule) -> tuple[int, ...]:
    return tuple(i for i, h in enumerate(held) if h.rule == rule.name)


def _wait_s(held: Sequence[Held], answer: Reserved, rule: Rule) -> int:
    resets = [answer.rooms[i].reset_ms for i in _indexes(held, rule)]
    return max(1, -(-(max(resets, default=0) - answer.now_ms) // 1000))


def _cached(exchange: Exchange, admitted: Admitted) -> list[int]:
    """Tokens and nano-dollars that an answer from the cache would have cost, where a rule charges for it."""
    held = [h for values in admitted.state["held"] if (h := read_held(values)) is not None]
    prompt = int(admitted.state["prompt"])
    if all(h.cached is CachedCost.FREE or h.claim.counted is Counted.REQUESTS for h in held):
        return [prompt, 0, 0]
    completion, prices = _answer_tokens(exchange.answer_body), admitted.model.targets[0].prices
    usage = TokenUsage(input=prompt, output=completion)
    nano = 0 if prices is None else cost(prices, usage, int(admitted.state["at"])).nano
    return [prompt, completion, nano]


def _answer_tokens(body: bytes) -> int:
    """Tokens of an answer from the cache: as its usage says, or as they are counted."""
    texts: list[str] = []
    for line in body.split(b"\n") if body.startswith(b"data:") else [body]:
        try:
            value = json.loads(line.removeprefix(b"data:"))
        except (ValueError, RecursionError):
            continue
        usage = value.get("usage") if isinstance(value, dict) else None
        if isinstance(usage, dict) and (count := positive(usage.get("completion_tokens"))) is not None:
            return count
        for choice in items(value.get("choices")) if isinstance(value, dict) else ():
            part = choice.get("message") or choice.get("delta")
            if isinstance(part, dict) and isinstance(part.get("content"), str):
                texts.append(part["content"])
    return token_counter(_ENCODING).count("".join(texts)) if texts else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Limits and budgets in the engine: a reservation before the stages, what it changes, and its end in the log phase.

One call to the ledger reserves for all rules of a request at once, as soon as its model is known. Where a budget's
ladder says so, another model answers, texts are compressed more, or the cache alone may answer; that goes by what this
process last heard of the budget, and a second call is only made where the answer to the first one says otherwise. The
request's ``max_tokens`` is written after all stages, so that no key of the cache depends on what is left of a budget.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from tenantgate import llm
from tenantgate.compress.token_counts import token_counter
from tenantgate.engine.core.operations import speaking
from tenantgate.engine.core.tables import ReplyLimit
from tenantgate.kong.host import MOST_SENT
from tenantgate.kong.policy import UNAVAILABLE
from tenantgate.limits.core.claims import (
    Asked,
    Held,
    Offer,
    Sized,
    Unpriced,
    claims_of,
    counts,
    end_user_subject,
    read_held,
)
from tenantgate.limits.core.ends import MAYBE_BILLED, Billed, End, settlement
from tenantgate.limits.core.estimate import Prompt, factor_of, prompt_of
from tenantgate.limits.core.ledger import LIFETIME_MAX_MS, NotCountedError, Reservation, Reserved
from tenantgate.limits.core.reply import cache_only_refusal, headers, reached, refusal, window_word
from tenantgate.limits.core.rules import CachedCost, Counted, Degrade, Mode, OnStoreDown, Per, Reserve, Rule
from tenantgate.limits.service import PLUGIN
from tenantgate.llm.body import parse
from tenantgate.llm.chat import JSON_TYPE, ChatRequest, Refusal
from tenantgate.llm.errors import Code, ErrorType, error_body
from tenantgate.llm.formats import Format, format_of
from tenantgate.llm.log_record import LogRecord
from tenantgate.llm.operations import Operation
from tenantgate.llm.token_usage import TokenUsage
from tenantgate.policy.core.names import find_model
from tenantgate.policy.core.records import FAILURES
from tenantgate.prices.core.cost import cost, worst
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.engine.core.tables import Decision, PackedLog, PackedRequest
    from tenantgate.engine.exchange import Exchange
    from tenantgate.engine.tenants import Tenant
    from tenantgate.kong import Host
    from tenantgate.limits.core.ladder import Level
    from tenantgate.limits.service import Limits
    from tenantgate.llm.operations import Passed
    from tenantgate.policy.core.records import ModelPolicy, Target
    from tenantgate.tenant import TenantId

__all__ = ["DEFAULT_OUTPUT_TOKENS", "Admission", "Admitted"]

DEFAULT_OUTPUT_TOKENS: Final = 4_096
"""Most tokens of a reply where neither the client nor the model's ``max_output_tokens`` says it: what every model in
use takes."""
_COMPLETION_TOKENS: Final = 16
"""The same of `/v1/completions`, as OpenAI's API has it."""
_STATE: Final = "limits"
_ENCODING: Final = "o200k_base"
_OUTPUT: Final = ("max_completion_tokens", "max_tokens")
_NEWER_WORD: Final = ("openai", "azure")
_UNMETERED: Final = (Operation.IMAGES, Operation.SPEECH, Operation.TRANSCRIPTIONS)
"""Operations that aren't paid by the token."""
_SLACK_MS: Final = 60_000
_DIRECT_MS: Final = 900_000
"""Longest life of a request that is sent without time limits of its own."""
_DEGRADED: Final = "X-Tenantgate-Degraded"
"""Names the budget by which another model answers."""
_OK: Final = 200
_FOUND: Final = 300
_GONE: Final = 499
_CACHE_STATUS: Final = "X-Cache-Status"

_requests: Final = metrics.counter(
    "tenantgate_limits_requests_total",
    "Requests by what the limits did: counted, refused, uncounted (Redis failed).",
    ("outcome",),
)
_refusals: Final = metrics.counter(
    "tenantgate_limits_refusals_total", "Requests that were refused, by the limit.", ("subject", "period")
)
_effects: Final = metrics.counter(
    "tenantgate_budget_effects_total",
    "Requests that a budget's steps changed: degraded, compressed, cache_only, shrunk.",
    ("effect",),
)


@dataclass(slots=True)
class Admitted:
    """What the limits say about a request.

    Attributes:
        model: the model that answers.
        answer: what the client gets instead, as status, body and headers.
        compress_more: whether its texts are compressed as far as possible.
        cache_only: what the client gets unless the cache answers.
        tokens: most tokens of the reply, to be written into the request; None: as it is.
    """

    model: ModelPolicy
    answer: tuple[int, bytes, Mapping[str, str]] | None = None
    compress_more: bool = False
    cache_only: tuple[int, bytes, Mapping[str, str]] | None = None
    tokens: int | None = None
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What holds for a request whichever model answers."""

    tenant: TenantId
    id: str
    key: str
    end_user: str
    body: Mapping[str, Any]
    operation: Operation
    passed: Passed | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one model's answer would take."""

    model: ModelPolicy
    held: tuple[Held, ...]
    prompt: Prompt
    worst_tokens: int
    expected_tokens: int
    given: bool
    """Whether the request itself says how long the reply may be."""
    lifetime_ms: int

    def reservation(self, facts: _Facts, before: tuple[_Plan, Reserved] | None = None) -> Reservation:
        replaces = {}
        if before is not None:
            claims = tuple(h.claim for h in before[0].held)
            replaces = {"replaces": claims, "replaces_ms": before[1].now_ms}
        return Reservation(
            tenant=facts.tenant,
            id=facts.id,
            claims=tuple(h.claim for h in self.held),
            worst_tokens=self.worst_tokens,
            expected_tokens=self.expected_tokens,
            lifetime_ms=self.lifetime_ms,
            **replaces,  # type: ignore[arg-type]
        )


class Admission:
    """The limits of one engine.

    Args:
        limits: of the process.
        expected: tokens of a reply that nine of ten have, by tenant and model.
    """

    def __init__(self, limits: Limits, expected: Expected) -> None:
        self._limits, self._expected = limits, expected

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
        request = exchange.chat_request()
        if isinstance(request, Refusal):
            if any(rule.counted is not Counted.REQUESTS for rule in rules):
                exchange.refuse_unread(request, strict=True)
            request = ChatRequest({"messages": []}, ())
        facts = _Facts(
            tenant=packed.tenant,
            id=packed.id,
            key=packed.credential,
            end_user=_end_user(exchange, tenant, packed, request, rules),
            body=request.body,
            operation=exchange.operation,
            passed=decision.passed,
            now_ms=time.time_ns() // 1_000_000,
        )
        try:
            plan = self._plan(tenant, model, facts)
            if not plan.held:
                return Admitted(model)
            known = self._limits.known(facts.tenant, plan.held, facts.now_ms)
            other = self._degraded(tenant, model, facts, known)
            plan = plan if other is None else self._plan(tenant, other, facts)
            return self._reserve(exchange, tenant, model, facts, plan)
        except Unpriced:
            return Admitted(model, answer=_unpriced(facts))

    def _plan(self, tenant: Tenant, model: ModelPolicy, facts: _Facts) -> _Plan:
        """What an answer of this model would take.

        Raises:
            Unpriced: that isn't known, and a rule counts it.
        """
        rules = tenant.rules(model)
        targets = _targets(model, facts.operation)
        names = frozenset((model.qualified, model.model, *model.aliases))
        asked = Asked(
            model=model.qualified,
            names=names,
            offers=tuple(Offer(provider=_provider(model, t), worst=None, expected=None) for t in targets),
            key=facts.key,
            end_user=facts.end_user,
        )
        mine = [rule for rule in rules if counts(rule, asked)]
        if all(rule.counted is Counted.REQUESTS for rule in mine):
            return _Plan(model, claims_of(mine, asked), Prompt(0, 0), 0, 0, True, _lifetime_ms(model))
        prompt = _prompt(facts.body, targets)
        has_reply = facts.operation in (Operation.CHAT, Operation.COMPLETIONS)
        worst_tokens, given = _reply_tokens(facts, targets) if has_reply else (0, True)
        expected_tokens = min(worst_tokens, self._expected.tokens(facts.tenant, model.qualified))
        offers = tuple(_offer(model, t, facts, prompt) for t in targets)
        asked = replace(
            asked,
            offers=offers,
            prompt=prompt,
            replies=_replies(facts),
            tries=_tries(model),
            has_reply=has_reply,
            least_tokens=_least_tokens(facts.body),
        )
        held = claims_of(mine, asked)
        return _Plan(model, held, prompt, worst_tokens, expected_tokens, given, _lifetime_ms(model))

    def _degraded(
        self, tenant: Tenant, model: ModelPolicy, facts: _Facts, levels: Sequence[tuple[Rule, Level]]
    ) -> ModelPolicy | None:
        """The model that answers in another one's place; None: none does."""
        if facts.operation is not Operation.CHAT:
            return None
        for _, level in reversed(levels):
            name = level.degrade.model
            found = None if name is None else find_model(tenant.policy, name)
            if found is not None and found is not model:
                return found
        return None

    def _reserve(
        self, exchange: Exchange, tenant: Tenant, asked_model: ModelPolicy, facts: _Facts, plan: _Plan
    ) -> Admitted:
        before: tuple[_Plan, Reserved] | None = None
        while True:
            try:
                answer = self._limits.reserve(plan.reservation(facts, before), plan.held)
            except NotCountedError:
                return self._uncounted(plan, facts)
            levels = self._limits.levels(plan.held, answer.rooms)
            other = self._degraded(tenant, asked_model, facts, levels)
            if before is not None or other is None or other is plan.model:
                break
            before = (plan, answer) if answer.refused is None else None
            plan = self._plan(tenant, other, facts)
            if before is None:
                answer = self._limits.reserve(plan.reservation(facts), plan.held)
                levels = self._limits.levels(plan.held, answer.rooms)
                break
        return self._go_by(exchange, asked_model, facts, plan, answer, levels)

    def _go_by(
        self,
        exchange: Exchange,
        asked_model: ModelPolicy,
        facts: _Facts,
        plan: _Plan,
        answer: Reserved,
        levels: Sequence[tuple[Rule, Level]],
    ) -> Admitted:
        made = Admitted(plan.model)
        told = headers(plan.held, answer)
        made.state = self._state(plan, facts, answer.now_ms, answer.max_tokens)
        blocked = next((rule for rule, level in levels if level.block and rule.mode is Mode.ENFORCE), None)
        only = next((rule for rule, level in levels if level.cache_only), None)
        if only is not None and blocked is None and _refused_by(plan, answer) <= _with_ladder(levels):
            wait_s = _wait_s(plan, answer, only)
            refused = {**told, "Retry-After": str(wait_s), "Content-Type": JSON_TYPE}
            made.cache_only = 429, cache_only_refusal(only, wait_s), refused
            _effects.inc(effect="cache_only")
        elif answer.refused is not None:
            made.answer = self._refuse(exchange, plan, answer, told)
            made.state = {}
        elif blocked is not None:
            # Spent by others since, up to a step that blocks; the ledger holds the request all the same.
            wait_s = _wait_s(plan, answer, blocked)
            made.answer = self._refuse(
                exchange, plan, _blocked(plan, answer, blocked), told | {"Retry-After": str(wait_s)}
            )
            made.state |= {"end": "refused"}
        if made.answer is None:
            _requests.inc(outcome="counted")
            exchange.set_headers(told)
        if made.answer is None and made.cache_only is None:
            made.tokens = self._tokens(plan, answer)
        degrade = _degradation(levels)
        made.compress_more = degrade.compress == "more"
        if made.compress_more:
            _effects.inc(effect="compressed")
        if plan.model is not asked_model:
            _effects.inc(effect="degraded")
            by = next((rule.name for rule, level in levels if level.degrade.model is not None), "")
            exchange.set_headers({_DEGRADED: by} if by else {})
        return made

    def _tokens(self, plan: _Plan, answer: Reserved) -> int | None:
        if answer.max_tokens < plan.worst_tokens:
            _effects.inc(effect="shrunk")
            return answer.max_tokens
        capped = any(
            h.claim.reserve is Reserve.WORST and h.claim.per_million and not h.claim.shadow for h in plan.held
        )
        return plan.worst_tokens if capped and not plan.given else None

    def _state(self, plan: _Plan, facts: _Facts, now_ms: int, max_tokens: int) -> dict[str, Any]:
        held = [h.holding(max_tokens, min(max_tokens, plan.expected_tokens)).written() for h in plan.held]
        return {"at": now_ms, "held": held, "prompt": plan.prompt.expected}

    def _refuse(
        self, exchange: Exchange, plan: _Plan, answer: Reserved, told: Mapping[str, str]
    ) -> tuple[int, bytes, Mapping[str, str]]:
        found = reached(plan.held, answer)
        subject = "" if found is None else found.rule.per.value
        period = "" if found is None else window_word(found.rule.window)
        _requests.inc(outcome="refused")
        _refusals.inc(subject=subject, period=period)
        verdict = {"refused": True, "limit": subject, "period": period}
        if found is not None and found.rule.budget:
            verdict |= {"budget": found.rule.name}
        exchange.put_verdict(PLUGIN, verdict)
        return 429, refusal(plan.held, answer), {"Content-Type": JSON_TYPE, **told}

    def _uncounted(self, plan: _Plan, facts: _Facts) -> Admitted:
        """The ledger can't be asked: as the strictest of the rules says."""
        _requests.inc(outcome="uncounted")
        rules = [h.source for h in plan.held if h.source is not None and not h.claim.shadow]
        if any(rule.on_store_down is not OnStoreDown.OPEN for rule in rules):
            status, body, told = UNAVAILABLE
            return Admitted(plan.model, answer=(status, body.encode(), told))
        made = Admitted(plan.model, tokens=None if plan.given else plan.worst_tokens or None)
        made.state = self._state(plan, facts, facts.now_ms, plan.worst_tokens)
        return made

    def limit_reply(self, exchange: Exchange, admitted: Admitted, decision: Decision, size: int) -> None:
        """Write the most tokens of the reply into the request, once all stages have seen it.

        `size`: bytes of the client's body; Kong writes it into one that is too large to be sent back.
        """
        tokens, request = admitted.tokens, exchange.chat_request()
        if tokens is None or isinstance(request, Refusal):
            return
        targets = admitted.model.targets
        names = [name for name in _OUTPUT if request.body.get(name) is not None] or [
            _output_name(targets, exchange)
        ]
        body = {**request.body, **dict.fromkeys(names, tokens)}
        if decision.passed is None and exchange.sent_body is None and size > MOST_SENT:
            decision.reply_limit = ReplyLimit(tuple(names), tokens)
            exchange.use_body(llm.write(body))
        elif decision.passed is None:
            exchange.replace_body(llm.write(body))
        exchange.use_chat(ChatRequest(body, request.messages))

    @staticmethod
    def limited(targets: Sequence[Target], tokens: int | None) -> Sequence[Target]:
        """The targets, of which none overrides the most tokens of a reply by a larger number of its own."""
        if tokens is None:
            return targets
        return [
            replace(t, options={**t.options, "max_tokens": min(own, tokens)})
            if isinstance(own := t.options.get("max_tokens"), int)
            else t
            for t in targets
        ]

    def decided(self, exchange: Exchange, admitted: Admitted, decision: Decision) -> None:
        """Leave for the log phase what is held, and how a request ended that was answered here."""
        state = admitted.state
        if not state:
            return
        if exchange.answered is not None and "end" not in state:
            if exchange.answered == _OK and _CACHE_STATUS in exchange.answer_headers:
                state |= {"end": "cached", "cached": self._cached(exchange, admitted)}
            else:
                state["end"] = "free" if admitted.cache_only is None else "refused"
        elif decision.target is not None:
            state["target"] = decision.target.id
        decision.state[_STATE] = state

    def _cached(self, exchange: Exchange, admitted: Admitted) -> list[int]:
        """Tokens and nano-dollars that the answer from the cache would have cost, where a rule charges for it."""
        held = [h for values in admitted.state["held"] if (h := read_held(values)) is not None]
        prompt = int(admitted.state["prompt"])
        if all(h.cached is CachedCost.FREE or h.claim.counted is Counted.REQUESTS for h in held):
            return [prompt, 0, 0]
        completion = _answer_tokens(exchange.answer_body)
        target = admitted.model.targets[0]
        usage = TokenUsage(input=prompt, output=completion)
        nano = 0 if target.prices is None else cost(target.prices, usage, int(admitted.state["at"])).nano
        return [prompt, completion, nano]

    # -- log ----------------------------------------------------------------------------------------------

    def ended(self, host: Host, tenant: Tenant, model: ModelPolicy, packed: PackedLog) -> None:
        """Settle a request that was decided about."""
        state = packed.state.get(_STATE)
        if not isinstance(state, Mapping):
            return
        rules = {rule.name: rule for rule in tenant.rules(model)}
        held = [
            replace(h, source=rules.get(h.rule))
            for values in _list(state.get("held"))
            if (h := read_held(values)) is not None
        ]
        started_ms = _whole(state.get("at"))
        end = self._end(host, model, packed, state, started_ms)
        for billed in end.billed if not end.cut else ():
            self._expected.seen(packed.tenant, model.qualified, billed.completion)
        self._limits.settle(settlement(packed.tenant, packed.id, started_ms, held, end), held)

    def undecided(self, host: Host, tenant: Tenant, packed: PackedLog) -> None:
        """Charge a request that reached a provider without a decision, by the last one for its tenant and model."""
        model = tenant.model(packed.recalled)
        if model is None or not tenant.rules(model):
            return
        now_ms = time.time_ns() // 1_000_000
        facts = _Facts(
            tenant=packed.tenant,
            id=packed.id,
            key=packed.credential,
            end_user="",
            body={"messages": []},
            operation=Operation.CHAT,
            passed=None,
            now_ms=now_ms,
        )
        try:
            plan = self._plan(tenant, model, facts)
        except Unpriced:
            return
        prompt = Prompt(packed.body_size // 4, packed.body_size)
        state = {"prompt": prompt.expected, "target": model.targets[0].id}
        end = self._end(host, model, packed, state, now_ms)
        held = [h.holding(plan.worst_tokens, plan.expected_tokens) for h in plan.held]
        self._limits.settle(settlement(packed.tenant, packed.id, now_ms, held, end), held)

    def _end(
        self, host: Host, model: ModelPolicy, packed: PackedLog, state: Mapping[str, Any], started_ms: int
    ) -> End:
        match _text(state.get("end")):
            case "refused":
                return End(refused=True)
            case "free":
                return End()
            case "cached":
                counted = [_whole(n) for n in _list(state.get("cached"))] or [0, 0, 0]
                return End(cached=Billed("", *counted[:3]))
        targets = {t.id: t for t in model.targets}
        first = targets.get(_text(state.get("target")), model.targets[0])
        uncertain = [
            _provider(model, targets.get(t.target, first))
            for t in packed.tries[:-1]
            if t.outcome in MAYBE_BILLED
        ]
        last = packed.tries[-1] if packed.tries else None
        target = first if last is None else targets.get(last.target, first)
        provider = _provider(model, target)
        usage = packed.usage
        if usage is None:
            usage, maybe = self._unread(host, packed, _whole(state.get("prompt")), target)
            if usage is None:
                return End(uncertain=(*uncertain, *([provider] if maybe else [])))
        if usage.lower_bound and not usage.input:
            usage = replace(usage, input=_whole(state.get("prompt")))
        nano = 0 if target.prices is None else cost(target.prices, usage, started_ms).nano
        billed = Billed(provider, usage.input, usage.output, nano)
        return End(billed=(billed,), uncertain=tuple(uncertain), cut=usage.lower_bound)

    def _unread(
        self, host: Host, packed: PackedLog, prompt: int, target: Target
    ) -> tuple[TokenUsage | None, bool]:
        """The usage of a reply that named none; or else whether the provider may have done the work."""
        status = packed.provider_status
        if packed.tries:
            outcome = packed.tries[-1].outcome
            if outcome in MAYBE_BILLED:
                return None, True
            status = _OK if outcome == "ok" else _FOUND
        elif not status:
            return None, packed.sent
        if status >= _FOUND:
            return None, f"http_{status}" in MAYBE_BILLED
        if packed.status == _GONE:
            return None, True
        record = LogRecord(host.record())
        if record.tokens is not None:
            tokens = record.tokens
            # Of a whole reply it is the provider's count, of a stream Kong's guess.
            return TokenUsage(input=tokens[0], output=tokens[1], lower_bound=record.is_stream), True
        if target.prices is not None and any("request" in p.prices for p in target.prices.periods):
            return TokenUsage(input=prompt), True
        return None, True


class Expected:
    """Tokens of replies that nine of ten have, by tenant and model."""

    def tokens(self, tenant: TenantId, model: str) -> int:
        """That many tokens."""
        return 1_000

    def seen(self, tenant: TenantId, model: str, tokens: int) -> None:
        """Take the tokens of one more reply."""


# -- of a request ----------------------------------------------------------------------------------------


def _targets(model: ModelPolicy, operation: Operation) -> Sequence[Target]:
    if operation is Operation.CHAT:
        return model.targets
    return [t for t in model.targets if speaking(t, operation)] or model.targets


def _provider(model: ModelPolicy, target: Target) -> str:
    """The target's provider as tenants.yaml names it."""
    return target.id.partition("/")[0] or model.provider


def _prompt(body: Mapping[str, Any], targets: Sequence[Target]) -> Prompt:
    windows = [t.context_window for t in targets]
    return prompt_of(
        body,
        token_counter(_ENCODING).count,
        factor=max(factor_of(t.provider, t.name) for t in targets),
        model=max((t.name for t in targets), key=lambda name: "4o-mini" in name),
        context_window=max((w for w in windows if w is not None), default=None) if all(windows) else None,
    )


def _reply_tokens(facts: _Facts, targets: Sequence[Target]) -> tuple[int, bool]:
    """Most tokens of one reply, and whether the request says so itself."""
    own = [n for t in targets if (n := _count(t.options.get("max_tokens"))) is not None]
    asked = [n for name in _OUTPUT if (n := _count(facts.body.get(name))) is not None]
    if asked:
        return max(*asked, *own, 1), True
    if len(own) == len(targets):
        return max(own), True
    if facts.operation is Operation.COMPLETIONS:
        return max(_COMPLETION_TOKENS, *own), False
    # Each target must take it.
    known = [t.max_output_tokens or DEFAULT_OUTPUT_TOKENS for t in targets]
    least = _least_tokens(facts.body)
    return max(min(known), *own, least and least + DEFAULT_OUTPUT_TOKENS), False


def _replies(facts: _Facts) -> int:
    each = max(_count(facts.body.get("n")) or 1, _count(facts.body.get("best_of")) or 1)
    passed = facts.passed
    if passed is None or facts.operation is not Operation.COMPLETIONS:
        return each
    return each * (dict(passed.shape).get("prompt") or 1)


def _least_tokens(body: Mapping[str, Any]) -> int:
    """Anthropic refuses a request whose thoughts may take all of its reply."""
    thinking = body.get("thinking")
    budget = _count(thinking.get("budget_tokens")) if isinstance(thinking, Mapping) else None
    return 0 if budget is None else budget + 1


def _tries(model: ModelPolicy) -> int:
    """Targets that may bill one request: further ones are asked after one that may have done the work."""
    routing = model.routing
    if routing is None or all(FAILURES.get(name, False) for name in routing.failover_criteria):
        return 1
    return 1 + min(routing.retries, len(model.targets) - 1)


def _offer(model: ModelPolicy, target: Target, facts: _Facts, prompt: Prompt) -> Offer:
    prices, provider = target.prices, _provider(model, target)
    metered = facts.operation not in _UNMETERED
    if prices is None or not (metered or any("request" in p.prices for p in prices.periods)):
        return Offer(provider=provider, worst=None, expected=None)
    audio = prompt.audio or "audio" in facts.body
    most = worst(prices, prompt.worst if metered else 0, facts.now_ms, audio=audio)
    plain = worst(prices, prompt.expected if metered else 0, facts.now_ms, caches=False, audio=audio)
    return Offer(
        provider=provider,
        worst=Sized(most.fixed, most.per_million),
        expected=Sized(plain.fixed, plain.per_million),
    )


def _lifetime_ms(model: ModelPolicy) -> int:
    routing = model.routing
    longest = (
        _DIRECT_MS if routing is None else max(routing.streaming_total_ms, routing.non_streaming_total_ms)
    )
    return min(longest + _SLACK_MS, LIFETIME_MAX_MS)


def _end_user(
    exchange: Exchange, tenant: Tenant, packed: PackedRequest, request: ChatRequest, rules: Sequence[Rule]
) -> str:
    if all(rule.per is not Per.END_USER for rule in rules):
        return ""
    header = tenant.policy.end_user_header
    if header is not None:
        return end_user_subject(exchange.headers().get(header) or "")
    name: Any = request.body.get("user")
    if format_of(packed.path) is Format.MESSAGES:
        body = parse(packed.body)
        metadata = body.get("metadata") if isinstance(body, dict) else None
        name = metadata.get("user_id") if isinstance(metadata, dict) else None
    return end_user_subject(name if isinstance(name, str) else "")


def _output_name(targets: Sequence[Target], exchange: Exchange) -> str:
    newer = all(t.provider in _NEWER_WORD and "upstream_url" not in t.options for t in targets)
    return _OUTPUT[0] if newer and exchange.operation is Operation.CHAT else _OUTPUT[1]


def _unpriced(facts: _Facts) -> tuple[int, bytes, Mapping[str, str]]:
    what = "operation" if facts.operation in _UNMETERED else "model"
    message = f"What this {what} costs isn't known here, and a budget counts it. Ask the gateway's operator for a price."
    body = error_body(message, kind=ErrorType.INVALID_REQUEST, code=Code.PRICE_UNKNOWN, param="model")
    return 403, body, {"Content-Type": JSON_TYPE}


# -- of an answer ----------------------------------------------------------------------------------------


def _degradation(levels: Sequence[tuple[Rule, Level]]) -> Degrade:
    model = compress = None
    for _, level in levels:
        model, compress = level.degrade.model or model, level.degrade.compress or compress
    return Degrade(model=model, compress=compress)


def _refused_by(plan: _Plan, answer: Reserved) -> set[str]:
    if answer.refused is None:
        return set()
    return {plan.held[i].rule for i in answer.by if not plan.held[i].claim.shadow}


def _with_ladder(levels: Sequence[tuple[Rule, Level]]) -> set[str]:
    return {rule.name for rule, level in levels if level.cache_only}


def _blocked(plan: _Plan, answer: Reserved, rule: Rule) -> Reserved:
    from tenantgate.limits.core.ledger import Refused

    return replace(answer, refused=Refused.EXHAUSTED, by=_indexes(plan, rule))


def _indexes(plan: _Plan, rule: Rule) -> tuple[int, ...]:
    return tuple(i for i, h in enumerate(plan.held) if h.rule == rule.name)


def _wait_s(plan: _Plan, answer: Reserved, rule: Rule) -> int:
    resets = [answer.rooms[i].reset_ms for i in _indexes(plan, rule)]
    return max(1, -(-(max(resets, default=0) - answer.now_ms) // 1000))


def _answer_tokens(body: bytes) -> int:
    """Tokens of an answer from the cache: as its usage says, or as they are counted."""
    texts: list[str] = []
    lines = body.split(b"\n") if body.startswith(b"data:") else [body]
    for line in lines:
        try:
            value = json.loads(line.removeprefix(b"data:"))
        except (ValueError, RecursionError):
            continue
        if not isinstance(value, dict):
            continue
        usage = value.get("usage")
        if isinstance(usage, dict) and (count := _count(usage.get("completion_tokens"))) is not None:
            return count
        for choice in _list(value.get("choices")):
            held = choice.get("message") or choice.get("delta") if isinstance(choice, dict) else None
            if isinstance(held, dict) and isinstance(held.get("content"), str):
                texts.append(held["content"])
    return token_counter(_ENCODING).count("".join(texts)) if texts else 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value or "")

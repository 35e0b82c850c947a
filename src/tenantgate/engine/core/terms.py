"""What a request may take of its limits: its prompt, its longest reply, and the prices of the targets that may answer.

The reply's most tokens are the client's ``max_tokens`` or ``max_completion_tokens``, else the smallest
``max_output_tokens`` of the targets, else `DEFAULT_OUTPUT_TOKENS`; ``n`` replies take so many times that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tenantgate.engine.core.operations import speaking
from tenantgate.limits.core.claims import Asked, Held, Offer, claims_of, counts
from tenantgate.limits.core.estimate import NO_PROMPT, Prompt, factor_of, prompt_of
from tenantgate.limits.core.ledger import LIFETIME_MAX_MS, TOKENS_MAX, Reservation, Reserved
from tenantgate.limits.core.rules import CachedCost, Counted, OnStoreDown, Reserve, Rule
from tenantgate.llm.operations import Operation, Passed
from tenantgate.policy.core.records import FAILURES, ModelPolicy, Target
from tenantgate.prices.core.cost import worst
from tenantgate.tenant import TenantId

__all__ = [
    "DEFAULT_OUTPUT_TOKENS",
    "OUTPUT_NAMES",
    "UNMETERED",
    "Facts",
    "Plan",
    "counts_model",
    "limited_targets",
    "output_name",
    "paid_apart",
    "pictures",
    "plan_of",
    "positive",
    "provider_of",
]

DEFAULT_OUTPUT_TOKENS: Final = 4_096
"""Most tokens of a reply where neither the client nor the model's ``max_output_tokens`` says it: what every model in
use takes."""
OUTPUT_NAMES: Final = ("max_completion_tokens", "max_tokens")
UNMETERED: Final = (Operation.IMAGES, Operation.SPEECH, Operation.TRANSCRIPTIONS)
"""Operations that aren't paid by the token: only a price for one request tells what they cost."""

_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_TIER: Final = "service_tier"
_USUAL_TIERS: Final = (None, "auto", "default", "flex", "standard_only", "on_demand")
"""Those with the usual price, or a lower one."""
_SEARCHES: Final = (
    "web_search_options",
    "search_parameters",
    "search_settings",
    "plugins",
    "compound_custom",
)
_UNASKED: Final[tuple[Any, ...]] = (None, False, [])  # OpenAI searches for an empty object, too
_OWN_TOOLS: Final = (None, "function", "custom")
"""Tools that the client runs."""
_OWN_PRICES: Final = "tenants.yaml"
_COMPLETION_TOKENS: Final = 16
"""Most tokens of a reply of `/v1/completions` by OpenAI's API, where the client doesn't say it."""
_NEWER_WORD: Final = ("openai", "azure")
_SLACK_MS: Final = 60_000
_DIRECT_MS: Final = 900_000
"""Longest life of a request that is sent without time limits of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What holds for a request whichever model answers."""

    tenant: TenantId
    id: str
    key: str = ""
    """Id of the client's credential."""
    end_user: str = ""
    """As `end_user_subject` makes it."""
    body: Mapping[str, Any]
    operation: Operation = Operation.CHAT
    passed: Passed | None = None
    now_ms: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What one model's answer would take.

    Attributes:
        held: the claims.
        worst_tokens: most tokens of one reply; 0 where it has none that cost.
        expected_tokens: tokens that it probably has.
        given: whether the request itself says how long the reply may be.
        pictures: how many it asks for, where it asks for any.
    """

    model: ModelPolicy
    held: tuple[Held, ...]
    prompt: Prompt = NO_PROMPT
    worst_tokens: int = 0
    expected_tokens: int = 0
    given: bool = True
    pictures: int = 1

    def reservation(self, facts: Facts, before: tuple[Plan, Reserved] | None = None) -> Reservation:
        """What is asked of the ledger; `before`: the plan in whose place it stands, and what the ledger answered."""
        return Reservation(
            tenant=facts.tenant,
            id=facts.id,
            claims=tuple(h.claim for h in self.held),
            worst_tokens=self.worst_tokens,
            expected_tokens=self.expected_tokens,
            lifetime_ms=_lifetime_ms(self.model),
            final=before is None and self.final,
            replaces=() if before is None else tuple(h.claim for h in before[0].held),
            replaces_ms=0 if before is None else before[1].now_ms,
        )

    @property
    def final(self) -> bool:
        """Whether the end of the request changes nothing of what is counted now: a request is one, however it ends.

        Of several providers only those are asked that have to be.
        """
        several = len({provider_of(self.model, target) for target in self.model.targets}) > 1
        return all(
            h.claim.counted is Counted.REQUESTS
            and h.claim.window.sliding_s
            and h.cached is not CachedCost.FREE
            and not (h.provider and several)
            and (h.source is None or h.source.on_store_down is not OnStoreDown.LEASE)
            for h in self.held
        )

    def holding(self, max_tokens: int) -> list[Held]:
        """The claims with what they hold, for a reply of at most so many tokens."""
        return [h.holding(max_tokens, min(max_tokens, self.expected_tokens)) for h in self.held]

    def caps(self) -> bool:
        """Whether the request must say how long its reply may be: a rule holds the most that it can take."""
        return not self.given and any(
            h.claim.reserve is Reserve.WORST and h.claim.per_million and not h.claim.shadow for h in self.held
        )


def plan_of(
    rules: Sequence[Rule],
    model: ModelPolicy,
    facts: Facts,
    *,
    count: Callable[[str], int],
    expected: Callable[[int], int],
) -> Plan:
    """What an answer of this model would take.

    Args:
        rules: that count its requests (`counts_model`).
        model: one of the tenant's.
        facts: of the request.
        count: tokens of a text by ``o200k_base``.
        expected: gives the tokens that nine of ten replies have, of so many at most.

    Raises:
        Unpriced: what it costs isn't known, and a rule counts it.
    """
    targets = _targets(model, facts.operation)
    if all(rule.counted is Counted.REQUESTS for rule in rules):
        offers = tuple([Offer(provider=provider_of(model, t), worst=None, expected=None) for t in targets])
        asked = Asked(model=model.qualified, offers=offers, key=facts.key, end_user=facts.end_user)
        return Plan(model, claims_of(rules, asked))
    prompt = _prompt(facts, targets, count)
    has_reply = facts.operation in (Operation.CHAT, Operation.COMPLETIONS)
    worst_tokens, given = _reply_tokens(facts, targets) if has_reply else (0, True)
    reserves = {rule.reserve for rule in rules if rule.counted is Counted.COST}
    asked = Asked(
        model=model.qualified,
        offers=tuple([_offer(model, t, facts, prompt, reserves) for t in targets]),
        key=facts.key,
        end_user=facts.end_user,
        prompt=prompt,
        replies=_replies(facts),
        tries=_tries(model),
        has_reply=has_reply,
        least_tokens=_least_tokens(facts.body),
    )
    return Plan(
        model,
        claims_of(rules, asked),
        prompt,
        worst_tokens,
        expected(worst_tokens) if has_reply else 0,
        given,
        pictures(facts),
    )


def counts_model(rule: Rule, model: ModelPolicy) -> bool:
    """Whether a rule counts requests to a model."""
    names = (model.qualified, model.model, *model.aliases)
    return counts(rule, names, [provider_of(model, t) for t in model.targets])


def provider_of(model: ModelPolicy, target: Target) -> str:
    """The target's provider as tenants.yaml names it."""
    return target.id.partition("/")[0] or model.provider


def output_name(targets: Sequence[Target], operation: Operation) -> str:
    """The member that says how long a reply may be, where the client has none."""
    newer = all(t.provider in _NEWER_WORD and "upstream_url" not in t.options for t in targets)
    return OUTPUT_NAMES[0] if newer and operation is Operation.CHAT else OUTPUT_NAMES[1]


def limited_targets(targets: Sequence[Target], tokens: int) -> list[Target]:
    """The targets, of which none puts a larger number of its own in place of the request's most tokens."""
    return [
        replace(t, options={**t.options, "max_tokens": min(own, tokens)})
        if (own := positive(t.options.get("max_tokens"))) is not None
        else t
        for t in targets
    ]


def positive(value: Any) -> int | None:
    """A whole number above 0, at most `TOKENS_MAX`; None for anything else.

    ``8.0`` is one, which Kong writes as ``8``, and so is ``"8"``, which some providers read as a number.
    """
    if isinstance(value, str):
        value = int(value) if _DIGITS.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != value // 1:
        return None
    return int(min(value, TOKENS_MAX))


def _targets(model: ModelPolicy, operation: Operation) -> Sequence[Target]:
    if operation is Operation.CHAT:
        return model.targets
    return [t for t in model.targets if speaking(t, operation)] or model.targets


def _prompt(facts: Facts, targets: Sequence[Target], count: Callable[[str], int]) -> Prompt:
    # Each text of several may be as long as the window.
    windows = [t.context_window and t.context_window * _texts(facts) for t in targets]
    return prompt_of(
        facts.body,
        count,
        factor=max(factor_of(t.provider, t.name) for t in targets),
        model=max((t.name for t in targets), key=lambda name: "4o-mini" in name),
        context_window=max((w for w in windows if w is not None), default=None) if all(windows) else None,
    )


def _reply_tokens(facts: Facts, targets: Sequence[Target]) -> tuple[int, bool]:
    """Most tokens of one reply, and whether the request says so itself."""
    own = [n for t in targets if (n := positive(t.options.get("max_tokens"))) is not None]
    said = [facts.body[name] for name in OUTPUT_NAMES if facts.body.get(name) is not None]
    asked = [n for value in said if (n := positive(value)) is not None]
    if asked:
        # Beside a number there may be one without a meaning here, which is the provider's "no limit".
        return max(*asked, *own, 1), len(asked) == len(said)
    if len(own) == len(targets):
        return max(own), True
    if facts.operation is Operation.COMPLETIONS:
        return max([_COMPLETION_TOKENS, *own]), False
    # Each target must take it.
    known = [t.max_output_tokens or DEFAULT_OUTPUT_TOKENS for t in targets]
    least = _least_tokens(facts.body)
    return max(min(known), *own, least and least + DEFAULT_OUTPUT_TOKENS), False


def pictures(facts: Facts) -> int:
    """Pictures that a request asks for, each of which costs what a request does; 1 of any other."""
    return positive(facts.body.get("n")) or 1 if facts.operation is Operation.IMAGES else 1


def _replies(facts: Facts) -> int:
    each = max(positive(facts.body.get("n")) or 1, positive(facts.body.get("best_of")) or 1)
    return each * (_texts(facts) if facts.operation is Operation.COMPLETIONS else 1)


def _texts(facts: Facts) -> int:
    """Prompts of an operation that takes several; 1 of any other request."""
    if facts.passed is None or facts.operation not in (Operation.COMPLETIONS, Operation.EMBEDDINGS):
        return 1
    given = facts.body.get("input")
    of_ids = isinstance(given, list) and all(isinstance(tokens, list) for tokens in given)
    lists = len(given) if isinstance(given, list) and of_ids else 1
    return max(1, lists, *(number or 1 for _, number in facts.passed.shape))


def _least_tokens(body: Mapping[str, Any]) -> int:
    """Anthropic refuses a request whose thoughts may take all of its reply."""
    thinking = body.get("thinking")
    budget = positive(thinking.get("budget_tokens")) if isinstance(thinking, Mapping) else None
    return 0 if budget is None else budget + 1


def _tries(model: ModelPolicy) -> int:
    """Targets that may bill one request: further ones are asked after one that may have done the work."""
    routing = model.routing
    if routing is None or all(FAILURES.get(name, False) for name in routing.failover_criteria):
        return 1
    return 1 + min(routing.retries, len(model.targets) - 1)


def _offer(
    model: ModelPolicy, target: Target, facts: Facts, prompt: Prompt, reserves: Collection[Reserve]
) -> Offer:
    prices, provider = target.prices, provider_of(model, target)
    metered = facts.operation not in UNMETERED
    by_request = prices is not None and any("request" in p.prices for p in prices.periods)
    member = paid_apart(facts.body)
    # Prices that the operator gives hold for any service tier, and one of a request is for what a provider does in it.
    known = (
        member is None
        or by_request
        or (member == _TIER and prices is not None and prices.book == _OWN_PRICES)
    )
    if prices is None or not known or not (metered or by_request):
        return Offer(provider=provider, worst=None, expected=None)
    audio = prompt.audio or "audio" in facts.body
    at_ms, most, probable = facts.now_ms, None, None
    if Reserve.WORST in reserves:
        most = worst(prices, prompt.worst if metered else 0, at_ms, audio=audio)
    if Reserve.EXPECTED in reserves:
        probable = worst(prices, prompt.expected if metered else 0, at_ms, caches=False, audio=audio)
    if (n := pictures(facts)) > 1:
        most, probable = [w and replace(w, fixed=w.fixed * n) for w in (most, probable)]
    return Offer(provider=provider, worst=most, expected=probable)


def paid_apart(body: Mapping[str, Any]) -> str | None:
    """The member by which a request costs more than its tokens; None where there is none.

    Source: https://platform.openai.com/docs/pricing (priority processing, web search), the providers' tools of
    https://console.groq.com/docs/tool-use/built-in-tools and https://docs.x.ai/docs/guides/live-search.
    """
    if body.get(_TIER, "auto") not in _USUAL_TIERS:
        return _TIER
    if (found := next((name for name in _SEARCHES if body.get(name) not in _UNASKED), None)) is not None:
        return found
    tools = body.get("tools")
    kinds = (
        [tool.get("type") for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list) else []
    )
    return "tools" if any(kind not in _OWN_TOOLS for kind in kinds) else None


def _lifetime_ms(model: ModelPolicy) -> int:
    routing = model.routing
    longest = (
        _DIRECT_MS if routing is None else max(routing.streaming_total_ms, routing.non_streaming_total_ms)
    )
    return min(longest + _SLACK_MS, LIFETIME_MAX_MS)

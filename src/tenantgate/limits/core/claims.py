"""What a request asks of its rules' counters: the prompt as estimated, the reply at its longest, the dearest target."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tenantgate.limits.core.estimate import NO_PROMPT, Prompt
from tenantgate.limits.core.keys import counter_name
from tenantgate.limits.core.ladder import ceiling
from tenantgate.limits.core.ledger import AMOUNT_MAX, Claim
from tenantgate.limits.core.rules import CachedCost, Counted, Mode, Per, Reserve, Rule, Window
from tenantgate.prices.core.cost import Worst

__all__ = [
    "Asked",
    "Held",
    "Offer",
    "Unpriced",
    "claims_of",
    "counts",
    "counts_tool",
    "end_user_subject",
    "read_held",
]

MILLION: Final = 1_000_000
# A member of an enum by its class takes ten times as long, and each request asks for dozens.
_REQUESTS, _WORST, _ENFORCE, _SHADOW = Counted.REQUESTS, Reserve.WORST, Mode.ENFORCE, Mode.SHADOW
_PROMPT, _COMPLETION, _TOTAL, _BYTES = (
    Counted.PROMPT_TOKENS,
    Counted.COMPLETION_TOKENS,
    Counted.TOTAL_TOKENS,
    Counted.BYTES,
)
_TENANT, _KEY, _MODEL, _PROVIDER, _END_USER = Per.TENANT, Per.KEY, Per.MODEL, Per.PROVIDER, Per.END_USER


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One of the targets that may answer."""

    provider: str
    """As tenants.yaml names it."""
    worst: Worst | None
    """What the prompt and the reply cost at most; None: no price is known, or nothing asks for it."""
    expected: Worst | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What decides how much a request takes."""

    model: str
    """``provider/model``."""
    offers: tuple[Offer, ...]
    key: str = ""
    """Id of the client's credential; requests without one are counted together."""
    end_user: str = ""
    """As `end_user_subject` makes it; requests without one are counted together."""
    prompt: Prompt = NO_PROMPT
    size: int = 0
    """Bytes of a tool's arguments."""
    replies: int = 1
    """That each is as long as the reply may be: ``n``, times the prompts of a completion."""
    tries: int = 1
    """Targets that may bill it at most: those after one that may have done the work included."""
    has_reply: bool = True
    """Whether the reply has tokens that cost."""
    least_tokens: int = 0
    """Fewest tokens of a reply that the provider takes the request with."""


@dataclass(frozen=True, slots=True)
class Held:
    """A claim with what the request's end needs to know.

    Attributes:
        rule: the rule's name.
        subject: of the rule's `per`; empty for the tenant.
        provider: names, parted by commas, of the providers that count; empty: whoever answers.
        tries: targets that may bill the request, which the claim is for.
        hold: what one of these tries takes if nobody ever knows.
        source: the rule itself, while it is at hand.
    """

    rule: str
    subject: str
    claim: Claim
    provider: str = ""
    cached: CachedCost = CachedCost.FREE
    cached_factor: float = 0.0
    tries: int = 1
    hold: int = 0
    source: Rule | None = field(default=None, compare=False, repr=False)

    def holding(self, worst_tokens: int, expected_tokens: int) -> Held:
        """The same with what it holds for a reply of at most, or of probably, so many tokens."""
        return replace(self, hold=self._hold(worst_tokens, expected_tokens))

    def _hold(self, worst_tokens: int, expected_tokens: int) -> int:
        claim = self.claim
        tokens = worst_tokens if claim.reserve is _WORST else expected_tokens
        whole = claim.fixed - (-tokens * claim.per_million // MILLION)
        return min(-(-whole // self.tries), AMOUNT_MAX)

    def written(self, worst_tokens: int, expected_tokens: int) -> list[Any]:
        """Plain values, which `read_held` reads, with what it holds for a reply of so many tokens."""
        claim, window = self.claim, self.claim.window
        return [
            self.rule,
            self.subject,
            claim.counter,
            claim.counted._value_,
            claim.most,
            [window.sliding_s, window.unit, window.timezone, window.anchor_day],
            self.provider,
            self.cached._value_,
            self.cached_factor,
            self.tries,
            self._hold(worst_tokens, expected_tokens),
        ]


class Unpriced(Exception):  # noqa: N818 - a finding, which the engine answers
    """A rule counts money, and what the request would cost isn't known."""


def counts(rule: Rule, names: Collection[str], providers: Collection[str]) -> bool:
    """Whether the rule counts requests to a model with these names, which these providers may answer."""
    if rule.tools or (rule.models and not any(name in rule.models for name in names)):
        return False
    return not rule.providers or any(name in rule.providers for name in providers)


def counts_tool(rule: Rule, server: str, tool: str) -> bool:
    """Whether the rule is one of tools, and counts calls of this one."""
    return any(name in rule.tools for name in (server, f"{server}/{tool}"))


def end_user_subject(name: str) -> str:
    """A client's word for its end user as a counter's subject: it may be a mail address, so only a digest stays."""
    return "" if not name else hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def claims_of(rules: Iterable[Rule], asked: Asked) -> tuple[Held, ...]:
    """The claims of a request: one of each rule, or one for each provider that may answer.

    Args:
        rules: that count it (`counts`).
        asked: the request.

    Raises:
        Unpriced: a rule that counts money can't tell what the request costs. One in shadow mode leaves it out.
    """
    out: list[Held] = []
    for rule in rules:
        _add(out, rule, asked)
    return tuple(out)


def _add(out: list[Held], rule: Rule, asked: Asked) -> None:
    for provider in _providers(rule, asked):
        offers: Sequence[Offer] = asked.offers
        if provider:
            offers = [offer for offer in offers if offer.provider == provider]
        elif rule.providers:
            offers = [offer for offer in offers if offer.provider in rule.providers]
        try:
            fixed, per_million = _amounts(rule, asked, offers)
        except Unpriced:
            if rule.mode is _ENFORCE:
                raise
            continue
        tries = 1 if rule.counted is _REQUESTS else asked.tries
        subject = _subject(rule, asked, provider)
        limit = ceiling(rule, rule.most)
        claim = Claim(
            counter=counter_name(rule, subject),
            counted=rule.counted,
            most=rule.most if limit is None else limit,
            window=rule.window,
            fixed=fixed * tries,
            per_million=per_million * tries,
            reserve=rule.reserve,
            on_tight=rule.on_tight,
            min_tokens=max(rule.min_tokens, asked.least_tokens),
            shadow=rule.mode is _SHADOW or limit is None,
        )
        only = provider or (",".join(rule.providers) if rule.providers else "")
        out.append(Held(rule.name, subject, claim, only, rule.cached, rule.cached_factor, tries, source=rule))


def _providers(rule: Rule, asked: Asked) -> Sequence[str]:
    """The providers that have a counter of their own for this rule; one empty name: nothing depends on them."""
    if rule.per is not _PROVIDER:
        return ("",)
    found = dict.fromkeys(offer.provider for offer in asked.offers)
    return [name for name in found if not rule.providers or name in rule.providers]


def _amounts(rule: Rule, asked: Asked, offers: Sequence[Offer]) -> tuple[int, int]:
    if rule.counted is _REQUESTS:
        return 1, 0
    worst = rule.reserve is _WORST
    prompt = asked.prompt.worst if worst else asked.prompt.expected
    reply = MILLION * asked.replies if asked.has_reply else 0
    counted = rule.counted
    if counted is _TOTAL:
        return prompt, reply
    if counted is _PROMPT:
        return prompt, 0
    if counted is _COMPLETION:
        return 0, reply
    if counted is _BYTES:
        return asked.size, 0
    sizes = [offer.worst if worst else offer.expected for offer in offers]
    if not sizes or any(size is None for size in sizes):
        raise Unpriced
    known = [size for size in sizes if size is not None]
    per_million = max(size.per_million for size in known) * asked.replies if asked.has_reply else 0
    return max(size.fixed for size in known), per_million


def _subject(rule: Rule, asked: Asked, provider: str) -> str:
    per = rule.per
    if per is _TENANT:
        return ""
    if per is _KEY:
        return asked.key
    if per is _MODEL:
        return asked.model
    return provider if per is _PROVIDER else asked.end_user


def read_held(values: Any) -> Held | None:
    """What `Held.written` has written, as Kong gives it back; None for anything else."""
    try:
        rule, subject, counter, counted, most, window, provider, cached, factor, tries, hold = values
        sliding, unit, zone, day = window
        claim = Claim(
            counter=_text(counter),
            counted=Counted(_text(counted)),
            most=int(most),
            window=Window(
                sliding_s=int(sliding), unit=_text(unit), timezone=_text(zone), anchor_day=int(day)
            ),
            fixed=0,
        )
        return Held(
            rule=_text(rule),
            subject=_text(subject),
            claim=claim,
            provider=_text(provider),
            cached=CachedCost(_text(cached)),
            cached_factor=float(factor),
            tries=max(1, int(tries)),
            hold=int(hold),
        )
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)

"""Recorded traffic against proposed limits: what would have been refused, degraded or told, and when. Pure.

Windows, counters and ladders are those of the engine. What each request uses is known here beforehand, so nothing has
to be held: a request is refused where nothing is left, and where what it used wouldn't have fitted and the rule says
`on_tight: refuse`. With shrink it is charged what was left. Clients are taken to send what they sent; what they would
have sent again after a refusal nobody knows.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from tenantgate.budget.core.traffic import Request
from tenantgate.limits.core.counters import Counter, life_ms, run_width_us
from tenantgate.limits.core.ladder import Level, ceiling, level
from tenantgate.limits.core.ledger import LIFETIME_MAX_MS
from tenantgate.limits.core.rules import CachedCost, Counted, Mode, OnTight, Per, Reserve, Rule
from tenantgate.limits.core.windows import window_at

__all__ = ["Day", "Finding", "sentence", "simulate"]

_MICRO: Final = 1000
_FACTOR: Final = 1_000_000


@dataclass(slots=True)
class Day:
    """Refusals of one day in the rule's time zone."""

    date: str
    first_ms: int
    requests: int = 0


@dataclass(slots=True)
class Finding:
    """What one rule would have done to one tenant's traffic.

    Attributes:
        counted: requests that it counts.
        estimated: those of them whose usage nobody told.
        unknown: requests that it may count, but whose subject no record tells; they are left out.
        refused: by day, those for which nothing was left.
        cache_only: requests refused because only the cache would have answered.
        degraded: requests that would have been sent to another model, or compressed more.
        steps: times at which a step was reached, by window and subject, of each step: ``80% degrade``.
        most: the most that was used of any window, in the rule's unit.
        subjects: subjects that have reached the limit; empty where the tenant counts.
    """

    tenant: str
    rule: Rule
    counted: int = 0
    estimated: int = 0
    unknown: int = 0
    refused: dict[str, Day] = field(default_factory=dict)
    cache_only: int = 0
    degraded: int = 0
    steps: dict[str, list[int]] = field(default_factory=dict)
    most: int = 0
    subjects: Counts[str] = field(default_factory=Counts)

    @property
    def refusals(self) -> int:
        """Requests for which nothing was left."""
        return sum(day.requests for day in self.refused.values())


@dataclass(slots=True)
class _Counter:
    """One subject's counter in the window of now."""

    start_ms: int
    counter: Counter
    reached: set[int] = field(default_factory=set)


class _Replay:
    """One rule of one tenant."""

    def __init__(self, tenant: str, rule: Rule) -> None:
        self.rule, self.finding = rule, Finding(tenant, rule)
        self._zone = ZoneInfo(rule.window.timezone)
        self._counters: dict[str, _Counter] = {}
        self._window = (0, 0)
        self._most = ceiling(rule, rule.most)

    def counts(self, request: Request) -> bool:
        rule = self.rule
        if rule.tools:
            return False  # records of calls have neither prices nor sizes
        if rule.models and request.model not in rule.models:
            return False
        if rule.providers and request.provider not in rule.providers:
            return False
        if rule.per is not Per.TENANT and not self.subject(request):
            self.finding.unknown += 1
            return False
        return True

    def amount(self, request: Request, nano: int) -> int:
        rule = self.rule
        if request.cached and rule.cached is CachedCost.FREE:
            return 0
        prompt, completion = request.prompt or 0, request.completion or 0
        full = {
            Counted.REQUESTS: 1,
            Counted.PROMPT_TOKENS: prompt,
            Counted.COMPLETION_TOKENS: completion,
            Counted.TOTAL_TOKENS: prompt + completion,
            Counted.COST: nano,
            Counted.BYTES: 0,
        }[rule.counted]
        if request.cached and rule.cached is CachedCost.TOKENS:
            return 0 if rule.counted is Counted.COST else full
        if request.cached:
            return round(full * _FACTOR * rule.cached_factor) // _FACTOR
        return full

    def subject(self, request: Request) -> str:
        return {
            Per.TENANT: "",
            Per.KEY: request.key,
            Per.MODEL: request.model,
            Per.PROVIDER: request.provider,
            Per.END_USER: request.end_user,
        }[self.rule.per]

    def at(self, request: Request) -> _Counter:
        """The counter in its window."""
        rule, now_ms, subject = self.rule, request.time_ms, self.subject(request)
        start_ms = 0
        if not rule.window.sliding_s:
            if not self._window[0] <= now_ms < self._window[1]:
                self._window = window_at(rule.window, now_ms)
            start_ms = self._window[0]
        found = self._counters.get(subject)
        if found is None or found.start_ms != start_ms:
            found = self._counters[subject] = _Counter(
                start_ms, Counter(sliding_us=rule.window.sliding_s * 1_000_000)
            )
        found.counter.open(now_ms * _MICRO, life_ms(rule.window, rule.counted, LIFETIME_MAX_MS))
        return found

    def standing(self, request: Request) -> Level:
        return level(self.rule, self.at(request).counter.room(self.rule.most, 0))

    def full(self, request: Request, amount: int) -> bool:
        if self._most is None:
            return False
        if self.rule.reserve is Reserve.EXPECTED:
            amount = min(amount, self._most)  # else a small limit would never let it pass
        left = self._most - self.at(request).counter.total
        return left <= 0 or (self.rule.on_tight is OnTight.REFUSE and amount > left)

    def refuse(self, request: Request) -> None:
        finding = self.finding
        date = f"{datetime.fromtimestamp(request.time_ms / 1000, self._zone):%Y-%m-%d}"
        finding.refused.setdefault(date, Day(date, request.time_ms)).requests += 1
        if subject := self.subject(request):
            finding.subjects[subject] += 1

    def charge(self, request: Request, amount: int) -> None:
        own, rule = self.at(request), self.rule
        if rule.on_tight is OnTight.SHRINK and self._most is not None:
            amount = min(amount, max(0, self._most - own.counter.total))
        own.counter.add(amount, request.time_ms * _MICRO, run_width_us(rule.window, rule.most))
        self.finding.most = max(self.finding.most, own.counter.total)
        reached = level(rule, own.counter.room(rule.most, 0)).reached
        for number, step in enumerate(reached):
            if number not in own.reached:
                own.reached.add(number)
                name = f"{step.at_permille / 10:g}% {step.do}"
                self.finding.steps.setdefault(name, []).append(request.time_ms)


Price = Callable[[Request, str], int | None]
"""What a request would cost with the tenant's model of a name, in nano-dollars; None: not known."""


def simulate(
    requests: Iterable[Request],
    rules: Mapping[str, Sequence[Rule]],
    price: Price = lambda _request, _model: None,
) -> list[Finding]:
    """Replay requests, which come by rising time, against the rules of each tenant.

    A request that an enforced rule refuses counts for none; rules in shadow mode refuse nothing.
    """
    replays = {tenant: [_Replay(tenant, rule) for rule in own] for tenant, own in rules.items()}
    for request in requests:
        counting = [r for r in replays.get(request.tenant, ()) if r.counts(request)]
        for replay in counting:
            replay.finding.counted += 1
            replay.finding.estimated += request.estimated
        if counting:
            _one(request, counting, price)
    return [replay.finding for own in replays.values() for replay in own]


def _one(request: Request, counting: Sequence[_Replay], price: Price) -> None:
    nano, model = request.nano or 0, None
    levels = [replay.standing(request) for replay in counting]
    refused = False
    for replay, stands in zip(counting, levels, strict=True):
        if stands.cache_only and not stands.block and not request.cached:
            replay.finding.cache_only += 1
            refused = True
        if (stands.degrade.model or stands.degrade.compress) and not request.cached and not stands.cache_only:
            replay.finding.degraded += 1
            model = stands.degrade.model or model
    if model is not None and (cheaper := price(request, model)) is not None:
        nano = cheaper
    amounts = [replay.amount(request, nano) for replay in counting]
    for replay, stands, amount in zip(counting, levels, amounts, strict=True):
        free = request.cached and not amount  # takes nothing of it, so that nothing has to be left
        if not free and (stands.block or replay.full(request, amount)):
            replay.refuse(request)
            refused = refused or replay.rule.mode is Mode.ENFORCE
    if refused:
        return
    for replay, amount in zip(counting, amounts, strict=True):
        replay.charge(request, amount)


def sentence(finding: Finding) -> str:
    """A finding in words: ``initech would have been blocked on 3 days, 214 requests, from 14:10 on``."""
    name = f"{finding.tenant}, {finding.rule.name}"
    if not finding.counted:
        return f"{name}: no request counts"
    if not finding.refusals:
        return f"{name}: nothing blocked of {_requests(finding.counted)}"
    days = sorted(finding.refused.values(), key=lambda day: day.first_ms)
    zone = ZoneInfo(finding.rule.window.timezone)
    first = datetime.fromtimestamp(days[0].first_ms / 1000, zone)
    when = (
        f"from {first:%H:%M} on" if len(days) == 1 else f"the first on {days[0].date} from {first:%H:%M} on"
    )
    would = (
        "would have been blocked"
        if finding.rule.mode is Mode.ENFORCE
        else "(shadow) would be blocked if enforced"
    )
    count = "1 day" if len(days) == 1 else f"{len(days)} days"
    return f"{name}: {would} on {count}, {_requests(finding.refusals)}, {when}"


def _requests(n: int) -> str:
    return "1 request" if n == 1 else f"{n} requests"

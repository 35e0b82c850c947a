"""What a client gets to see of its limits: headers by the names that Kong and OpenAI have, and the refusals.

Sources: kong/plugins/rate-limiting/handler.lua of Kong 3.9.3 (``X-RateLimit-…-Minute``, ``RateLimit-…``),
https://developer.konghq.com/plugins/ai-rate-limiting-advanced/ (``X-AI-RateLimit-Limit-minute-NAME`` …),
https://platform.openai.com/docs/guides/rate-limits (``x-ratelimit-remaining-tokens`` …). In Kong a reset is the end of
the clock's minute, when all requests are free again; here it is the time at which the first of them is, since windows
slide; of a calendar's window it is its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from tenantgate.limits.core.claims import Held
from tenantgate.limits.core.ledger import Refused, Reserved, Room
from tenantgate.limits.core.limit import RATE_LIMIT
from tenantgate.limits.core.rules import Counted, Per, Rule, Window
from tenantgate.llm.errors import Code, ErrorType, error_body
from tenantgate.prices.core.price_list import NANO_PER_DOLLAR

__all__ = ["Shown", "cache_only_refusal", "headers", "reached", "refusal", "shown", "window_word"]

_WHOSE: Final = {
    Per.TENANT: "this account",
    Per.MODEL: "this model",
    Per.KEY: "this API key",
    Per.PROVIDER: "this provider",
    Per.END_USER: "this user",
}
_WORDS: Final = {1: "second", 60: "minute", 3600: "hour", 86_400: "day", 604_800: "week"}
_HELD_S: Final = 3
"""Longest wait for room that requests in flight hold, in seconds: most of them end sooner."""
_TOKENS: Final = (Counted.PROMPT_TOKENS, Counted.COMPLETION_TOKENS, Counted.TOTAL_TOKENS)
_UNITS: Final = {
    Counted.REQUESTS: "requests",
    Counted.PROMPT_TOKENS: "prompt tokens",
    Counted.COMPLETION_TOKENS: "completion tokens",
    Counted.TOTAL_TOKENS: "tokens",
    Counted.BYTES: "bytes",
}


class Shown(NamedTuple):
    """One limit as the client sees it.

    Attributes:
        wait_s: whole seconds, at least 1, until there is more.
    """

    rule: Rule
    remaining: int
    wait_s: int


def shown(held: Held, room: Room, now_ms: int) -> Shown | None:
    """What a client is told of a rule; None for one in shadow mode, of which it needn't know."""
    rule = held.source
    if rule is None or held.claim.shadow:
        return None
    remaining = room.most - room.used - room.held
    # Both are rounded to a millisecond, away from each other.
    wait_s = -(-(room.reset_ms - now_ms - 1) // 1000)
    return Shown(rule, max(0, remaining), max(1, wait_s))


def window_word(window: Window) -> str:
    """``minute``, ``month``, or a length as ``300s``."""
    return window.unit or _WORDS.get(window.sliding_s, f"{window.sliding_s}s")


def reached(held: Sequence[Held], reserved: Reserved) -> Shown | None:
    """Of the limits that refused a request the one that will do so for longest."""
    found = [
        one
        for i in reserved.by
        if i < len(held) and (one := shown(held[i], reserved.rooms[i], reserved.now_ms)) is not None
    ]
    return max(found, key=lambda one: one.wait_s, default=None)


def headers(held: Sequence[Held], reserved: Reserved) -> dict[str, str]:
    """The reply's headers about all limits that count the request; none where there are none.

    Of two limits of one period and kind, as a tenant's and a key's, the one with less left is shown.
    """
    rooms = zip(held, reserved.rooms, strict=False)
    every = [one for h, room in rooms if (one := shown(h, room, reserved.now_ms)) is not None]
    requests, others = list[Shown](), list[Shown]()
    for one in every:
        (requests if one.rule.counted is Counted.REQUESTS else others).append(one)
    out: dict[str, str] = {}
    if requests:
        _put_requests(out, requests, None if reserved.refused is None else reached(held, reserved))
    for one in sorted(others, key=_room, reverse=True):
        limit, remaining, reset = _names(one.rule.name, window_word(one.rule.window))
        out[limit] = _amount(one.rule, one.rule.most)
        out[remaining] = _amount(one.rule, one.remaining)
        out[reset] = str(one.wait_s)
    if any(not one.rule.name.startswith(RATE_LIMIT) for one in every):
        _put_openai(out, "Requests", requests)
        _put_openai(out, "Tokens", [one for one in others if one.rule.counted in _TOKENS])
    if reserved.refused is not None:
        out["Retry-After"] = str(_retry_after(held, reserved))
    return out


def _room(one: Shown) -> tuple[int, int]:
    """By which the limit with the least left comes first."""
    return one.remaining, -one.wait_s


@lru_cache(maxsize=10_000)
def _names(name: str, window: str) -> tuple[str, str, str]:
    tail = f"{window}-{name}"
    return f"X-AI-RateLimit-Limit-{tail}", f"X-AI-RateLimit-Remaining-{tail}", f"X-AI-RateLimit-Reset-{tail}"


def _put_requests(out: dict[str, str], requests: Sequence[Shown], refused: Shown | None) -> None:
    # Kong, too, shows the longer period where as few requests are left.
    rooms = sorted(requests, key=lambda one: (one.remaining, -one.rule.window.sliding_s, -one.wait_s))
    for one in reversed(rooms):
        period = window_word(one.rule.window).title()
        out[f"X-RateLimit-Limit-{period}"] = str(one.rule.most)
        out[f"X-RateLimit-Remaining-{period}"] = str(one.remaining)
    least = refused if refused is not None and refused.rule.counted is Counted.REQUESTS else rooms[0]
    out["RateLimit-Limit"] = str(least.rule.most)
    out["RateLimit-Remaining"] = str(least.remaining)
    out["RateLimit-Reset"] = str(least.wait_s)


def _put_openai(out: dict[str, str], kind: str, found: Sequence[Shown]) -> None:
    if not found:
        return
    least = min(found, key=_room)
    out[f"X-RateLimit-Limit-{kind}"] = str(least.rule.most)
    out[f"X-RateLimit-Remaining-{kind}"] = str(least.remaining)
    out[f"X-RateLimit-Reset-{kind}"] = _duration(least.wait_s)


def refusal(held: Sequence[Held], reserved: Reserved) -> bytes:
    """The body of the answer to a request that a limit refused."""
    found = reached(held, reserved)
    wait_s = _retry_after(held, reserved)
    if found is None:  # a limit that isn't there any more
        message = f"Rate limit reached. Try again in {wait_s} s."
        return error_body(message, kind=ErrorType.RATE_LIMIT, code=Code.RATE_LIMIT_EXCEEDED)
    rule, whose = found.rule, _WHOSE[found.rule.per]
    if rule.budget:
        return _budget_refusal(found, wait_s, held=reserved.refused is Refused.HELD)
    limit = "1 request" if rule.most == 1 and rule.counted is Counted.REQUESTS else _limit(rule)
    message = (
        f"Rate limit reached: {limit} per {window_word(rule.window)} for {whose}. Try again in {wait_s} s."
    )
    kind = ErrorType.TOKENS if rule.counted in _TOKENS else ErrorType.RATE_LIMIT
    return error_body(message, kind=kind, code=Code.RATE_LIMIT_EXCEEDED)


def cache_only_refusal(rule: Rule, wait_s: int) -> bytes:
    """The body of the answer where only the cache may answer, and has nothing."""
    message = (
        f"The budget {rule.name} is nearly used up, so that only stored answers are given, and there is none for this "
        f"request. Try again in {wait_s} s."
    )
    return error_body(message, kind=ErrorType.QUOTA, code=Code.BUDGET_EXHAUSTED)


def _budget_refusal(found: Shown, wait_s: int, *, held: bool) -> bytes:
    rule = found.rule
    if held:
        message = f"Requests in flight hold what is left of the budget {rule.name}. Try again in {wait_s} s."
        return error_body(message, kind=ErrorType.RATE_LIMIT, code=Code.BUDGET_HELD)
    # A smaller request may pass before that.
    what = "is used up" if not found.remaining else "has less left than this request may cost"
    message = (
        f"The budget {rule.name} {what}: {_limit(rule)} per {window_word(rule.window)} for {_WHOSE[rule.per]}. "
        f"It begins anew in {wait_s} s."
    )
    return error_body(message, kind=ErrorType.QUOTA, code=Code.BUDGET_EXHAUSTED)


def _retry_after(held: Sequence[Held], reserved: Reserved) -> int:
    found = reached(held, reserved)
    wait_s = 1 if found is None else found.wait_s
    if reserved.refused is Refused.HELD:
        # Clients that were refused together shouldn't all come back together.
        return min(wait_s, 1 + reserved.now_ms % _HELD_S)
    return wait_s


def _limit(rule: Rule) -> str:
    if rule.counted is Counted.COST:
        return f"${_amount(rule, rule.most)}"
    return f"{rule.most} {_UNITS[rule.counted]}"


def _amount(rule: Rule, amount: int) -> str:
    """A number; dollars of money, with as many digits as it has."""
    if rule.counted is not Counted.COST:
        return str(amount)
    whole, part = divmod(amount, NANO_PER_DOLLAR)
    return f"{whole}.{part:09}".rstrip("0") if part else str(whole)


def _duration(seconds: int) -> str:
    """As OpenAI writes it: ``6m0s``."""
    minutes, left = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{left}s"

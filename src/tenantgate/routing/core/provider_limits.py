"""Limits of providers, as their replies' headers tell them.

Sources: https://platform.openai.com/docs/guides/rate-limits (headers), https://docs.anthropic.com/en/api/rate-limits,
https://learn.microsoft.com/azure/ai-services/openai/how-to/quota, https://console.groq.com/docs/rate-limits; RFC 9110
10.2.3 (Retry-After)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["Allowance", "Limits", "left", "near", "read_limits", "retry_after_s"]

WINDOW_S: Final = 60.0
"""Window of a limit whose reset the provider doesn't tell: limits are for a minute mostly."""

_RESERVE: Final = 0.02  # of a limit: replies on their way have taken from it already
_MOST: Final = 1e15
_MOST_RESET_S: Final = 86_400.0

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

# (remaining, limit, reset) of requests and of tokens.
_REQUESTS: Final = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-limit-requests", "x-ratelimit-reset-requests"),
    (
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-reset",
    ),
)
_TOKENS: Final = (
    ("x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens", "x-ratelimit-reset-tokens"),
    *(
        tuple(f"anthropic-ratelimit-{kind}-{what}" for what in ("remaining", "limit", "reset"))
        for kind in ("tokens", "input-tokens", "output-tokens")
    ),
)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a provider still allows of requests or of tokens.

    Attributes:
        remaining: at `at`.
        limit: of the whole window; None: not told.
        at: when it was told, Unix seconds.
        full_at: when all of `limit` is back.
    """

    remaining: float
    limit: float | None
    at: float
    full_at: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one deployment, as its last reply told them; None: not told."""

    requests: Allowance | None = None
    tokens: Allowance | None = None


def read_limits(headers: Mapping[str, str], now: float) -> Limits:
    """The limits in a reply's headers (names in lower case); the tightest, where several count the same."""
    return Limits(_tightest(headers, _REQUESTS, now), _tightest(headers, _TOKENS, now))


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds for which a reply asks not to be tried again; None where it doesn't."""
    if (milliseconds := _number(headers.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if (seconds := _number(text)) is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)


def left(allowance: Allowance, now: float) -> float:
    """What is left at `now` if nothing was taken since: limits fill up steadily until they are whole."""
    if now >= allowance.full_at:
        return math.inf if allowance.limit is None else allowance.limit
    if allowance.limit is None:
        return allowance.remaining
    span = allowance.full_at - allowance.at
    back = (allowance.limit - allowance.remaining) * max(0.0, now - allowance.at) / span if span > 0 else 0.0
    return min(allowance.limit, allowance.remaining + back)


def near(allowance: Allowance | None, *, needed: float, taken: float, now: float) -> bool:
    """Whether a request that needs so much would come close to the limit.

    Args:
        allowance: as last told; None: nothing is known, so it wouldn't.
        needed: by this request.
        taken: by requests since `allowance.at`, as far as known.
        now: Unix seconds.
    """
    if allowance is None:
        return False
    reserve = 0.0 if allowance.limit is None else _RESERVE * allowance.limit
    return left(allowance, now) - taken - needed < reserve


def _tightest(headers: Mapping[str, str], names: tuple[tuple[str, ...], ...], now: float) -> Allowance | None:
    found = [a for each in names if (a := _allowance(headers, each, now)) is not None]
    return min(found, key=lambda a: (a.remaining / a.limit if a.limit else 1.0, a.remaining), default=None)


def _allowance(headers: Mapping[str, str], names: tuple[str, ...], now: float) -> Allowance | None:
    remaining, limit, reset = (headers.get(name, "") for name in names)
    left_over = _number(remaining)
    if left_over is None:
        return None
    whole = _number(limit)
    if whole is not None and whole < left_over:
        whole = None  # of another window
    reset_s = _reset_s(reset, now)
    return Allowance(left_over, whole or None, now, now + (WINDOW_S if reset_s is None else reset_s))


def _reset_s(text: str, now: float) -> float | None:
    """Seconds to a reset: ``6m0s``, ``20ms``, ``59`` or a time as in RFC 3339."""
    text = text.strip()
    if (seconds := _number(text)) is None:
        parts = _SPAN.findall(text)
        if parts and "".join(n + unit for n, unit in parts) == text:
            seconds = sum(float(n) * _UNITS[unit] for n, unit in parts)
        else:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                return None
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    elif seconds > 1e9:  # a Unix time
        seconds -= now
    return min(max(seconds, 0.0), _MOST_RESET_S)


def _number(text: str) -> float | None:
    try:
        value = float(text) if len(text) <= 32 else math.nan
    except ValueError:
        return None
    return value if 0 <= value <= _MOST else None

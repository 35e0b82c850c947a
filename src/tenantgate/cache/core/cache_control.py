"""What a request's `Cache-Control` asks for (RFC 9111, section 5.2.1), and the names of all outcomes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["BypassReason", "CacheControl", "MissReason", "Status", "may_serve", "may_serve_stale"]


class Status(enum.StrEnum):
    """``X-Cache-Status``, as in Kong's proxy-cache and ai-semantic-cache; `STALE` as in nginx, `COALESCED` is ours."""

    HIT = "Hit"
    MISS = "Miss"
    BYPASS = "Bypass"
    REFRESH = "Refresh"
    COALESCED = "Coalesced"
    STALE = "Stale"


class BypassReason(enum.StrEnum):
    """Why a request went past the cache."""

    NO_TENANT = "no_tenant"
    NOT_CHAT = "not_chat"
    NO_STORE = "no_store"
    SEVERAL_CHOICES = "several_choices"
    BREAKER = "breaker_open"
    REDIS = "redis_failed"
    REFUSED = "redis_refused"
    GUARD = "guard"


class MissReason(enum.StrEnum):
    """Why nothing was served, besides the reasons for which a text isn't compared (`fitness.Unfit`)."""

    NOT_FOUND = ""
    """Nothing is stored that will do."""
    PROBE = "probe"
    """A stored answer would have done; the provider is asked all the same, to compare the two."""
    ONLY_IF_CACHED = "only_if_cached"
    """And the client asked for no other, so the provider isn't asked."""
    CACHE_ONLY = "cache_only"
    """And the operator lets no request through to the provider."""


@dataclass(frozen=True, slots=True)
class CacheControl:
    """A request's directives. Ages are in seconds."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    min_fresh: int = 0

    @classmethod
    def parse(cls, values: tuple[str, ...]) -> CacheControl:
        """From all ``Cache-Control`` lines; unknown directives and malformed numbers count as absent."""
        given: dict[str, str] = {}
        for directive in ",".join(values).split(","):
            name, _, argument = directive.strip().lower().partition("=")
            given.setdefault(name, argument.strip().strip('"'))
        max_age, min_fresh = _seconds(given.get("max-age")), _seconds(given.get("min-fresh"))
        return cls(
            no_store="no-store" in given,
            no_cache="no-cache" in given or max_age == 0,
            only_if_cached="only-if-cached" in given,
            max_age=max_age,
            min_fresh=min_fresh or 0,
        )


def may_serve(control: CacheControl, *, age_s: float, ttl_s: float) -> bool:
    """Whether an entry of this age, with so much time to live, is what the client asked for."""
    if control.max_age is not None and age_s > control.max_age:
        return False
    return ttl_s > 0 and ttl_s >= control.min_fresh


def may_serve_stale(control: CacheControl, *, age_s: float) -> bool:
    """Whether the client would take an entry of this age that has expired, if no other answer is to be had."""
    if control.no_cache or control.only_if_cached or control.min_fresh:
        return False
    return control.max_age is None or age_s <= control.max_age


def _seconds(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 12 else None

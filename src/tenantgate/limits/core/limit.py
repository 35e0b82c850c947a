"""Limits: so many requests in a period, of a tenant, a key or a model."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tenantgate.limits.core.rules import CachedCost, Counted, OnStoreDown, Per, Rule, Window
from tenantgate.rate_limit import RateLimit

__all__ = ["RATE_LIMIT", "Limit", "Period", "Subject", "limits_of", "rate_rules"]

RATE_LIMIT: Final = "rate_limit."
"""How the names of rules begin that are limits on requests of a tenant, a key or a model."""


class Subject(enum.StrEnum):
    """Whose requests a limit counts; within one tenant always."""

    TENANT = "tenant"
    MODEL = "model"
    KEY = "key"


class Period(enum.IntEnum):
    """The length of a limit's window in seconds."""

    SECOND = 1
    MINUTE = 60
    HOUR = 3600
    DAY = 86_400

    @property
    def word(self) -> str:
        """``second``, ``minute``, ``hour`` or ``day``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` requests of `subject` in any `period`; `most` is at least 1."""

    subject: Subject
    period: Period
    most: int


def limits_of(tenant: RateLimit | None, model: RateLimit | None, key: RateLimit | None) -> tuple[Limit, ...]:
    """The limits that count one request: the model's own in place of the tenant's, and the key's always."""
    own = _limits(Subject.TENANT, tenant) if model is None else _limits(Subject.MODEL, model)
    return (*own, *_limits(Subject.KEY, key))


def _limits(subject: Subject, given: RateLimit | None) -> Iterator[Limit]:
    periods = {} if given is None else given.periods
    for period in Period:
        if (most := periods.get(f"per_{period.word}")) is not None:
            yield Limit(subject, period, most)


def rate_rules(
    tenant: RateLimit | None, model: RateLimit | None, key: RateLimit | None, *, closed: bool
) -> tuple[Rule, ...]:
    """The same limits as rules. `closed`: whether requests that can't be counted are refused.

    Their names have a dot, which no limit of the file has.
    """
    return tuple(
        Rule(
            name=f"{RATE_LIMIT}{limit.subject}.{limit.period.word}",
            counted=Counted.REQUESTS,
            most=limit.most,
            window=Window(sliding_s=limit.period.value),
            per=Per(limit.subject.value),
            # A request counts whoever answers it.
            cached=CachedCost.TOKENS,
            on_store_down=OnStoreDown.CLOSED if closed else OnStoreDown.OPEN,
        )
        for limit in limits_of(tenant, model, key)
    )

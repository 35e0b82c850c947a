"""A rate limit as operators write it: in tenants.yaml, and in the configuration of the stage that counts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from tenantgate.fields import COUNT_MAX, config_class, field

__all__ = ["PERIODS", "RateLimit"]

PERIODS: Final = ("per_second", "per_minute", "per_hour", "per_day")
"""The fields of a `RateLimit`, the shortest period first."""


@config_class
class RateLimit:
    """Requests that a tenant may send; at least one period."""

    per_second: int | None = field("Requests per second.", default=None, between=(1, COUNT_MAX))
    per_minute: int | None = field("Requests per minute.", default=None, between=(1, COUNT_MAX))
    per_hour: int | None = field("Requests per hour.", default=None, between=(1, COUNT_MAX))
    per_day: int | None = field("Requests per day.", default=None, between=(1, COUNT_MAX))

    def problems(self) -> Iterator[tuple[str, str]]:
        """One period at least, and no shorter one above a longer one, as Kong's rate-limiting has it."""
        given = [(name, value) for name in PERIODS if (value := getattr(self, name)) is not None]
        if not given:
            yield "", f"needs one of {', '.join(PERIODS)}"
        for (short, few), (long, many) in itertools.pairwise(given):
            if few > many:
                yield long, f"{many} is less than {short} ({few}); it can't be"

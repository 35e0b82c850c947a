"""A rate limit as operators write it: in tenants.yaml, and in the configuration of the stage that counts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tenantgate.fields import COUNT_MAX, config_class, field

__all__ = ["RateLimit"]


@config_class
class RateLimit:
    """Requests that a tenant may send; at least one period."""

    per_second: int | None = field("Requests per second.", default=None, between=(1, COUNT_MAX))
    per_minute: int | None = field("Requests per minute.", default=None, between=(1, COUNT_MAX))
    per_hour: int | None = field("Requests per hour.", default=None, between=(1, COUNT_MAX))
    per_day: int | None = field("Requests per day.", default=None, between=(1, COUNT_MAX))

    @property
    def periods(self) -> dict[str, int]:
        """The periods that are given, by their fields' names, the shortest first."""
        every = {
            "per_second": self.per_second,
            "per_minute": self.per_minute,
            "per_hour": self.per_hour,
            "per_day": self.per_day,
        }
        return {name: most for name, most in every.items() if most is not None}

    def problems(self) -> Iterator[tuple[str, str]]:
        """One period at least, and no shorter one above a longer one, which it would never reach."""
        if not self.periods:
            yield "", "needs one of per_second, per_minute, per_hour, per_day"
        for (short, few), (long, many) in itertools.pairwise(self.periods.items()):
            if few > many:
                yield long, f"{many} is less than {short} ({few}); it can't be"

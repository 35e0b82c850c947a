from __future__ import annotations

import pytest

from tenantgate.limits.core.limit import Limit, Period, Subject, limits_of
from tenantgate.rate_limit import RateLimit

TENANT, MODEL, KEY = RateLimit(per_minute=60), RateLimit(per_second=2, per_day=9), RateLimit(per_hour=30)
OF_TENANT = Limit(Subject.TENANT, Period.MINUTE, 60)
OF_MODEL = [Limit(Subject.MODEL, Period.SECOND, 2), Limit(Subject.MODEL, Period.DAY, 9)]
OF_KEY = Limit(Subject.KEY, Period.HOUR, 30)


@pytest.mark.parametrize(
    ("tenant", "model", "key", "found"),
    [
        (None, None, None, []),
        (TENANT, None, None, [OF_TENANT]),
        (TENANT, MODEL, None, OF_MODEL),
        (TENANT, None, KEY, [OF_TENANT, OF_KEY]),
        (TENANT, MODEL, KEY, [*OF_MODEL, OF_KEY]),
        (None, MODEL, None, OF_MODEL),
        (None, None, KEY, [OF_KEY]),
    ],
)
def test_a_models_limit_stands_in_place_of_the_tenants_and_the_keys_counts_always(
    tenant: RateLimit | None, model: RateLimit | None, key: RateLimit | None, found: list[Limit]
) -> None:
    assert list(limits_of(tenant, model, key)) == found


def test_each_period_of_a_rate_limit_is_one() -> None:
    every = RateLimit(per_second=1, per_minute=2, per_hour=3, per_day=4)
    assert [f"per_{period.word}" for period in Period] == list(every.periods)
    assert [(x.period, x.most) for x in limits_of(every, None, None)] == [
        (1, 1),
        (60, 2),
        (3600, 3),
        (86400, 4),
    ]

from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from tenantgate.limits.core.keys import counter_key
from tenantgate.limits.core.limit import Limit, Period, Subject
from tenantgate.tenant import TenantId

HOSTILE = [
    "a",
    "a:b",
    "a}:key:b",
    "{x}",
    "🙂",
    "x" * 10_000,
    "~",
    "\x00",
    "a\nb",
    "\udc80",
    "acme",
    "tenant",
    "key",
]
LIMITS = [Limit(subject, period, 1) for subject in Subject for period in Period]


def key(tenant: str, limit: Limit, model: str = "m", credential: str | None = "c") -> str:
    return counter_key(TenantId(tenant), limit, model=model, credential=credential)


def test_hostile_tenants_models_and_credentials_stay_apart() -> None:
    found: dict[str, tuple[object, ...]] = {}
    for tenant, name, limit in itertools.product(HOSTILE, ["", *HOSTILE], LIMITS):
        who = tenant, limit, name if limit.subject is not Subject.TENANT else None
        assert found.setdefault(key(tenant, limit, name, name), who) == who
    assert len(found) == len(HOSTILE) * len(Period) * (1 + 2 * (1 + len(HOSTILE)))


@settings(max_examples=30)
@given(st.text(min_size=1), st.text(), st.text())
def test_all_of_a_tenants_keys_are_short_plain_and_of_one_slot(
    tenant: str, model: str, credential: str
) -> None:
    keys = [key(tenant, limit, model, credential) for limit in LIMITS]
    assert all(re.fullmatch(r"tg:limits:1:\{[\w.~-]{1,65}\}:[a-z]+:[\w.~-]{0,65}:[a-z]+", k) for k in keys)
    assert len({key_slot(k.encode()) for k in keys}) == 1


def test_requests_without_a_credential_are_counted_together() -> None:
    limit = Limit(Subject.KEY, Period.DAY, 1)
    assert key("acme", limit, credential=None) == key("acme", limit, credential="")

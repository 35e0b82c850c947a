from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from tenantgate.limits.core.keys import counter_name, raises_key, settled_key, window_key
from tenantgate.limits.core.rules import Counted, Per, Rule, Window
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
MINUTE, MONTH = Window(sliding_s=60), Window(unit="month")
RULES = [
    Rule(name=name, counted=counted, most=1, window=MINUTE, per=per)
    for name in ("a", "a:b", "rate_limit.minute")
    for counted in (Counted.COST, Counted.REQUESTS)
    for per in Per
]


def test_hostile_tenants_and_subjects_stay_apart() -> None:
    found: dict[str, tuple[object, ...]] = {}
    for tenant, subject, rule in itertools.product(HOSTILE, ["", *HOSTILE], RULES):
        key = window_key(TenantId(tenant), counter_name(rule, subject), MINUTE, 0)
        who = tenant, rule, subject if rule.per is not Per.TENANT else None
        assert found.setdefault(key, who) == who
    assert len(found) == len(HOSTILE) * (len(RULES) // len(Per)) * (1 + (len(Per) - 1) * (1 + len(HOSTILE)))


def test_each_window_of_a_calendar_has_a_counter() -> None:
    tenant = TenantId("acme")
    keys = {window_key(tenant, "c", MONTH, start) for start in (0, 1000, 86_400_000)}
    assert (
        len(keys | {window_key(tenant, "c", Window(unit="day"), 0), window_key(tenant, "c", MINUTE, 0)}) == 5
    )
    assert window_key(tenant, "c", MINUTE, 0) == window_key(tenant, "c", Window(sliding_s=5), 9)


@settings(max_examples=30)
@given(st.text(min_size=1), st.text())
def test_all_of_a_tenants_keys_are_short_plain_and_of_one_slot(tenant: str, text: str) -> None:
    who = TenantId(tenant)
    keys = [window_key(who, counter_name(rule, text), MONTH, 86_400_000) for rule in RULES]
    keys += [raises_key(who), settled_key(who, text)]
    assert all(re.fullmatch(r"tg:money:1:\{[\w.~-]{1,65}\}:[a-z]+[\w.:~-]{0,220}", k) for k in keys)
    assert len({key_slot(k.encode()) for k in keys}) == 1

"""What a lookup goes by counts only with the tenant's own MAC."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from tenantgate.cache.core.evidence import BINS, Plan
from tenantgate.cache.core.partition import Keys
from tenantgate.cache.learning import Learning, _authentic, _signed
from tenantgate.store.sealing import TenantSealer
from tenantgate.tenant import TenantId

KEY = "key-of-the-tests-key-of-the-tests"
ACME, GLOBEX = TenantId("acme"), TenantId("globex")
OPEN = Plan(0.2, (0.0,) * BINS, 0.0)
FIRST = Plan(0.9, (0.0,) * BINS, 0.0)


def sealer(tenant: TenantId = ACME, key: str = KEY) -> TenantSealer:
    return TenantSealer(key, tenant)


def learning() -> Learning:
    made = Learning.__new__(Learning)
    made._name, made._first = "m", FIRST
    made._plans, made._repeats = OrderedDict(), OrderedDict()
    return made


def stored(signer: TenantSealer, state: str, field: str = "plan") -> bytes:
    return _signed(signer, state, field, OPEN.to_json()).encode()


def test_a_plan_with_the_tenants_mac_counts() -> None:
    made, keys = learning(), Keys(ACME)
    assert made.plan(keys, sealer(), stored(sealer(), made.state(keys))).threshold == OPEN.threshold


@pytest.mark.parametrize(
    "forgery", ["plain", "another key", "another tenant", "another place", "another field"]
)
def test_a_plan_without_it_counts_for_nothing(forgery: str) -> None:
    made, keys = learning(), Keys(ACME)
    state = made.state(keys)
    forged = {
        "plain": OPEN.to_json().encode(),
        "another key": stored(sealer(key="another key, as long as the true one"), state),
        "another tenant": stored(sealer(GLOBEX), state),
        "another place": stored(sealer(), state + "x"),
        "another field": stored(sealer(), state, "evidence"),
    }[forgery]
    for _ in range(2):
        assert made.plan(keys, sealer(), forged) == FIRST


def test_a_plan_that_counted_for_one_tenant_counts_for_no_other() -> None:
    made = learning()
    mine = stored(sealer(), made.state(Keys(ACME)))
    assert made.plan(Keys(ACME), sealer(), mine).threshold == OPEN.threshold
    assert made.plan(Keys(GLOBEX), sealer(GLOBEX), mine) == FIRST


def test_evidence_that_was_altered_counts_as_none() -> None:
    signed = bytearray(_signed(sealer(), "s", "evidence", "[1, 2]").encode())
    assert _authentic(Keys(ACME), sealer(), "s", "evidence", bytes(signed)) == b"[1, 2]"
    signed[-2] ^= 1
    assert _authentic(Keys(ACME), sealer(), "s", "evidence", bytes(signed)) is None

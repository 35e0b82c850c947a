"""The register of issued keys: states, and what a file may hold."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate import api_keys
from tenantgate.errors import ConfigError
from tenantgate.keys.core.register import IssuedKey, Register, State
from tenantgate.tenant import TenantId

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


def h(number: int) -> str:
    return f"{number:064x}"


@given(st.integers(0, 2**32), st.integers(3, 48), st.sampled_from("0Az9"))
def test_a_key_with_a_character_changed_is_none(seed: int, at: int, other: str) -> None:
    key = api_keys.made(random.Random(seed).randrange)
    assert api_keys.is_issued(key)
    changed = key[:at] + other + key[at + 1 :]
    assert api_keys.is_issued(changed) == (changed == key)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["issue", "rotate", "finish", "revoke", "sweep"]),
            st.sampled_from([ACME, GLOBEX]),
            st.sampled_from(["ci", "app"]),
        ),
        max_size=20,
    )
)
def test_whatever_is_asked_for_in_whatever_order(steps: list[tuple[str, TenantId, str]]) -> None:
    """At most one key of a name is active and one next; what is gone stays gone; a file reads as it was written."""
    found = Register()
    for now, (what, tenant, name) in enumerate(steps):
        before = found
        try:
            if what == "issue":
                found = found.issue(tenant, name, h(now), now=now)
            elif what == "rotate":
                found = found.rotate(tenant, name, h(now), now=now)
            elif what == "finish":
                found = found.finish(tenant, name, until=now + 2)
            elif what == "revoke":
                found = found.revoke(found.of(tenant, name), now=now)
            else:
                found = found.swept(now=now)
        except ConfigError:
            pass
        assert found.by_tenant() == {str(t): keys for t in (ACME, GLOBEX) if (keys := found.of(t))}
        gone = {k.sha256 for k in before.keys if not k.accepted(now)}
        assert not gone & {k.sha256 for k in found.keys if k.accepted(now)}
        assert len(before.keys) <= len(found.keys)
        for of_tenant in (ACME, GLOBEX):
            assert all(k.tenant == of_tenant for k in found.of(of_tenant))
            for of_name in ("ci", "app"):
                states = [k.state for k in found.of(of_tenant, of_name)]
                assert states.count(State.ACTIVE) <= 1
                assert states.count(State.NEXT) <= 1
        again = Register.parsed(found.text(), "keys.json")
        assert sorted(again.keys, key=lambda k: k.sha256) == sorted(found.keys, key=lambda k: k.sha256)


def test_a_rotation_ends_with_the_old_key_gone() -> None:
    one = Register().issue(ACME, "ci", h(1), now=1).rotate(ACME, "ci", h(2), now=2)
    assert [k.state for k in one.of(ACME)] == [State.ACTIVE, State.NEXT]
    two = one.finish(ACME, "ci", until=10)
    assert [(k.state, k.until) for k in two.of(ACME)] == [(State.RETIRING, 10), (State.ACTIVE, None)]
    assert [k.accepted(9.9) for k in two.keys] == [True, True]
    assert [k.accepted(10) for k in two.keys] == [False, True]
    assert [k.sha256 for k in two.swept(now=10).of(ACME)] == [h(2)]


KEY: dict[str, Any] = {"name": "ci", "sha256": h(1), "state": "active", "issued": 1}


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ([], "version"),
        ({"version": 2}, "version"),
        ({"version": 1, "tenants": {"acme": {}}}, "tenants"),
        ({"version": 1, "tenants": {"": [KEY]}}, "id"),
        ({"version": 1, "tenants": {"acme": [{**KEY, "key": "x"}]}}, "nothing else"),
        ({"version": 1, "tenants": {"acme": [{**KEY, "sha256": "AB"}]}}, "acme[0].sha256"),
        ({"version": 1, "tenants": {"acme": [{**KEY, "state": "dead"}]}}, "acme[0].state"),
        ({"version": 1, "tenants": {"acme": [{**KEY, "state": "retiring"}]}}, "acme[0].until"),
        ({"version": 1, "tenants": {"acme": [{**KEY, "issued": True}]}}, "acme[0].issued"),
        ({"version": 1, "tenants": {"acme": [{**KEY, "name": "A b"}]}}, "acme[0].name"),
        ({"version": 1, "tenants": {"acme": [KEY], "globex": [KEY]}}, "twice"),
        ({"version": 1, "tenants": {"acme": [KEY, {**KEY, "sha256": h(2)}]}}, "active twice"),
    ],
)
def test_what_is_no_register(tree: Any, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Register.parsed(json.dumps(tree), "keys.json")
    assert str(raised.value).startswith("keys.json: ")
    assert says in str(raised.value)


def test_a_key_is_never_in_the_register() -> None:
    key = api_keys.made(random.Random(1).randrange)
    made = Register(
        (IssuedKey(tenant=ACME, name="a", sha256=api_keys.digest(key), state=State.ACTIVE, issued=1),)
    )
    assert key not in made.text()

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.policy.core.overlay import Overlay, carried, overlaid, overlay_of, own
from tenantgate.policy.core.records import (
    CATALOG,
    Blocked,
    Catalog,
    ModelPolicy,
    Target,
    TenantPolicy,
    read_record,
    write_catalog,
    write_record,
)
from tenantgate.tenant import TenantId

MODELS = tuple(
    ModelPolicy(
        provider="p",
        model=name,
        route_name=f"llm.p.{name}.acme",
        targets=(Target(provider="openai", name=name, id=f"p/{name}"),),
        fail_closed=closed,
    )
    for name, closed in (("a", False), ("b", True), ("c", False))
)

limits = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["x", "y"]), "limit": st.integers(0, 1000), "count": st.just("requests")},
        optional={
            "on_store_down": st.sampled_from(["open", "closed", "lease"]),
            "mode": st.sampled_from(["enforce", "shadow"]),
            "match": st.just({"models": ["p/a"]}),
        },
    ),
    max_size=3,
).map(tuple)
budgets = st.lists(
    st.fixed_dictionaries({"name": st.just("b"), "max_budget": st.sampled_from([0, 0.1, 1, 123.456789123])}),
    max_size=2,
).map(tuple)
overlays = st.builds(
    Overlay,
    enabled=st.booleans(),
    token_limits=st.none() | limits,
    budgets=st.none() | budgets,
    part=st.sampled_from([1.0, 0.0, 0.333]),
    closed=st.booleans(),
)
policies = st.builds(
    TenantPolicy,
    tenant=st.just(TenantId("acme")),
    models=st.just(MODELS),
    token_limits=limits,
    budgets=budgets,
)


def stored(policy: TenantPolicy) -> TenantPolicy:
    return read_record("acme", write_record(policy))


@given(policies, overlays, overlays)
def test_what_lay_over_a_policy_leaves_no_trace(
    policy: TenantPolicy, first: Overlay, second: Overlay
) -> None:
    once = stored(overlaid(policy, first))
    assert own(once) == policy
    assert write_record(overlaid(once, None)) == write_record(policy)
    assert write_record(overlaid(once, second)) == write_record(overlaid(policy, second))
    assert overlaid(policy, Overlay()) == policy


@given(policies, overlays)
def test_an_overlay_is_read_back_from_the_record(policy: TenantPolicy, overlay: Overlay) -> None:
    made = stored(overlaid(policy, overlay))
    assert (overlay_of(made) or Overlay()) == overlay
    assert made.blocked == (Blocked.STALE if overlay.closed else None) or not overlay.enabled
    assert (made.blocked is Blocked.DISABLED) is (not overlay.enabled)


@given(policies, overlays)
def test_a_list_of_the_platform_stands_in_place_of_the_files(policy: TenantPolicy, overlay: Overlay) -> None:
    made = overlaid(policy, overlay)
    for name, amount in (("token_limits", "limit"), ("budgets", "max_budget")):
        given, found = getattr(overlay, name), getattr(made, name)
        if given is None:
            assert found == getattr(policy, name)
            continue
        assert [v["name"] for v in found] == [v["name"] for v in given]
        for before, after in zip(given, found, strict=True):
            assert after[amount] <= before[amount]
            assert overlay.part < 1 or after == before
            assert after[amount] == 0 or overlay.part > 0


@pytest.mark.parametrize(
    ("values", "part", "left"),
    [
        ({"limit": 100, "count": "requests"}, 0.5, 50),
        ({"limit": 101, "count": "total_tokens"}, 0.5, 50),
        ({"limit": 1, "count": "requests"}, 0.5, 1),
        ({"limit": 1, "count": "requests"}, 0.0, 0),
        ({"limit": 0, "count": "requests"}, 0.5, 0),
        ({"limit": 0.1, "count": "cost"}, 0.333333333333, 0.033333333),
    ],
)
def test_a_tightened_limit_is_rounded_down_but_lets_one_request_pass(
    values: dict[str, Any], part: float, left: float
) -> None:
    policy = TenantPolicy(tenant=TenantId("acme"), models=MODELS)
    (made,) = overlaid(policy, Overlay(token_limits=({"name": "x", **values},), part=part)).token_limits
    assert made["limit"] == left


@given(policies, overlays)
def test_models_are_fail_closed_where_a_limit_may_not_be_passed_by(
    policy: TenantPolicy, overlay: Overlay
) -> None:
    closed = {m.model for m in overlaid(policy, overlay).models if m.fail_closed}
    rules = [
        (value.get("match", {}).get("models"), value.get("on_store_down", default))
        for values, default in ((overlay.token_limits, "open"), (overlay.budgets, "lease"))
        for value in values or ()
        if value.get("mode") != "shadow"
    ]
    named = {m.split("/")[1] for models, down in rules if down != "open" for m in models or ["p/a", "p/c"]}
    assert closed == named | {"b"}


def test_an_apply_carries_what_the_platform_has_laid_over() -> None:
    old, new = (
        TenantPolicy(tenant=TenantId("acme"), models=MODELS, budgets=({"name": "own", "max_budget": n},))
        for n in (1, 2)
    )
    overlay = Overlay(budgets=({"name": "theirs", "max_budget": 7},), enabled=False)
    compiled = {"acme": write_record(new), "new": b"a new tenant's", CATALOG: write_catalog(Catalog())}
    found = carried(compiled, {"acme": write_record(overlaid(old, overlay)), "gone": b"", CATALOG: b""})
    assert found == {**compiled, "acme": write_record(overlaid(new, overlay))}
    made = read_record("acme", found["acme"])
    assert made.budgets[0]["name"] == "theirs"
    assert own(made) == new


def test_a_stored_record_that_cant_be_read_carries_nothing() -> None:
    compiled = {"acme": write_record(TenantPolicy(tenant=TenantId("acme"), models=MODELS))}
    assert carried(compiled, {"acme": b"{"}) == compiled

"""The plan as a table, and the law: whatever was cut off, the next apply ends in the same state."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apply_rig import Fuse, KilledError, MemoryDbless, MemoryKong, MemoryStore, Time
from tenantgate.apply.core.entities import Entity, from_tree, state_of
from tenantgate.apply.core.plan import FORMER, make_plan, removal
from tenantgate.apply.running import Run
from tenantgate.apply.targets import Target
from tenantgate.config import load_text
from tenantgate.config.deck_variables import resolve_tree
from tenantgate.config.render import entities
from tenantgate.errors import ConfigError
from tenantgate.policy.core.ports import PublishNote

Keys = Mapping[str, Mapping[str, str]]
"""By tenant its keys by their placeholder's name."""


def kong_yml(tenants: Keys, *, size: int = 4) -> dict[str, Any]:
    """The configuration of these tenants, with their keys put in."""
    placeholders = {t: [f"'${{{{ env \"DECK_{t}_{n}\" }}}}'" for n in keys] for t, keys in tenants.items()}
    lines = [f"  - id: {t}\n    api_keys: [{', '.join(found)}]" for t, found in placeholders.items()]
    text = f"version: 1\ngateway: {{limits: {{max_request_body_mb: {size}}}}}\ntenants:\n" + "\n".join(lines)
    environ = {f"DECK_{t}_{n}": value for t, keys in tenants.items() for n, value in keys.items()}
    found: dict[str, Any] = resolve_tree(entities(load_text(text)), environ)
    return found


def wanted(tenants: Keys, **more: Any) -> list[Entity]:
    return from_tree(kong_yml(tenants, **more))


def records(tenants: Keys) -> dict[str, bytes]:
    return {t: repr(sorted(keys)).encode() for t, keys in tenants.items()}


def apply(targets: Sequence[Target], store: MemoryStore, tenants: Keys, **more: Any) -> None:
    run = Run(store, targets, clock=Time().clock, say=lambda _line: None, timeout_s=1.0)
    changes = run.changes(records(tenants), wanted(tenants, **more))
    run.apply(changes, lambda: PublishNote(author="a", message="", at=1.0))


def opens(target: Target) -> dict[str, str]:
    """By key the tenant for whom it opens."""
    found = target.read()
    return {
        str(e.fields["key"]): str(found["consumers", str(e.fields["consumer"])].fields["custom_id"])
        for e in found.values()
        if e.kind == "keyauth_credentials"
    }


def expected(tenants: Keys) -> dict[str, str]:
    return {v: t for t, keys in tenants.items() for v in keys.values()}


A1: Keys = {"a": {"K": "k1"}}


def plan(old: Keys, new: Keys) -> dict[str, list[str]]:
    target = MemoryKong(Fuse())
    apply([target], MemoryStore(), old)
    made = make_plan(target.read(), wanted(new), whole=False)
    steps = {"freed": made.freed, "admit": made.admit, "settle": made.settle, "withdraw": made.withdraw}
    return {
        step: [f"key {e.fields['key']}" if e.kind == "keyauth_credentials" else e.name for e in found]
        for step, found in steps.items()
        if found
    }


@pytest.mark.parametrize(
    ("new", "steps"),
    [
        (A1, {}),
        # A tenant that is new: its consumer first, then its key.
        ({**A1, "b": {"K": "k2"}}, {"admit": ["tenant_b", "key k2"]}),
        # A second key, then the first one goes.
        ({"a": {"K": "k1", "N": "k2"}}, {"admit": ["key k2"]}),
        ({"a": {"N": "k1"}}, {}),
        ({"a": {"K": "k2"}}, {"admit": ["key k2"]}),
        ({"a": {"N": "k2"}}, {"admit": ["key k2"], "withdraw": ["key k1"]}),
        # A tenant that is gone takes its keys along.
        ({"b": {"K": "k2"}}, {"admit": ["tenant_b", "key k2"], "withdraw": ["tenant_a"]}),
        # A key that another tenant gets.
        (
            {"a": {"K": "k9"}, "b": {"K": "k1"}},
            {"freed": ["key k1"], "admit": ["tenant_b", "key k9", "key k1"]},
        ),
    ],
)
def test_steps(new: Keys, steps: dict[str, list[str]]) -> None:
    assert plan(A1, new) == steps


def test_the_first_apply_creates_the_service_and_its_plugins_before_the_routes() -> None:
    target = MemoryKong(Fuse())
    apply([target], MemoryStore(), A1)
    kinds = [line.split()[1] for line in target.log]
    assert [k for i, k in enumerate(kinds) if k not in kinds[:i]] == [
        "services",
        "plugins",
        "routes",
        "consumers",
        "keyauth_credentials",
    ]


def test_a_setting_of_the_gateway_changes_its_entities_and_no_others() -> None:
    target = MemoryKong(Fuse())
    apply([target], MemoryStore(), A1)
    made = make_plan(target.read(), wanted(A1, size=7), whole=False)
    assert {e.name for e in made.settle} == {"request-size-limiting", "ai-proxy", "tenantgate"}
    assert (made.admit, made.withdraw) == ((), ())


@pytest.mark.parametrize("change", [{"config": {}}, {"tags": []}, {"config": {"key_names": ["x"]}}])
def test_drift_is_put_right(change: dict[str, Any]) -> None:
    target = MemoryKong(Fuse())
    apply([target], MemoryStore(), A1)
    at = next(at for at, e in target.entities.items() if e.name == "key-auth")
    target.entities[at] = target.entities[at].with_fields(**change)
    made = make_plan(target.read(), wanted(A1), whole=False)
    assert [e.id for e in made.settle] == [at[1]]


def other(kind: str, **fields: Any) -> Entity:
    return Entity(kind=kind, id=f"id-{kind}-{fields.get('name', fields.get('key'))}", fields=fields)


def test_what_isnt_ours_stays() -> None:
    theirs = [
        other("services", name="own", host="h"),
        other("routes", name="own", service="id-services-own"),
        other("consumers", name="x", username="somebody"),
        other("keyauth_credentials", key="s", consumer="id-consumers-x"),
        other("plugins", name="post-function", config={"log": ["return"]}),
    ]
    target = MemoryKong(Fuse(), theirs)
    apply([target], MemoryStore(), A1)
    apply([target], MemoryStore(), {"b": {"K": "k2"}})
    assert all(target.entities[e.kind, e.id] is e for e in theirs)
    assert make_plan(target.read(), wanted(A1), whole=False).notes


def test_what_isnt_ours_stays_in_a_kong_without_a_database_too() -> None:
    tree = {
        "_format_version": "3.0",
        "services": [{"name": "own", "host": "h", "routes": [{"name": "own", "paths": ["/own"]}]}],
        "consumers": [{"username": "somebody", "keyauth_credentials": [{"key": "s"}]}],
        "plugins": [{"name": "post-function", "config": {"log": ["return"]}}],
        "snis": [{"name": "own.example.com", "certificate": "c"}],
        "certificates": [{"id": "c", "cert": "x", "key": "y"}],
    }
    theirs = from_tree(tree)
    target = MemoryDbless(Fuse(), tree)
    for tenants in (A1, {"b": {"K": "k2"}}):
        apply([target], MemoryStore(), tenants)
        found = target.read()
        assert [dict(found[e.kind, e.id].fields) for e in theirs] == [dict(e.fields) for e in theirs]
        assert opens_of_ours(target) == expected(tenants)
        assert make_plan(found, wanted(tenants), whole=True).empty
    # What was attached to a tenant goes with it.
    consumer = next(e for e in target.read().values() if e.kind == "consumers" and e.ours)
    target.tree["plugins"].append({"id": "p", "name": "rate-limiting", "consumer": consumer.id})
    apply([target], MemoryStore(), A1)
    assert ("plugins", "p") not in target.read()


def opens_of_ours(target: Target) -> dict[str, str]:
    found = target.read()
    return {
        str(e.fields["key"]): str(found["consumers", str(e.fields["consumer"])].fields["custom_id"])
        for e in found.values()
        if e.kind == "keyauth_credentials" and e.ours
    }


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("snis", {"name": "llm.example.com", "certificate": "c"}, r"server name \(SNI\) llm.example.com"),
        ("services", {"name": "llm", "host": "shop"}, "service llm"),
        # Not version 0.1's, whose routes have other names.
        ("services", {"name": "llm", "host": "llm.invalid"}, "service llm"),
        ("routes", {"name": "llm.models", "service": "own"}, "route llm.models of service own"),
        ("consumers", {"username": "tenant_a", "custom_id": "x"}, "consumer tenant_a"),
        ("consumers", {"username": "x", "custom_id": "a"}, "consumer x with the custom_id a"),
    ],
)
def test_what_isnt_ours_and_has_a_name_of_ours_is_refused(
    whole: bool, kind: str, fields: dict[str, str], told: str
) -> None:
    theirs = [
        Entity(kind="services", id="own", fields={"name": "own", "host": "h"}),
        Entity(kind="certificates", id="c", fields={"cert": "x", "key": "y"}),
        Entity(kind=kind, id="theirs", fields=fields),
        Entity(
            kind="routes",
            id="r",
            fields={"name": "own", "service": "theirs" if kind == "services" else "own"},
        ),
    ]
    ours: dict[str, Any] = {"tags": ["tenantgate"]}
    made = [
        *wanted(A1),
        Entity(kind="certificates", id="ours", fields={"cert": "a", "key": "b", **ours}),
        Entity(kind="snis", id="sni", fields={"name": "llm.example.com", "certificate": "ours", **ours}),
    ]
    with pytest.raises(ConfigError, match=f"Kong has a {told} that isn't Tenantgate's"):
        make_plan(state_of(theirs), made, whole=whole)


def test_a_key_of_somebody_elses_consumer_is_an_error_that_doesnt_quote_it() -> None:
    theirs = [
        other("consumers", name="x", username="somebody"),
        other("keyauth_credentials", key="k1", consumer="id-consumers-x"),
    ]
    with pytest.raises(ConfigError, match="a key of tenant_a belongs to Kong's consumer x") as caught:
        make_plan(state_of(theirs), wanted(A1), whole=False)
    assert "k1" not in str(caught.value)


def version_0_1() -> list[Entity]:
    """As decK has created it: ids of Kong's, no tags."""
    return [
        other("services", name="llm", host="llm.invalid"),
        other("plugins", name="key-auth", service="id-services-llm", config={}),
        other(
            "routes", name="llm.openai.m.a", service="id-services-llm", paths=["/a/openai/m/chat/completions"]
        ),
        other("plugins", name="ai-proxy", route="id-routes-llm.openai.m.a", config={}),
        Entity(kind="consumers", id="c", fields={"username": "tenant_a", "custom_id": "a"}),
        other("plugins", name="rate-limiting", consumer="c", service="id-services-llm", config={}),
        other("keyauth_credentials", key="k1", consumer="c"),
        other("keyauth_credentials", key="Bearer k1", consumer="c"),
        other("plugins", name="post-function", config={"body_filter": ["tenantgate_error"]}),
    ]


def test_the_routes_of_version_0_1_go_after_ours_are_there_and_its_consumers_stay() -> None:
    target = MemoryKong(Fuse(), version_0_1())
    apply([target], MemoryStore(), A1)
    assert opens(target) == expected(A1)
    assert ("consumers", "c") in target.entities
    assert not any("rate-limiting" in e.name or e.name == FORMER for e in target.entities.values())
    created = max(i for i, line in enumerate(target.log) if line.startswith("put routes"))
    assert (
        created < target.log.index("delete routes llm.openai.m.a") < target.log.index("delete services llm")
    )
    assert make_plan(target.read(), wanted(A1), whole=False).empty


def test_a_tenant_or_key_of_version_0_1_that_is_gone_doesnt_open_any_more() -> None:
    for new in ({"a": {"K": "k2"}}, {"b": {"K": "k2"}}, {"b": {"K": "k1"}}):
        target = MemoryKong(Fuse(), version_0_1())
        apply([target], MemoryStore(), new)
        assert opens(target) == expected(new)


def test_a_whole_configuration_of_version_0_1_is_replaced_in_one_step() -> None:
    target = MemoryDbless(
        Fuse(),
        {
            "_format_version": "3.0",
            "services": [
                {
                    "name": "llm",
                    "url": "https://llm.invalid",
                    "routes": [{"name": "llm.openai.m.a", "paths": ["/a"], "plugins": [{"name": "acl"}]}],
                }
            ],
            "consumers": [
                {
                    "username": "tenant_a",
                    "custom_id": "a",
                    "keyauth_credentials": [{"key": "k1"}, {"key": "Bearer k1"}],
                    "acls": [{"group": "tenant_a"}],
                }
            ],
        },
    )
    both = {**A1, "b": {"K": "k2"}}
    apply([target], MemoryStore(), both)
    assert target.log == ["settle"]
    assert opens(target) == expected(both)
    assert make_plan(target.read(), wanted(both), whole=True).empty


THEIRS = {
    "services": [
        {
            "name": "shop",
            "url": "http://shop.internal",
            "plugins": [{"name": "cors"}],
            "routes": [{"name": "shop", "paths": ["/shop"], "plugins": [{"name": "acl"}]}],
        }
    ],
    "routes": [{"name": "alone", "paths": ["/alone"]}],
    "consumers": [
        {"username": "bob", "plugins": [{"name": "acl"}], "keyauth_credentials": [{"key": "bobs"}]}
    ],
    "plugins": [{"name": "prometheus"}],
}
"""Of others, in a Kong that takes its configuration as a whole."""


def test_what_isnt_ours_stays_in_a_whole_configuration() -> None:
    target = MemoryDbless(Fuse(), {"_format_version": "3.0", **THEIRS})
    theirs = {(e.kind, e.name) for e in from_tree(THEIRS)}
    for tenants in (A1, {**A1, "b": {"K": "k2"}}, {"b": {"K": "k2"}}):
        apply([target], MemoryStore(), tenants)
        there = target.read()
        assert {e.name for e in there.values() if e.ours and e.kind == "consumers"} == {
            f"tenant_{t}" for t in tenants
        }
        assert theirs <= {(e.kind, e.name) for e in there.values() if not e.ours}
        assert make_plan(there, wanted(tenants), whole=True).empty


# -- the law


@st.composite
def tenant_keys(draw: st.DrawFn) -> Keys:
    found = draw(
        st.dictionaries(st.sampled_from("abc"), st.sets(st.sampled_from("KNP"), min_size=1), min_size=1)
    )
    values = draw(st.permutations([f"k{i}" for i in range(9)]))
    rest = iter(values)
    return {t: {n: next(rest) for n in sorted(names)} for t, names in sorted(found.items())}


APPLIES = st.lists(st.tuples(tenant_keys(), st.none() | st.integers(0, 40)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(before=APPLIES, last=tenant_keys(), old=st.booleans())
def test_whatever_was_cut_off_one_whole_apply_ends_in_the_same_state(
    before: list[tuple[Keys, int | None]], last: Keys, old: bool
) -> None:
    fuse = Fuse()
    database, dbless, store = (
        MemoryKong(fuse, version_0_1() if old else ()),
        MemoryDbless(fuse),
        MemoryStore(fuse),
    )
    for tenants, cut in before:
        fuse.left = cut
        try:
            apply([database, dbless], store, tenants)
        except KilledError:
            continue
        finally:
            fuse.left = None
        assert opens(database) == opens(dbless) == expected(tenants)
    apply([database, dbless], store, last)
    assert opens(database) == opens(dbless) == expected(last)
    assert store.content() == records(last)
    for target in (database, dbless):
        assert make_plan(target.read(), wanted(last), whole=target.whole).empty
        others = {e.natural_key[:2] for e in target.read().values() if e.kind in ("services", "routes")}
        assert others == {e.natural_key[:2] for e in wanted(last) if e.kind in ("services", "routes")}


@settings(max_examples=40, deadline=None)
@given(old=tenant_keys(), new=tenant_keys(), cut=st.integers(0, 30))
def test_at_every_step_keys_that_stay_open_and_no_tenants_key_opens_before_its_policy_is_there(
    old: Keys, new: Keys, cut: int
) -> None:
    fuse = Fuse()
    database, dbless, store = MemoryKong(fuse), MemoryDbless(fuse), MemoryStore(fuse)
    apply([database, dbless], store, old)
    staying = dict(expected(old).items() & expected(new).items())
    fuse.left = cut
    with contextlib.suppress(KilledError):
        apply([database, dbless], store, new)
    for target in (database, dbless):
        found = opens(target)
        assert staying.items() <= found.items()
        assert {t for t in found.values() if t in new} <= store.content().keys()


def test_what_serves_a_route_goes_after_all_workers_have_dropped_the_route() -> None:
    target = MemoryKong(Fuse())
    apply([target], MemoryStore(), A1)
    plan = removal(target.read())
    log = target.log = []
    target.withdraw(plan, lambda: log.append("pause"))
    assert not target.entities
    kinds = [line.split()[1] if line != "pause" else line for line in target.log]
    assert [k for i, k in enumerate(kinds) if k not in kinds[:i]] == [
        "consumers",
        "routes",
        "pause",
        "plugins",
        "services",
    ]


def test_an_uninstall_leaves_what_isnt_ours() -> None:
    theirs = [other("services", name="own", host="h"), other("consumers", name="x", username="somebody")]
    target = MemoryKong(Fuse(), theirs)
    apply([target], MemoryStore(), A1)
    target.withdraw(removal(target.read()))
    assert list(target.entities.values()) == theirs

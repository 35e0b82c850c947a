from __future__ import annotations

from typing import Any

import pytest

from tenantgate.apply.core.entities import Entity, from_tree, marked, same, state_of, to_tree

NESTED: dict[str, Any] = {
    "_format_version": "3.0",
    "services": [
        {
            "name": "s",
            "url": "https://h/p",
            "plugins": [{"name": "p1"}],
            "routes": [{"name": "r", "paths": ["/"], "plugins": [{"name": "p2"}]}],
        }
    ],
    "consumers": [
        {
            "username": "u",
            "keyauth_credentials": [{"key": "k"}],
            "plugins": [{"name": "p3"}],
            "acls": [{"group": "g"}],
        }
    ],
    "plugins": [{"name": "p4"}, {"name": "p5", "consumer": "u", "service": "s"}],
}


def ids(entities: list[Entity]) -> dict[str, str]:
    return {e.name: e.id for e in entities}


def test_a_nested_file_is_flat_entities_that_refer_to_each_other_by_id() -> None:
    found = from_tree(NESTED)
    at = ids(found)
    owners = {
        e.name: {o: e.fields[o] for o in ("service", "route", "consumer") if o in e.fields} for e in found
    }
    assert (owners["p1"], owners["r"]) == ({"service": at["s"]}, {"service": at["s"]})
    assert owners["p2"] == {"route": at["r"]}
    assert owners["p3"] == {"consumer": at["u"]}
    assert owners["p4"] == {}
    assert owners["p5"] == {"consumer": at["u"], "service": at["s"]}
    service = next(e for e in found if e.kind == "services").fields
    assert {k: service[k] for k in ("protocol", "host", "port", "path")} == {
        "protocol": "https",
        "host": "h",
        "port": 443,
        "path": "/p",
    }


def test_a_file_of_these_entities_has_the_same_entities() -> None:
    found = from_tree(NESTED)
    again = state_of(from_tree(to_tree(found)))
    assert again.keys() == state_of(found).keys()
    assert all(same(e, again[e.kind, e.id]) for e in found)


def test_no_entity_shows_its_key() -> None:
    (key,) = [e for e in from_tree(NESTED) if e.kind == "keyauth_credentials"]
    assert "'k'" not in repr(key)
    assert key.name == key.id


@pytest.mark.parametrize(
    ("wanted", "current", "holds"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {}, False),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": None}}, True),
        ({"a": None}, {"a": {"b": 1}}, True),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, True),
        ({"a": ["x"]}, {"a": ["x", "y"]}, False),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}, True),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, False),
        ({"a": []}, {"a": {}}, True),
        ({"a": True}, {"a": None}, False),
    ],
)
def test_kong_may_have_more_than_was_given(wanted: Any, current: Any, holds: bool) -> None:
    def entity(fields: Any) -> Entity:
        return Entity(kind="plugins", id="i", fields=fields)

    assert same(entity(wanted), entity(current)) is holds


def test_what_was_taken_out_of_a_setting_shows_in_its_mark_and_no_key_has_one() -> None:
    entity = Entity(kind="plugins", id="i", fields={"name": "p", "config": {"a": 1}, "tags": ["tenantgate"]})
    less = entity.with_fields(config={})
    assert not same(marked(less), marked(entity))
    assert same(marked(entity), marked(entity))
    # Rendered, and not yet applied.
    assert same(marked(entity), entity)
    assert not same(marked(entity), entity.with_fields(config={"a": 2}))
    key = Entity(kind="keyauth_credentials", id="i", fields={"key": "k", "tags": ["tenantgate"]})
    assert marked(key) is key

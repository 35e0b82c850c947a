"""What was changed by hand, by schemas in the form in which Kong's Admin API tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.apply.core.drift import Schemas, changed_fields, drift, strangers
from tenantgate.apply.core.entities import Entity, marked, state_of
from tenantgate.apply.core.plan import make_plan

TEXT = {"type": "string"}
SCHEMAS: Schemas = {
    "plugins/cors": (
        {"id": {"type": "string", "auto": True}},
        {"service": {"type": "foreign"}},
        {"tags": {"type": "set", "elements": TEXT}},
        {"enabled": {"type": "boolean", "default": True}},
        {"protocols": {"type": "set", "elements": TEXT, "default": ["http", "https"]}},
        {
            "config": {
                "type": "record",
                "fields": [
                    {"origins": {"type": "array", "elements": TEXT}},
                    {"max_age": {"type": "number"}},
                    {"credentials": {"type": "boolean", "default": False}},
                    {"headers": {"type": "map", "keys": TEXT, "values": TEXT}},
                    {
                        "redis": {
                            "type": "record",
                            "fields": [{"host": TEXT}, {"port": {"type": "integer", "default": 6379}}],
                        }
                    },
                    {
                        "rules": {
                            "type": "array",
                            "elements": {
                                "type": "record",
                                "fields": [{"name": TEXT}, {"mode": {"type": "string", "default": "alert"}}],
                            },
                        }
                    },
                ],
            }
        },
    )
}
WANTED = marked(
    Entity(
        kind="plugins",
        id="p",
        fields={
            "name": "cors",
            "service": "s",
            "tags": ["tenantgate"],
            "config": {"origins": ["a", "b"], "redis": {"host": "r"}, "rules": [{"name": "x"}]},
        },
    )
)


def in_kong(entity: Entity) -> Entity:
    """As Kong has it: with its defaults."""
    config = {
        "max_age": None,
        "credentials": False,
        "headers": None,
        **entity.fields["config"],
        "redis": {"host": "r", "port": 6379},
        "rules": [{"name": "x", "mode": "alert"}],
    }
    filled: dict[str, Any] = {
        "enabled": True,
        "protocols": ["https", "http"],
        "created_at": 1,
        "config": config,
    }
    return entity.with_fields(**filled)


KONGS = in_kong(WANTED)


def with_config(**fields: Any) -> Mapping[str, Any]:
    return {"config": {**KONGS.fields["config"], **fields}}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({}, []),
        ({"updated_at": 9}, []),
        ({"protocols": ["http", "https"]}, []),
        (with_config(headers={}), []),
        # A field that was applied, and fields that weren't: these must have their defaults.
        (with_config(origins=["a"]), ["config.origins"]),
        (with_config(origins=["b", "a"]), ["config.origins"]),
        (with_config(max_age=3), ["config.max_age"]),
        (with_config(credentials=True), ["config.credentials"]),
        (with_config(headers={"a": "b"}), ["config.headers"]),
        (with_config(redis={"host": "r", "port": 1}), ["config.redis.port"]),
        (with_config(redis=None), ["config.redis.host", "config.redis.port"]),
        (with_config(rules=[{"name": "x", "mode": "block"}]), ["config.rules"]),
        ({"enabled": False, "protocols": ["http"]}, ["enabled", "protocols"]),
        ({"service": None}, ["service"]),
        ({"tags": ["tenantgate"]}, []),  # as `render` writes it, without a mark
        ({"tags": [*WANTED.fields["tags"], "more"]}, ["tags"]),
        ({"tags": []}, ["tags"]),
    ],
)
def test_fields_that_arent_as_they_were_applied(change: dict[str, Any], fields: list[str]) -> None:
    assert changed_fields(WANTED, KONGS.with_fields(**change), SCHEMAS) == fields


def test_without_a_schema_what_was_applied_is_compared() -> None:
    assert changed_fields(WANTED, KONGS.with_fields(enabled=False), {}) == []
    assert changed_fields(WANTED, KONGS.with_fields(**with_config(origins=[])), {}) == ["config"]


CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "max_age": st.none() | st.integers(0, 2),
        "credentials": st.none() | st.booleans(),
        "origins": st.none() | st.lists(st.sampled_from("ab"), max_size=2),
    },
)


@given(CONFIGS)
def test_what_was_put_is_never_drift(config: dict[str, Any]) -> None:
    wanted = marked(WANTED.with_fields(config=config, tags=["tenantgate"]))
    defaults = {"max_age": None, "credentials": False, "origins": None, "redis": {"host": None, "port": 6379}}
    filled = defaults | {name: value for name, value in config.items() if value is not None}
    there = wanted.with_fields(enabled=True, protocols=["http", "https"], config=filled)
    assert changed_fields(wanted, there, SCHEMAS) == []


def test_each_entity_has_a_line_and_no_key_is_told() -> None:
    service = Entity(kind="services", id="s", fields={"name": "llm", "tags": ["tenantgate"]})
    consumer = Entity(kind="consumers", id="c", fields={"username": "tenant_a", "tags": ["tenantgate"]})
    key = Entity(
        kind="keyauth_credentials", id="k", fields={"key": "hidden", "consumer": "c", "tags": ["tenantgate"]}
    )
    route = Entity(kind="routes", id="r", fields={"name": "llm.x", "service": "s", "tags": ["tenantgate"]})
    left = Entity(kind="routes", id="o", fields={"name": "llm.old", "service": "s", "tags": ["tenantgate"]})
    more = Entity(kind="keyauth_credentials", id="m", fields={"key": "hidden-2", "consumer": "c"})
    stranger = Entity(kind="plugins", id="x", fields={"name": "acl", "service": "s"})
    everywhere = Entity(kind="plugins", id="w", fields={"name": "pre-function"})
    elsewhere = Entity(kind="plugins", id="y", fields={"name": "acl", "service": "z"})
    current = state_of(
        [
            marked(service),
            consumer,
            marked(left),
            more,
            stranger,
            elsewhere,
            everywhere,
            in_kong(WANTED).with_fields(enabled=False),
        ]
    )
    wanted = [service, consumer, key, route, WANTED.with_fields(tags=["tenantgate"])]
    plan = make_plan(current, wanted, whole=False, differs=lambda a, b: bool(changed_fields(a, b, SCHEMAS)))
    lines = drift(plan, current, SCHEMAS)
    assert lines == [
        "changed: plugin cors of service llm: enabled",
        "missing: route llm.x",
        "missing: a key of consumer tenant_a",
        "extra: route llm.old",
        "extra: a key of consumer tenant_a",
    ]
    assert strangers(plan, current) == [
        "not ours: plugin acl of service llm",
        "not ours: plugin pre-function of the whole gateway",
    ]
    assert "hidden" not in str(lines)

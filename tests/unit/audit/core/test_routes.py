"""Settings by route and by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.audit.core.join import Arrived
from tenantgate.audit.core.journal import JournalLine, parse_line
from tenantgate.audit.core.routes import Routes
from tenantgate.errors import ConfigError
from tenantgate.tenant import TenantId

KEY = "key-of-the-tests-key-of-the-tests"


def values(**config: Any) -> dict[str, Any]:
    pipeline = {"journal": "/nowhere/journal.jsonl", "state_dir": "/nowhere"}
    return {"encryption_key": KEY, "pipeline": pipeline, **config}


def line(route_id: str = "r1") -> JournalLine:
    parsed = parse_line(json.dumps({"request": {"id": "1"}, "route": {"id": route_id}}).encode())
    assert parsed is not None
    return parsed


def test_a_content_s_own_settings_go_before_those_of_its_route() -> None:
    routes = Routes()
    old, new = routes.add("old", "r1", values()), routes.add("new", "r1", values(redaction="hash"))
    assert routes.of_line(line()) is new
    assert routes.of(line(), None) is new
    assert routes.of(line(), Arrived("old", None)) is old
    assert routes.of(line(), Arrived("never sent", None)) is new
    assert routes.of(line("r2"), Arrived("never sent", None)) is None


def test_settings_of_one_name_are_one() -> None:
    routes = Routes()
    assert routes.add("p", "r1", values()) is routes.add("p", "r2", values())
    assert routes.add("p", "", values()) is routes.of_line(line("r2"))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, True),
        ({"content": "off"}, False),
        ({"content": "off", "headers": ["x-user"]}, True),
        (None, True),
    ],
)
def test_content_is_expected_where_it_may_come(config: dict[str, Any] | None, expected: bool) -> None:
    routes = Routes()
    if config is not None:
        routes.add("p", "r1", values(**config))
    assert routes.expects_content(line()) is expected
    assert not routes.expects_content(None)


def test_a_tenant_s_policy_is_made_once_and_its_own() -> None:
    settings = Routes().add("p", "r1", values())
    one, other = settings.policy(TenantId("acme")), settings.policy(TenantId("globex"))
    assert settings.policy(TenantId("acme")) is one
    assert one.key != other.key
    assert settings.terms(TenantId("acme")).key == one.key


def test_settings_that_cannot_hold_are_refused() -> None:
    with pytest.raises(ConfigError):
        Routes().add("p", "r1", values(content="everything"))

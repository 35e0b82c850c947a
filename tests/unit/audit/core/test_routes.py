"""Settings by route and by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.audit.core.costs import PriceLists
from tenantgate.audit.core.join import Arrived
from tenantgate.audit.core.journal import JournalLine, parse_line
from tenantgate.audit.core.record import Terms
from tenantgate.audit.core.routes import NO_AUDIT, Routes
from tenantgate.errors import ConfigError
from tenantgate.tenant import TenantId

KEY = "key-of-the-tests-key-of-the-tests"


def values(**config: Any) -> dict[str, Any]:
    pipeline = {"journal": "/nowhere/journal.jsonl", "state_dir": "/nowhere"}
    return {"encryption_key": KEY, "pipeline": pipeline, **config}


def line(route_id: str = "r1", *, tenant: str = "acme", policy: str = "") -> JournalLine:
    consumer, notes = {"custom_id": tenant}, {"policy": policy} if policy else {}
    record = {"request": {"id": "1"}, "route": {"id": route_id}, "consumer": consumer, "tenantgate": notes}
    parsed = parse_line(json.dumps(record).encode())
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


def test_a_line_s_own_settings_go_before_its_route_s_and_its_tenant_s() -> None:
    routes = Routes()
    of_route, p, q = (routes.add(n, r, values()) for n, r in (("r", "r1"), ("p", ""), ("q", "")))
    routes.note(line("shared", policy="q"))
    assert routes.of_line(line(policy="p")) is p
    assert routes.of_line(line("shared", policy="p")) is p
    assert routes.of_line(line()) is of_route
    assert routes.of_line(line("shared")) is q
    assert routes.of_line(line("shared", tenant="globex")) is None
    assert routes.of_line(line("other")) is None, "no line of that route has ever named settings"
    assert routes.of_line(line(policy="unknown")) is None, "not the route's: those may allow more"
    assert routes.of(line(policy="p"), Arrived("q", None)) is q


def test_a_tenant_s_last_settings_give_no_prices() -> None:
    routes, priced = Routes(), values(input_cost=1.0, output_cost=2.0, client_ip="keep")
    routes.add("p", "", priced)
    routes.add("r", "r1", priced)
    routes.note(line("shared", policy="p"))
    for known, content in (
        (line(), None),
        (line("shared", policy="p"), None),
        (line("shared"), Arrived("p", None)),
    ):
        terms = routes.terms(known, content)
        usual = terms.prices.usual
        assert usual is not None
        assert (terms.client_ip, usual.periods[0].prices["output"]) == ("keep", 2_000_000_000)
        assert terms.key
    assert routes.terms(line("shared"), None).prices == PriceLists()
    assert routes.terms(line("shared"), None).client_ip == "keep"
    assert routes.terms(line("other"), None) == Terms()


def test_a_tenant_without_an_audit_log_is_known_as_such() -> None:
    routes = Routes()
    routes.add("r", "r1", values())
    routes.note(line("shared", policy=NO_AUDIT))
    assert routes.unaudited(line("shared"))
    assert routes.unaudited(line("shared", policy=NO_AUDIT), Arrived("r", None))
    assert not routes.unaudited(line("shared"), Arrived("r", None))
    assert not routes.unaudited(line("shared", policy="p"))
    assert not routes.unaudited(line())
    assert not routes.unaudited(line("other"))
    assert not routes.expects_content(line("shared"))


def test_what_is_known_of_tenants_outlives_the_process() -> None:
    routes, other = Routes(), Routes()
    routes.note(line("shared", policy="p"))
    routes.note(line("shared", tenant="~unknown", policy="p"))
    routes.note(line("shared", tenant="globex", policy=NO_AUDIT))
    noted = routes.noted
    routes.note(line("shared", policy="p"))
    routes.note(line("shared", tenant="globex"))
    assert routes.noted == noted, "nothing new"
    assert routes.known() == {"routes": ["shared"], "tenants": {"acme": "p", "globex": NO_AUDIT}}
    other.restore(json.loads(json.dumps(routes.known())))
    assert other.unaudited(line("shared", tenant="globex"))
    settings = other.add("p", "", values())
    assert other.of_line(line("shared")) is settings

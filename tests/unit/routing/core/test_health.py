"""Health: whose it is, what a result changes, how it is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tenantgate.policy.core.records import Target
from tenantgate.routing.core.health import (
    Health,
    Latency,
    Result,
    expected_s,
    host_of,
    identity,
    read_health,
    with_result,
    with_uses,
    write_health,
)
from tenantgate.routing.core.provider_limits import Allowance, Limits
from tenantgate.routing.core.share import Use

NOW = 1_800_000_000.0
TARGET = Target(
    provider="openai",
    name="gpt-4o",
    options={"upstream_url": "https://eu.example/v1", "temperature": 0.1, "input_cost": 1.0},
    header_name="Authorization",
    credential="{vault://env/a}",
    id="openai/gpt-4o",
)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"id": "x/y#2", "weight": 7, "context_window": 9, "region": "eu"}, True),
        ({"options": {**TARGET.options, "temperature": 0.9, "input_cost": 5.0, "max_tokens": 4}}, True),
        ({"credential": "{vault://env/b}"}, False),
        ({"name": "gpt-4o-mini"}, False),
        ({"provider": "azure"}, False),
        ({"options": {"upstream_url": "https://us.example/v1"}}, False),
        ({"options": {**TARGET.options, "azure_instance": "x"}}, False),
        ({"options": {**TARGET.options, "an_option_of_tomorrow": 1}}, False),
    ],
)
def test_identity(changes: dict[str, Any], same: bool) -> None:
    assert (identity(replace(TARGET, **changes)) == identity(TARGET)) is same


@pytest.mark.parametrize(
    ("url", "host"),
    [("https://u:p@Eu.example:8443/v1", "eu.example"), ("https://[", ""), (None, ""), (7, "")],
)
def test_host(url: Any, host: str) -> None:
    assert host_of(replace(TARGET, options={"upstream_url": url})) == host


def test_latency_is_of_answers_alone_and_by_kind() -> None:
    health = with_result(Health(), Result("http_500", NOW, first_byte_s=0.001))
    assert (health.streamed, health.whole) == (Latency(), Latency())
    health = with_result(health, Result("ok", NOW, first_byte_s=0.4, streamed=True))
    health = with_result(health, Result("ok", NOW + 1, first_byte_s=0.8, streamed=True))
    assert health.streamed == Latency(pytest.approx(0.5), NOW + 1)
    assert health.whole == Latency()


def test_an_old_latency_fades_so_that_the_target_is_asked_again() -> None:
    latency = Latency(1.0, NOW)
    assert expected_s(latency, NOW + 5) == 1.0
    assert 0.3 < expected_s(latency, NOW + 70) < 0.4
    assert expected_s(Latency(), NOW) == 0.0


def test_the_newest_limits_hold() -> None:
    new, old = Allowance(5, 10, NOW, NOW + 60), Allowance(9, 10, NOW - 1, NOW + 60)
    health = with_result(Health(), Result("ok", NOW, limits=Limits(new)))
    assert with_result(health, Result("ok", NOW, limits=Limits(old))).limits == Limits(new)
    assert with_result(health, Result("ok", NOW)).limits == Limits(new)


def test_it_survives_being_stored() -> None:
    limits = Limits(Allowance(5, None, NOW, NOW + 60), Allowance(1, 2, NOW, NOW + 1))
    health = with_result(Health(), Result("http_429", NOW, limits=limits, wait_s=3.0, jitter=0.5))
    health = with_uses(health, {"acme": Use(50, 1, 2)}, NOW)
    health = with_result(health, Result("ok", NOW, first_byte_s=0.2))
    assert read_health(write_health(health, {"provider": "openai"})) == (health, {"provider": "openai"})


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"about":{},"uses":{}}'])
def test_what_was_never_stored(raw: bytes) -> None:
    assert read_health(raw) is None

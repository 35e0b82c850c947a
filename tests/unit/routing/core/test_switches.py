"""Switches: what they concern, and which one holds."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.errors import ConfigError
from tenantgate.routing.core.switches import Switch, drained_by, read_switch

NOW = 1000.0


def switch(scope: str = "openai", drained: bool = True, at: float = 1.0, **more: Any) -> Switch:
    values: dict[str, Any] = {"reason": "outage", "by": "ann", "created": at}
    return Switch(scope=scope, drained=drained, **{**values, **more})


@pytest.mark.parametrize(
    ("scope", "target", "concerned"),
    [
        ("openai", "openai/gpt-4o", True),
        ("openai", "openai/gpt-4o#2", True),
        ("openai/gpt-4o", "openai/gpt-4o#2", True),
        ("openai/gpt-4o#2", "openai/gpt-4o#2", True),
        ("openai/gpt-4o#2", "openai/gpt-4o", False),
        ("openai/gpt-4o", "openai/gpt-4o-mini", False),
        ("openai", "openai-eu/gpt-4o", False),
        ("open", "openai/gpt-4o", False),
        ("groq/meta", "groq/meta/llama", True),
        ("OpenAI", "openai/gpt-4o", False),
        ("all", "openai/gpt-4o", True),
        ("all", "groq/meta/llama#2", True),
        ("openai", "all", False),
    ],
)
def test_scopes(scope: str, target: str, concerned: bool) -> None:
    assert (drained_by([switch(scope)], "acme", target, NOW) is not None) is concerned


@pytest.mark.parametrize(
    ("switches", "drained"),
    [
        ([], False),
        ([switch(), switch(drained=False, at=2)], False),
        ([switch(at=3), switch(drained=False, at=2)], True),
        ([switch(), switch("openai/gpt-4o", drained=False, at=2)], False),
        ([switch("openai/gpt-4o"), switch(drained=False, at=2)], False),
        ([switch(until=500.0)], False),
        ([switch(until=1500.0)], True),
        ([switch(tenant="acme")], True),
        ([switch(tenant="globex")], False),
        ([switch(tenant="acme"), switch(drained=False, at=2)], False),
        ([switch(), switch(drained=False, at=2, tenant="globex")], True),
        ([switch(drained=False), switch()], True),  # at the same moment
    ],
)
def test_the_last_word_holds(switches: list[Switch], drained: bool) -> None:
    assert (drained_by(switches, "acme", "openai/gpt-4o", NOW) is not None) is drained


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scope": " "}, "target"),
        ({"scope": "a\nb"}, "target"),
        ({"reason": ""}, "--reason"),
        ({"reason": "x" * 501}, "--reason"),
        ({"by": ""}, "--by"),
        ({"until": 1.0}, "--until"),
    ],
)
def test_what_is_no_switch(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        switch(**changes)


def test_it_survives_being_stored() -> None:
    made = switch(tenant="\u00fc", until=9.5)
    assert read_switch(made.to_json()) == made


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"scope":"a"}', switch().to_json().replace("1.0", "NaN")]
)
def test_what_was_never_stored(text: str) -> None:
    assert read_switch(text) is None

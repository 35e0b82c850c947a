from __future__ import annotations

import pytest

from tenantgate.config import diff, load, render
from tenantgate.config.scripts import WITHOUT_PAYLOAD
from tenantgate.errors import ConfigError

from support import ROOT

RENDERED = render(load(ROOT / "tenants.yaml"))


def compare(old: str, new: str) -> list[str]:
    return diff.compare(diff.parse(old, name="old"), diff.parse(new, name="new"))


def test_nothing_changes_nothing() -> None:
    assert compare(RENDERED, RENDERED) == []
    assert diff.unified(RENDERED, RENDERED, name="kong.yml") == []


def test_a_changed_field_is_named_with_both_values() -> None:
    changed = RENDERED.replace("allowed_payload_size: 4\n", "allowed_payload_size: 5\n")
    scope = "request-size-limiting of service llm"
    assert compare(RENDERED, changed) == [f"~ {scope}: config.allowed_payload_size: 4 -> 5"]


def test_a_new_tenant_and_a_gone_one() -> None:
    there = compare("_format_version: '3.0'\n", RENDERED)
    back = compare(RENDERED, "_format_version: '3.0'\n")
    assert "+ consumer tenant_acme" in there
    assert "+ route llm.chat-completions" in there
    assert [line.replace("-", "+", 1) for line in back] == there


def test_secrets_are_never_shown() -> None:
    old = RENDERED.replace("{vault://env/TENANTGATE_CACHE_KEY}", "sk-secret").replace(
        'DECK_ACME_API_KEY"', 'X"'
    )
    lines = compare(old, RENDERED)
    assert any("encryption_key: changed" in line for line in lines)
    assert any("keyauth_credentials: 1 added, 1 removed" in line for line in lines)
    assert "secret" not in "".join(lines)


def test_routes_may_stand_at_the_top() -> None:
    nested = "services: [{name: s, routes: [{name: r, paths: [/a]}]}]"
    flat = "services: [{name: s}]\nroutes: [{name: r, service: s, paths: [/b]}]"
    assert compare(nested, flat) == ["~ route r: paths: 1 added, 1 removed"]


@pytest.mark.parametrize("text", ["[", "- a", "services: {a: 1}", "services: [1]"])
def test_what_is_not_a_kong_yml(text: str) -> None:
    with pytest.raises(ConfigError):
        compare(text, RENDERED)


@pytest.mark.parametrize(
    ("more", "leaks"),
    [
        ("- {name: http-log, config: {http_endpoint: x}}", 1),
        ("- {name: syslog, config: {}}", 1),
        ("- {name: file-log, config: {}, service: llm}", 1),
        ("- {name: file-log, config: {}, route: llm.by-path}", 1),
        ("- {name: file-log, config: {}, route: other}", 0),
        ("- {name: file-log, config: {}, service: other}", 0),
        ("- {name: prometheus, config: {}}", 0),
        ("- {name: tenant-audit-log, config: {}, route: llm.by-path}", 0),
        (f"- {{name: http-log, config: {{custom_fields_by_lua: {dict(WITHOUT_PAYLOAD)}}}}}", 0),
    ],
)
def test_log_plugins_that_would_write_prompts_are_found(more: str, leaks: int) -> None:
    text = RENDERED.replace("\nplugins:\n", f"\nplugins:\n  {more}\n")
    assert more in text
    assert len(diff.payload_leaks(diff.parse(text, name="kong.yml"))) == leaks

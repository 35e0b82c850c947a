from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tenantgate import features, fields
from tenantgate.config import docs
from tenantgate.errors import ConfigError
from tenantgate.guard.config import PatternConfig, RuleConfig, WebhookConfig
from tenantgate.manifest import resolve

from support import ROOT

FOLDER = ROOT / "docs"


def test_the_generated_parts_of_the_documentation_are_in_step() -> None:
    for path, text in docs.generated(FOLDER).items():
        assert path.read_text("utf-8") == text, f"{path}: run tenantgate docs"


def test_a_text_without_the_place() -> None:
    with pytest.raises(ConfigError, match="no place for fields"):
        docs.insert("nothing", "fields", "table")


def test_a_page_has_the_fields_of_inner_mappings_too() -> None:
    page = docs.read(FOLDER / "plugins" / "tenant-guardrails.md")
    for title, cls in (
        ("rules[]", RuleConfig),
        ("rules[].patterns[]", PatternConfig),
        ("webhook", WebhookConfig),
    ):
        assert f"\n`{title}`:\n\n{docs.field_table(fields.fields_of(cls))}" in page
    assert "\n### `gateway.audit.sinks[]`\n" in docs.tables()


CLOSED = [plugin for plugin in features.plugins() if plugin.closing]


@pytest.mark.parametrize("plugin", CLOSED, ids=lambda plugin: plugin.name)
def test_a_page_shows_the_lua_that_refuses_what_a_dead_plugin_did_not_let_pass(plugin: Any) -> None:
    page = docs.read(FOLDER / "plugins" / f"{plugin.name}.md")
    (kong_yml,) = re.findall(r"^```yaml\n(_format_version.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (route,) = yaml.safe_load(kong_yml)["services"][0]["routes"]
    (shown,) = [p["config"] for p in route["plugins"] if p["name"] == "post-function"]
    for phase, code in plugin.closing.items():
        assert " ".join(resolve(code).split()) in [" ".join(text.split()) for text in shown[phase]]

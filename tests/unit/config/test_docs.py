from __future__ import annotations

import pytest

from tenantgate import fields
from tenantgate.config import docs
from tenantgate.errors import ConfigError
from tenantgate.guard.config import PatternConfig, RuleConfig, WebhookConfig

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

from __future__ import annotations

import pytest

from tenantgate.config import docs
from tenantgate.errors import ConfigError

from support import ROOT

PAGE = ROOT / "docs/configuration.md"


def test_the_tables_in_the_documentation_are_in_step() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == docs.insert(text, "fields", docs.tables()), "run: tenantgate docs"


def test_a_text_without_the_place() -> None:
    with pytest.raises(ConfigError, match="no place for fields"):
        docs.insert("nothing", "fields", "table")

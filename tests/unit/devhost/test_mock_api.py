"""The mock API's document, of which the end-to-end tests' tenants have a copy."""

from __future__ import annotations

import json

from tenantgate.devhost.mock_api import document

from support import ROOT


def test_the_copy_is_the_document() -> None:
    assert json.loads((ROOT / "tests/e2e/mock_api.json").read_text("utf-8")) == document("http://127.0.0.1:9")

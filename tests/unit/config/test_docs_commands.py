from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tenantgate import cli
from tenantgate.config import docs_commands

from support import ROOT

DOCS = ROOT / "docs"


def test_the_documentation_is_in_step() -> None:
    for path, text in docs_commands.generated(DOCS).items():
        assert path.read_text("utf-8") == text, "run: tenantgate docs"


def test_what_is_out_of_date_is_found_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(DOCS, docs)
    page = docs / "plugins" / "tenant-semantic-cache.md"
    head, found, _ = page.read_text("utf-8").partition("<!-- fields -->\n")
    page.write_text(f"{head}{found}old\n<!-- /fields -->\nafter\n", "utf-8")
    (docs / "tenants.schema.json").unlink()
    assert cli.main(["docs", "--docs", str(docs), "--check"]) == 1
    err = capsys.readouterr().err
    assert str(page) in err
    assert "tenants.schema.json" in err
    assert "old" in page.read_text("utf-8")

    assert cli.main(["docs", "--docs", str(docs)]) == 0
    text = page.read_text("utf-8")
    assert "| `cache_ttl` |" in text
    assert "| `timeout_ms` |" in text
    assert text.endswith("<!-- /fields -->\nafter\n")
    assert cli.main(["docs", "--docs", str(docs), "--check"]) == 0


def test_a_page_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["docs", "--docs", str(tmp_path)]) == 2
    assert "configuration.md: can't be read" in capsys.readouterr().err

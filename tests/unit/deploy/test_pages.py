"""Pages of the documentation that name files and tests of the project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tenantgate.config import load_text, render

from support import ROOT

FACTS: Final = ROOT / "docs" / "kong-facts.md"
PAGES: Final = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)


def named_tests() -> list[tuple[str, str]]:
    """File and function of each test that the page of facts names; ``::name`` is in the file before it."""
    found, file = [], ""
    for path, name in re.findall(r"`([a-z0-9_/.]*)::([a-z0-9_]+)`", FACTS.read_text("utf-8")):
        file = path or file
        found.append((file, name))
    return found


def test_each_fact_about_kong_names_a_test_that_is_there() -> None:
    assert len(named_tests()) >= 20
    for file, name in named_tests():
        text = (ROOT / "tests" / file).read_text("utf-8")
        assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not target.startswith(("http:", "https:", "#", "mailto:")):
            assert (page.parent / target.split("#")[0]).exists(), target


def configurations() -> list[tuple[str, str]]:
    """Each YAML of a page that is a whole tenants.yaml."""
    return [
        (str(page.relative_to(ROOT)), block)
        for page in PAGES
        for block in re.findall(r"```yaml\n(version: 1.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]


def test_every_configuration_of_a_page_can_be_rendered() -> None:
    pages = [page for page, _ in configurations()]
    assert "README.md" in pages
    for page, text in configurations():
        assert render(load_text(text, name=page)), page

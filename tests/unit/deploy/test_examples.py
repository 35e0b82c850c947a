"""Each set-up in examples/ is valid, renders, and compiles to policies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantgate.config import load, render
from tenantgate.config.compile import CompileOptions, compile_records
from tenantgate.config.documents import documents

from support import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*/tenants.yaml"))


def name(example: Path) -> str:
    return example.parent.name


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_example_is_valid_and_renders(example: Path) -> None:
    file = load(example)
    assert "key-auth" in render(file)
    read = documents(file, example.parent)
    assert len(compile_records(file, CompileOptions(documents=read))) >= len(file.tenants)


def test_the_page_of_examples_names_each() -> None:
    page = (ROOT / "examples" / "README.md").read_text("utf-8")
    assert len(EXAMPLES) >= 5
    for example in EXAMPLES:
        assert f"]({name(example)}/tenants.yaml)" in page

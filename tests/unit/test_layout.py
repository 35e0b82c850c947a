"""The unit tests mirror the package: where the tests of a module are needs no search."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from support import ROOT

UNIT: Final = ROOT / "tests" / "unit"
PACKAGE: Final = ROOT / "src" / "tenantgate"

OUTSIDE: Final = {"benchmarks", "deploy", "plugins", "training"}
"""Folders for the project's folders of the same name, which are no part of the package."""

ACROSS: Final = {"test_layout.py", "test_linear_stages.py", "test_requirements.py"}
"""Tests of the project as a whole."""

FILES: Final = sorted(path.relative_to(UNIT) for path in UNIT.rglob("test_*.py"))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_file_is_named_for_a_module(path: Path) -> None:
    """`tests/unit/cache/core/test_judge_choose.py` tests `tenantgate.cache.core.judge`, `test_core.py` the package."""
    if path.parts[0] in OUTSIDE or str(path) in ACROSS:
        return
    folder = PACKAGE / path.parent
    assert folder.is_dir(), f"no package {path.parent}"
    name = path.stem.removeprefix("test_")
    modules = {module.stem for module in folder.glob("*.py")} | {folder.name}
    assert any(f"{name}_".startswith(f"{module}_") for module in modules), f"no module of {path}"

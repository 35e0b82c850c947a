"""However costly a text is, its search stops often enough for others to have their turn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tenantgate.bench.hostile import TEXTS
from tenantgate.checkpoints import checked_by
from tenantgate.guard.config import RuleConfig
from tenantgate.guard.core.detectors import detector
from tenantgate.guard.models import PARTS

SIZE = 6000
MOST = 5000
"""Lines of Python between two checkpoints: some milliseconds."""


def longest(run: Callable[[str], object], text: str) -> int:
    """The most lines of Python that run between two checkpoints."""
    lines = most = 0

    def check() -> None:
        nonlocal lines, most
        lines, most = 0, max(most, lines)

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    with checked_by(check):
        sys.settrace(trace)
        try:
            run(text)
        finally:
            sys.settrace(before)
    return max(most, lines)


@pytest.mark.parametrize("name", ["personal_data", "secrets"])
@pytest.mark.parametrize(
    "family",
    ["dashed digits", "spaced digits", "iban heads", "addresses", "assignments", "full width", "tags"],
)
def test_others_have_their_turn(name: str, family: str) -> None:
    find = detector(RuleConfig(name="r", detector=name), PARTS)
    assert longest(find, TEXTS[family](SIZE)) <= MOST


def test_a_loop_without_a_checkpoint_is_seen() -> None:
    def loop(text: str) -> None:
        for _ in text:
            pass

    assert longest(loop, "a" * 2 * MOST) > MOST

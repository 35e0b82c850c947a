"""Detectors read a text as its reader would."""

from __future__ import annotations

import pytest

from tenantgate.guard.core.detectors import as_it_reads
from tenantgate.pii.core import find_personal


@pytest.mark.parametrize("char", ["\0", "\b", "\x1b", "\x7f", "\xad", "\u200b", "\ufeff"])
def test_what_shows_as_nothing_hides_nothing(char: str) -> None:
    (found,) = as_it_reads(find_personal)(f"mail jane@exam{char}ple.com now")
    assert (found.start, found.end) == (5, 22)

"""The file spool's segments, as another process reads them."""

from __future__ import annotations

from pathlib import Path

from tenantgate.audit.segments import stored


def test_a_spool_without_segments_has_no_entries(tmp_path: Path) -> None:
    assert list(stored(tmp_path)) == []
    assert list(stored(tmp_path / "missing")) == []

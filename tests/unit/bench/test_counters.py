"""Readings of metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantgate.bench import counters

TEXT = """# HELP tenantgate_pdk_calls_total Calls
# TYPE tenantgate_pdk_calls_total counter
tenantgate_pdk_calls_total{plugin="cache",phase="access"} 12
tenantgate_pdk_calls_total{plugin="cache",phase="log"} 3
tenantgate_stage_seconds_bucket{stage="a \\"b\\"",le="+Inf"} 4
tenantgate_ready 1
"""


@pytest.fixture
def series() -> counters.Series:
    return counters.parse(TEXT)


def test_series_are_added_up_by_the_labels_that_are_named(series: counters.Series) -> None:
    assert counters.total(series, "tenantgate_pdk_calls_total") == 15
    assert counters.total(series, "tenantgate_pdk_calls_total", phase="log") == 3
    assert counters.total(series, "tenantgate_ready") == 1
    assert counters.total(series, "nothing") == 0


def test_the_difference_has_only_what_changed(series: counters.Series) -> None:
    later = counters.parse(TEXT.replace(" 12\n", " 20\n"))
    change = counters.difference(series, later)
    assert list(change.values()) == [8]


def test_quotes_in_labels_are_read(series: counters.Series) -> None:
    assert any("b" in dict(labels).get("stage", "") for _, labels in series)


def test_nobody_at_the_socket_gives_no_metrics(tmp_path: Path) -> None:
    assert counters.metrics_of(tmp_path / "none.socket") == {}

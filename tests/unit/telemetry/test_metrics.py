"""Prometheus text exposition."""

from __future__ import annotations

import pytest

from tenantgate.telemetry import metrics


def test_text_format() -> None:
    counter = metrics.Counter("c_total", "Counts\nthings.", ("kind",))
    counter.inc(kind='a"b\\c\nd')
    counter.inc(2.5, kind="z")
    gauge = metrics.Gauge("g", "A gauge.")
    gauge.set(3)
    histogram = metrics.Histogram("h", "Times.", buckets=(0.1, 1))
    for value in (0.1, 0.5, 7):
        histogram.observe(value)
    assert "\n".join([*counter.lines(), *gauge.lines(), *histogram.lines()]) == (
        "# HELP c_total Counts\\nthings.\n"
        "# TYPE c_total counter\n"
        'c_total{kind="a\\"b\\\\c\\nd"} 1\n'
        'c_total{kind="z"} 2.5\n'
        "# HELP g A gauge.\n"
        "# TYPE g gauge\n"
        "g 3\n"
        "# HELP h Times.\n"
        "# TYPE h histogram\n"
        'h_bucket{le="0.1"} 1\n'
        'h_bucket{le="1"} 2\n'
        'h_bucket{le="+Inf"} 3\n'
        "h_sum 7.6\n"
        "h_count 3"
    )
    assert (counter.value(kind="z"), histogram.count()) == (2.5, 3)


def test_a_metric_has_one_declaration() -> None:
    first = metrics.counter("test_once_total", "Once.", ("a",))
    assert metrics.counter("test_once_total", "Once.", ("a",)) is first
    with pytest.raises(ValueError, match="differently"):
        metrics.counter("test_once_total", "Once.", ("b",))
    with pytest.raises(ValueError, match="differently"):
        metrics.gauge("test_once_total", "Once.", ("a",))
    assert "# TYPE test_once_total counter" in metrics.exposition()


def test_series_are_bounded() -> None:
    counter = metrics.Counter("c_total", "Counts.", ("kind",))
    for number in range(metrics.MAX_SERIES + 5):
        counter.inc(kind=str(number))
    assert counter.value(kind="other") == 5

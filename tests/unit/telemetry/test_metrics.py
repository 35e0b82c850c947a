"""Prometheus text exposition."""

from __future__ import annotations

import json

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


def process(counted: float, level: float, kinds: list[str]) -> metrics.Snapshot:
    counter = metrics.Counter("c_total", "Counts.", ("kind",))
    for kind in kinds:
        counter.inc(counted, kind=kind)
    total = metrics.Gauge("open", "Open ones.", total=True)
    total.set(level)
    largest = metrics.Gauge("ready", "Ready.")
    largest.set(level)
    histogram = metrics.Histogram("h", "Times.", buckets=(0.1, 1))
    histogram.observe(counted)
    return json.loads(json.dumps([m.snapshot() for m in (counter, total, largest, histogram)]))


def test_processes_together() -> None:
    running = [process(0.5, 3, ["a"]), process(2, -1, ["a", "b"])]
    text = metrics.text(metrics.together(running, [process(0.05, 100, ["a"])]))
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'c_total{kind="a"} 2.55',
        'c_total{kind="b"} 2',
        'h_bucket{le="0.1"} 1',
        'h_bucket{le="1"} 2',
        'h_bucket{le="+Inf"} 3',
        "h_sum 2.55",
        "h_count 3",
        "open 2",
        "ready 3",
    ]


def test_one_process_together_is_itself() -> None:
    alone = process(0.5, -3, ["a"])
    by_name = sorted(alone, key=lambda entry: entry["declared"][0])
    assert json.loads(json.dumps(metrics.together([alone]))) == by_name
    assert metrics.text(by_name) == metrics.text(metrics.together([alone]))


def test_series_of_many_processes_are_bounded() -> None:
    several = [process(1, 1, [f"{n} {k}" for k in range(metrics.MAX_SERIES)]) for n in range(3)]
    text = metrics.text(metrics.together(several))
    assert text.count("c_total{") == metrics.MAX_SERIES + 1
    assert f'c_total{{kind="other"}} {2 * metrics.MAX_SERIES}' in text


def test_a_metric_that_processes_declare_differently_is_the_first_one_s() -> None:
    other = metrics.Counter("c_total", "Counts.", ("other",))
    other.inc(other="x")
    text = metrics.text(metrics.together([process(1, 1, ["a"]), [other.snapshot()]]))
    assert 'c_total{kind="a"} 1' in text
    assert "other" not in text

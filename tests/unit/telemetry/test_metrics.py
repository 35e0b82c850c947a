"""Prometheus text exposition."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.telemetry import metrics
from tenantgate.telemetry.tenants import Tenants


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
    return told(counter, total, largest, histogram)


def told(*declared: metrics.Counter | metrics.Histogram) -> metrics.Snapshot:
    """The metrics as another process gets them."""
    return json.loads(json.dumps([m.snapshot() for m in declared]))


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


# -- OpenMetrics ---------------------------------------------------------------------------------------------


def test_openmetrics_has_exemplars_and_its_own_names_of_counters() -> None:
    counter = metrics.Counter("c_total", 'Counts "things".', ("kind",))
    counter.inc(kind="a")
    odd = metrics.Counter("size_bytes", "Bytes.")
    histogram = metrics.Histogram("h", "Times.", ("tenant",), buckets=(0.1, 1))
    histogram.observe(0.05, tenant="acme")
    histogram.observe(0.5, tenant="acme", trace_id="a" * 32)
    histogram.observe(0.75, tenant="acme", trace_id="b" * 32)
    text = metrics.text(told(counter, odd, histogram), openmetrics=True)
    assert re.sub(r"\d{10}\.\d{3}$", "NOW", text, flags=re.MULTILINE) == (
        '# HELP c Counts \\"things\\".\n'
        "# TYPE c counter\n"
        'c_total{kind="a"} 1\n'
        "# HELP size_bytes Bytes.\n"
        "# TYPE size_bytes unknown\n"
        "size_bytes 0\n"
        "# HELP h Times.\n"
        "# TYPE h histogram\n"
        'h_bucket{tenant="acme",le="0.1"} 1\n'
        f'h_bucket{{tenant="acme",le="1.0"}} 3 # {{trace_id="{"b" * 32}"}} 0.75 NOW\n'
        'h_bucket{tenant="acme",le="+Inf"} 3\n'
        'h_sum{tenant="acme"} 1.3\n'
        'h_count{tenant="acme"} 3\n'
        "# EOF\n"
    )
    assert "# {" not in metrics.text(told(histogram))


def test_of_several_processes_the_latest_exemplar_is_told() -> None:
    snapshots = []
    for trace in ("a", "b"):
        histogram = metrics.Histogram("h", "Times.", buckets=(1,))
        histogram.observe(0.5, trace_id=trace * 32)
        snapshots.append(told(histogram))
    for order in (snapshots, snapshots[::-1]):
        assert "b" * 32 in metrics.text(metrics.together(order), openmetrics=True)


# -- tenants -------------------------------------------------------------------------------------------------


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Room for two tenants; the clock, which the test moves."""
    now = [0.0]
    found: list[metrics._Metric] = []

    def ended(tenant: str) -> None:
        for metric in found:
            metric.end_tenant(tenant)

    monkeypatch.setattr(metrics, "_tenants", Tenants(2, ended, lambda: now[0]))
    monkeypatch.setattr(metrics, "_registry", {})
    monkeypatch.setattr(metrics, "_all", lambda: found)
    declare = metrics._declare
    monkeypatch.setattr(metrics, "_declare", lambda m: found.append(m) or declare(m))
    yield now


def test_the_busiest_tenants_have_series_and_all_others_one(two: list[float]) -> None:
    counter = metrics.counter("t_total", "By tenant.", ("tenant", "kind"))
    gauge = metrics.gauge("limit", "By tenant.", ("tenant",))
    before = metrics._dropped.value(metric="t_total")
    for tenant in ("a", "a", "b", "c", "c", "c", "c", "d"):
        counter.inc(tenant=tenant, kind="x")
        gauge.set(7, tenant=tenant)
    assert {t: counter.value(tenant=t, kind="x") for t in "abcd"} == {"a": 2, "b": 1, "c": 0, "d": 0}
    assert counter.value(tenant="other", kind="x") == 5
    assert metrics._dropped.value(metric="t_total") == before + 5
    # Of gauges a sum would say nothing.
    assert [line for line in gauge.lines() if "other" in line] == []
    two[0] = 20.0
    counter.inc(tenant="c", kind="x")  # five times as busy as b by now
    assert {t: counter.value(tenant=t, kind="x") for t in "abcd"} == {"a": 2, "b": 0, "c": 1, "d": 0}
    assert not [line for line in gauge.lines() if 'tenant="b"' in line]


@given(
    asked=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 30)), max_size=200),
    most=st.integers(0, 4),
)
def test_tenants_are_bounded_and_no_series_goes_back_but_to_nothing(
    asked: list[tuple[str, int]], most: int
) -> None:
    now, values, ends = [0.0], {}, []
    tenants = Tenants(most, ends.append, lambda: now[0])
    seen = 0
    for tenant, later in asked:
        now[0] += later
        label = tenants.label(tenant)
        assert label in (tenant, "other")
        for gone in ends[seen:]:
            values.pop(gone, None)
        seen = len(ends)
        values[label] = values.get(label, 0) + 1
        assert len(values.keys() - {"other"}) <= most
    if not ends:
        assert sum(values.values()) == len(asked)


def test_two_of_a_kind_do_not_change_places_for_ever() -> None:
    now, ends = [0.0], []
    tenants = Tenants(1, ends.append, lambda: now[0])
    for _ in range(1000):
        now[0] += 11.0
        tenants.label("a")
        tenants.label("b")
    assert ends == []


def test_who_was_busy_long_ago_gives_way_even_after_months() -> None:
    now, ends = [0.0], []
    tenants = Tenants(1, ends.append, lambda: now[0])
    for _ in range(500):
        tenants.label("a")
    now[0] = 90 * 86_400.0
    for _ in range(3):
        now[0] += 11.0
        tenants.label("b")
    assert ends == ["a"]


def test_series_that_end_in_one_process_are_told_on() -> None:
    def snapshot(**counts: float) -> metrics.Snapshot:
        counter = metrics.Counter("c_total", "By tenant.", ("tenant",))
        for tenant, count in counts.items():
            counter.add((tenant,), count)
        other = metrics.Counter("k_total", "By kind.", ("kind",))
        return told(counter, other)

    before, now = snapshot(a=10, b=5, other=3), snapshot(b=6, other=4)
    gone = metrics.vanished(before, now)
    assert [entry["series"] for entry in gone] == [[[["a"], 10]]]
    kept, left_out = metrics.without_tenants(snapshot(a=10, b=5, other=3), now)
    assert (left_out, kept[0]["series"]) == (1, [[["b"], 5], [["other"], 3]])

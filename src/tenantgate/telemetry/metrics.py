"""Counters, gauges and histograms in Prometheus' text format and in OpenMetrics, without a dependency.

Plugins declare theirs at module level:

    hits = metrics.counter("tenantgate_cache_hits_total", "Answers from the cache.", ("level",))
    hits.inc(level="exact")

They may be used under any server; Tenantgate's shows them at ``/metrics``. Label values are names of things
(a phase, an outcome), never content and never a tenant's free text. The label ``tenant`` names the busiest tenants
(`tenantgate.telemetry.tenants`); a metric takes at most `MAX_SERIES` combinations. What has no series of its own is
counted under the label value ``other``; of gauges, where a sum of tenants would say nothing, it is left out.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeVar

from tenantgate.telemetry.tenants import OTHER, Tenants

__all__ = [
    "BUCKETS_S",
    "MAX_SERIES",
    "Counter",
    "Gauge",
    "Histogram",
    "Snapshot",
    "counter",
    "exposition",
    "gauge",
    "histogram",
    "show_tenants",
    "snapshot",
    "text",
    "together",
    "vanished",
    "without_tenants",
]

MAX_SERIES: Final = 1000
BUCKETS_S: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.035,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)
_TENANT: Final = "tenant"

M = TypeVar("M", bound="_Metric")

Snapshot = list[dict[str, Any]]
"""All metrics of a process, in values that JSON has."""


class _Metric:
    kind = ""

    def __init__(self, name: str, description: str, labels: Sequence[str] = ()) -> None:
        self.name, self.description, self.labels = name, description, tuple(labels)
        self._lock = threading.Lock()
        self._by_tenant = _TENANT in self.labels
        # In C where it can be: each request makes dozens of updates.
        self._values_of = itemgetter(*self.labels) if len(self.labels) > 1 else None

    def _key(self, labels: dict[str, str], updates: int = 1) -> tuple[str, ...]:
        """The series of an update. Not under the metric's lock: another tenant's series may have to end."""
        if self._by_tenant:
            shown = _tenants.label(labels[_TENANT], updates)
            if shown != labels[_TENANT]:
                _dropped.inc(metric=self.name)
                labels = {**labels, _TENANT: shown}
        if self._values_of is not None:
            found: tuple[str, ...] = self._values_of(labels)
            return found
        return tuple([labels[name] for name in self.labels])

    def _bounded(self, key: tuple[str, ...], known: Collection[tuple[str, ...]]) -> tuple[str, ...]:
        if key in known or len(known) < MAX_SERIES:
            return key
        if self is not _dropped:
            _dropped.inc(metric=self.name)
        return (OTHER,) * len(key)

    def end_tenant(self, tenant: str) -> None:
        """Drop the series of a tenant."""
        if _TENANT in self.labels:
            place = self.labels.index(_TENANT)
            with self._lock:
                self._drop(lambda key: key[place] == tenant)

    def _drop(self, gone: Callable[[tuple[str, ...]], bool]) -> None:
        raise NotImplementedError

    def lines(self, *, openmetrics: bool = False) -> Iterable[str]:
        """The metric in text format."""
        name, kind = self.name, self.kind
        if openmetrics and kind == Counter.kind:
            # There a counter's samples, and they alone, have this ending.
            name, kind = (name.removesuffix("_total"), kind) if name.endswith("_total") else (name, "unknown")
        yield f"# HELP {name} {_escape(self.description, quote=openmetrics)}"
        yield f"# TYPE {name} {kind}"
        yield from self._samples(openmetrics=openmetrics)

    def _samples(self, *, openmetrics: bool) -> Iterable[str]:
        raise NotImplementedError

    def snapshot(self) -> dict[str, Any]:
        """The metric in values that JSON has."""
        return {
            "kind": self.kind,
            "declared": [self.name, self.description, self.labels, *self._options()],
            "series": [[list(key), value] for key, value in self._state()],
        }

    def _options(self) -> list[Any]:
        return []

    def _state(self) -> Iterable[tuple[tuple[str, ...], Any]]:
        raise NotImplementedError

    def add(self, key: tuple[str, ...], value: Any) -> None:
        """Take in what another process counted for one series."""
        raise NotImplementedError

    def _series(self, key: tuple[str, ...], suffix: str = "", extra: str = "") -> str:
        pairs = [f'{n}="{_escape(v, quote=True)}"' for n, v in zip(self.labels, key, strict=True)]
        if extra:
            pairs.append(extra)
        return f"{self.name}{suffix}{'{' + ','.join(pairs) + '}' if pairs else ''}"


class Counter(_Metric):
    """A number that only grows."""

    kind = "counter"

    def __init__(self, name: str, description: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, description, labels)
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}

    def inc(self, amount: float = 1.0, **labels: str) -> None:
        """Add `amount`."""
        self._increase(self._key(labels), amount)

    def value(self, **labels: str) -> float:
        """The value now."""
        return self._values.get(tuple(labels[name] for name in self.labels), 0.0)

    def _state(self) -> list[tuple[tuple[str, ...], float]]:
        with self._lock:
            return sorted(self._values.items())

    def add(self, key: tuple[str, ...], value: Any) -> None:
        """See `_Metric`: the sum."""
        self._increase(key, value)

    def _increase(self, key: tuple[str, ...], amount: float) -> None:
        with self._lock:
            if key not in self._values:
                key = self._bounded(key, self._values)
            self._values[key] = self._values.get(key, 0.0) + amount

    def _drop(self, gone: Callable[[tuple[str, ...]], bool]) -> None:
        for key in [key for key in self._values if gone(key)]:
            del self._values[key]

    def _samples(self, *, openmetrics: bool) -> Iterable[str]:  # noqa: ARG002 - the same in both
        values = self._state()
        return [f"{self._series(key)} {_number(value)}" for key, value in values]


class Gauge(Counter):
    """A number that goes up and down; of several processes the sum where it is a `total`, else the largest."""

    kind = "gauge"

    def __init__(self, name: str, description: str, labels: Sequence[str] = (), total: bool = False) -> None:
        super().__init__(name, description, labels)
        self._total = total
        self._added: set[tuple[str, ...]] = set()

    def _options(self) -> list[Any]:
        return [self._total]

    def add(self, key: tuple[str, ...], value: Any) -> None:
        """See `_Metric`."""
        with self._lock:
            key = self._bounded(key, self._values)
            before = self._values.get(key) if key in self._added else None
            self._added.add(key)
            if before is not None:
                value = before + value if self._total else max(before, value)
            self._values[key] = value

    def set(self, value: float, **labels: str) -> None:
        """Set it to `value`; of a tenant without series of its own it is left out."""
        key = self._key(labels, updates=0)
        if _TENANT in self.labels and key[self.labels.index(_TENANT)] != labels[_TENANT]:
            return
        with self._lock:
            self._values[self._bounded(key, self._values)] = value

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Have these series, each by its labels' values, and no others: for a gauge without the label ``tenant``."""
        with self._lock:
            self._values = dict(list(values.items())[:MAX_SERIES])


class Histogram(_Metric):
    """Counts of observations by upper bound, in seconds unless the name says otherwise."""

    kind = "histogram"

    def __init__(
        self, name: str, description: str, labels: Sequence[str] = (), buckets: Sequence[float] = BUCKETS_S
    ) -> None:
        super().__init__(name, description, labels)
        self._bounds = tuple(sorted(buckets))
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._exemplars: dict[tuple[str, ...], dict[int, tuple[str, float, float]]] = {}

    def observe(self, value: float, *, trace_id: str = "", **labels: str) -> None:
        """Count one observation; of the last one of each bucket that has a `trace_id` OpenMetrics tells it."""
        key, bucket = self._key(labels), bisect_left(self._bounds, value)
        with self._lock:
            counts = self._counts.get(key)
            if counts is None:
                key = self._bounded(key, self._counts)
                counts = self._counts.get(key)
            if counts is None:
                counts = self._counts[key] = [0] * (len(self._bounds) + 1)
                self._sums[key] = 0.0
            counts[bucket] += 1
            self._sums[key] += value
            if trace_id:
                self._exemplars.setdefault(key, {})[bucket] = (trace_id, value, time.time())

    def count(self, **labels: str) -> int:
        """How many observations there were."""
        return sum(self._counts.get(tuple(labels[name] for name in self.labels), ()))

    def _options(self) -> list[Any]:
        return [self._bounds]

    def _drop(self, gone: Callable[[tuple[str, ...]], bool]) -> None:
        for key in [key for key in self._counts if gone(key)]:
            del self._counts[key], self._sums[key]
            self._exemplars.pop(key, None)

    def _state(self) -> list[tuple[tuple[str, ...], list[Any]]]:
        with self._lock:
            return [
                (key, [list(counts), self._sums[key], self._told(key)])
                for key, counts in sorted(self._counts.items())
            ]

    def _told(self, key: tuple[str, ...]) -> list[Any]:
        return [[bucket, *one] for bucket, one in sorted(self._exemplars.get(key, {}).items())]

    def add(self, key: tuple[str, ...], value: Any) -> None:
        """See `_Metric`: the sums, and the latest exemplars."""
        counts, total, exemplars = value
        with self._lock:
            key = self._bounded(key, self._counts)
            before = self._counts.get(key, [0] * len(counts))
            self._counts[key] = [a + b for a, b in zip(before, counts, strict=True)]
            self._sums[key] = self._sums.get(key, 0.0) + total
            for bucket, trace_id, observed, at in exemplars:
                known = self._exemplars.setdefault(key, {})
                if bucket not in known or known[bucket][2] <= at:
                    known[bucket] = (trace_id, observed, at)

    def _samples(self, *, openmetrics: bool) -> Iterable[str]:
        for key, (counts, total, exemplars) in self._state():
            told = {bucket: one for bucket, *one in exemplars} if openmetrics else {}
            seen = 0
            for bucket, (bound, count) in enumerate(zip((*self._bounds, math.inf), counts, strict=True)):
                seen += count
                edge = f'le="{_canonical(bound) if openmetrics else _number(bound)}"'
                exemplar = _exemplar(*told[bucket]) if bucket in told else ""
                yield f"{self._series(key, '_bucket', edge)} {seen}{exemplar}"
            yield f"{self._series(key, '_sum')} {_number(total)}"
            yield f"{self._series(key, '_count')} {seen}"


_registry: dict[str, _Metric] = {}
_registry_lock = threading.Lock()


def _declare(metric: M) -> M:
    with _registry_lock:
        known = _registry.setdefault(metric.name, metric)
    if type(known) is not type(metric) or known.labels != metric.labels:
        raise ValueError(f"metric {metric.name} was declared differently before")
    return known


def counter(name: str, description: str, labels: Sequence[str] = ()) -> Counter:
    """The counter `name`; the same one each time."""
    return _declare(Counter(name, description, labels))


def gauge(name: str, description: str, labels: Sequence[str] = (), *, total: bool = False) -> Gauge:
    """The gauge `name`; the same one each time."""
    return _declare(Gauge(name, description, labels, total=total))


def histogram(
    name: str, description: str, labels: Sequence[str] = (), buckets: Sequence[float] = BUCKETS_S
) -> Histogram:
    """The histogram `name`; the same one each time."""
    return _declare(Histogram(name, description, labels, buckets))


_dropped: Final = counter(
    "tenantgate_metrics_dropped_series_total",
    "Updates of series that a metric has no room for: counted under the label value other, of gauges left out.",
    ("metric",),
)


def _end_tenant(tenant: str) -> None:
    for metric in _all():
        metric.end_tenant(tenant)


_tenants: Final = Tenants(ended=_end_tenant)


def show_tenants(most: int) -> None:
    """Let so many tenants have series of their own, from now on."""
    _tenants.most = most


def exposition(*, openmetrics: bool = False) -> str:
    """All metrics in Prometheus' text format 0.0.4, or in OpenMetrics 1.0."""
    return _text(_all(), openmetrics=openmetrics)


def snapshot() -> Snapshot:
    """All metrics of this process."""
    return [metric.snapshot() for metric in _all()]


def together(snapshots: Iterable[Snapshot], ended: Iterable[Snapshot] = ()) -> Snapshot:
    """The metrics of several processes as one's: sums, and of gauges that are no total the largest.

    Of those that have `ended` the counters and histograms count. A metric that processes declare differently is the
    first one's.
    """
    found: dict[str, _Metric] = {}
    declared: dict[str, Any] = {}
    for over, several in ((False, snapshots), (True, ended)):
        for one in several:
            for entry in one:
                if over and entry["kind"] == Gauge.kind:
                    continue
                how = (entry["kind"], _tuples(entry["declared"]))
                name = entry["declared"][0]
                if name not in found:
                    found[name], declared[name] = _KINDS[entry["kind"]](*entry["declared"]), how
                if declared[name] != how:
                    continue
                metric = found[name]
                for key, value in entry["series"]:
                    metric.add(tuple(key), value)
    return [metric.snapshot() for metric in sorted(found.values(), key=lambda m: m.name)]


def without_tenants(several: Snapshot, kept: Snapshot) -> tuple[Snapshot, int]:
    """Those of the series that are of no tenant, or of one that `kept` has, too; how many tenants are left out."""
    known = {tenant for entry in kept for tenant, _ in _of_tenants(entry)}
    gone: set[str] = set()
    found = []
    for entry in several:
        theirs = [series for tenant, series in _of_tenants(entry) if tenant not in known]
        gone |= {tenant for tenant, _ in _of_tenants(entry) if tenant not in known}
        found.append(
            {**entry, "series": [s for s in entry["series"] if s not in theirs]} if theirs else entry
        )
    return found, len(gone)


def vanished(before: Snapshot, now: Snapshot) -> Snapshot:
    """Series of tenants that a process doesn't have any more."""
    there = {entry["declared"][0]: {tuple(key) for key, _ in entry["series"]} for entry in now}
    found = []
    for entry in before:
        known = there.get(entry["declared"][0], set())
        gone = [series for _, series in _of_tenants(entry) if tuple(series[0]) not in known]
        if gone:
            found.append({**entry, "series": gone})
    return found


def _of_tenants(entry: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The series of tenants, each with whose it is."""
    labels = list(entry["declared"][2])
    if _TENANT not in labels:
        return []
    place = labels.index(_TENANT)
    return [(series[0][place], series) for series in entry["series"] if series[0][place] != OTHER]


def text(several: Snapshot, *, openmetrics: bool = False) -> str:
    """A snapshot in Prometheus' text format 0.0.4, or in OpenMetrics 1.0."""
    found = []
    for entry in several:
        metric = _KINDS[entry["kind"]](*entry["declared"])
        for key, value in entry["series"]:
            metric.add(tuple(key), value)
        found.append(metric)
    return _text(found, openmetrics=openmetrics)


_KINDS: Final[dict[str, type[Any]]] = {kind.kind: kind for kind in (Counter, Gauge, Histogram)}


def _tuples(declared: list[Any]) -> list[Any]:
    return [tuple(value) if isinstance(value, list) else value for value in declared]


def _all() -> list[_Metric]:
    with _registry_lock:
        return sorted(_registry.values(), key=lambda m: m.name)


def _text(found: Iterable[_Metric], *, openmetrics: bool) -> str:
    lines = "".join(f"{line}\n" for metric in found for line in metric.lines(openmetrics=openmetrics))
    return lines + "# EOF\n" if openmetrics else lines


def _exemplar(trace_id: str, observed: float, at: float) -> str:
    return f' # {{trace_id="{_escape(trace_id, quote=True)}"}} {_number(observed)} {at:.3f}'


def _canonical(bound: float) -> str:
    """A bound as OpenMetrics wants it."""
    return "+Inf" if math.isinf(bound) else repr(float(bound))


def _escape(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    text = text.replace('"', '\\"') if quote else text
    return text.encode("utf-8", "replace").decode()  # a surrogate escape can't be exposed


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)

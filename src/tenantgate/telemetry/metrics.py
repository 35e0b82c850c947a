"""Counters, gauges and histograms in Prometheus' text format, without a dependency.

Plugins declare theirs at module level:

    hits = metrics.counter("tenantgate_cache_hits_total", "Answers from the cache.", ("level",))
    hits.inc(level="exact")

They may be used under any server; Tenantgate's shows them at ``/metrics``. Label values are names of things
(a phase, an outcome), never content and never a tenant's free text; a metric takes at most `MAX_SERIES`
combinations, further ones are counted together under the label value ``other``.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

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
    "snapshot",
    "text",
    "together",
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
_OTHER: Final = "other"

M = TypeVar("M", bound="_Metric")

Snapshot = list[dict[str, Any]]
"""All metrics of a process, in values that JSON has."""


class _Metric:
    kind = ""

    def __init__(self, name: str, description: str, labels: Sequence[str] = ()) -> None:
        self.name, self.description, self.labels = name, description, tuple(labels)
        self._lock = threading.Lock()

    def _key(self, labels: dict[str, str], known: object) -> tuple[str, ...]:
        key = tuple(labels[name] for name in self.labels)
        if key in known or len(known) < MAX_SERIES:  # type: ignore[operator,arg-type]
            return key
        return (_OTHER,) * len(key)

    def lines(self) -> Iterable[str]:
        """The metric in text format."""
        yield f"# HELP {self.name} {_escape(self.description)}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self._samples()

    def _samples(self) -> Iterable[str]:
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
        with self._lock:
            key = self._key(labels, self._values)
            self._values[key] = self._values.get(key, 0.0) + amount

    def value(self, **labels: str) -> float:
        """The value now."""
        return self._values.get(tuple(labels[name] for name in self.labels), 0.0)

    def _state(self) -> list[tuple[tuple[str, ...], float]]:
        with self._lock:
            return sorted(self._values.items())

    def add(self, key: tuple[str, ...], value: Any) -> None:
        """See `_Metric`: the sum."""
        self.inc(value, **dict(zip(self.labels, key, strict=True)))

    def _samples(self) -> Iterable[str]:
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
            key = self._key(dict(zip(self.labels, key, strict=True)), self._values)
            before = self._values.get(key) if key in self._added else None
            self._added.add(key)
            if before is not None:
                value = before + value if self._total else max(before, value)
            self._values[key] = value

    def set(self, value: float, **labels: str) -> None:
        """Set it to `value`."""
        with self._lock:
            self._values[self._key(labels, self._values)] = value


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

    def observe(self, value: float, **labels: str) -> None:
        """Count one observation."""
        with self._lock:
            key = self._key(labels, self._counts)
            counts = self._counts.get(key)
            if counts is None:
                counts = self._counts[key] = [0] * (len(self._bounds) + 1)
                self._sums[key] = 0.0
            counts[bisect_left(self._bounds, value)] += 1
            self._sums[key] += value

    def count(self, **labels: str) -> int:
        """How many observations there were."""
        return sum(self._counts.get(tuple(labels[name] for name in self.labels), ()))

    def _options(self) -> list[Any]:
        return [self._bounds]

    def _state(self) -> list[tuple[tuple[str, ...], list[Any]]]:
        with self._lock:
            return [(key, [list(counts), self._sums[key]]) for key, counts in sorted(self._counts.items())]

    def add(self, key: tuple[str, ...], value: Any) -> None:
        """See `_Metric`: the sums."""
        counts, total = value
        with self._lock:
            key = self._key(dict(zip(self.labels, key, strict=True)), self._counts)
            before = self._counts.get(key, [0] * len(counts))
            self._counts[key] = [a + b for a, b in zip(before, counts, strict=True)]
            self._sums[key] = self._sums.get(key, 0.0) + total

    def _samples(self) -> Iterable[str]:
        for key, (counts, total) in self._state():
            seen = 0
            for bound, count in zip((*self._bounds, math.inf), counts, strict=True):
                seen += count
                edge = f'le="{_number(bound)}"'
                yield f"{self._series(key, '_bucket', edge)} {seen}"
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


def exposition() -> str:
    """All metrics in Prometheus' text format 0.0.4."""
    return _text(_all())


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


def text(several: Snapshot) -> str:
    """A snapshot in Prometheus' text format 0.0.4."""
    found = []
    for entry in several:
        metric = _KINDS[entry["kind"]](*entry["declared"])
        for key, value in entry["series"]:
            metric.add(tuple(key), value)
        found.append(metric)
    return _text(found)


_KINDS: Final[dict[str, type[Any]]] = {kind.kind: kind for kind in (Counter, Gauge, Histogram)}


def _tuples(declared: list[Any]) -> list[Any]:
    return [tuple(value) if isinstance(value, list) else value for value in declared]


def _all() -> list[_Metric]:
    with _registry_lock:
        return sorted(_registry.values(), key=lambda m: m.name)


def _text(found: Iterable[_Metric]) -> str:
    return "".join(f"{line}\n" for metric in found for line in metric.lines())


def _escape(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    text = text.replace('"', '\\"') if quote else text
    return text.encode("utf-8", "replace").decode()  # a surrogate escape can't be exposed


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)

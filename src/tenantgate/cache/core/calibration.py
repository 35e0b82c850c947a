"""From the operator's bound, a share of wrong answers, to the verifier's score that keeps it.

A table counts, for rising scores, how many labelled pairs would have been served at that score or above and how
many of those were wrong. The bound is held by the upper end of a confidence interval, not by the mean: a few
lucky pairs must not switch the cache on.

The table that ships holds several domains of traffic. What a tenant's own is like nobody knows beforehand, so what
follows from them is only where `tenantgate.cache.core.bound` begins.
"""

from __future__ import annotations

import bisect
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from tenantgate.errors import ConfigError

if TYPE_CHECKING:
    from tenantgate.cache.core.bound import Bound

__all__ = ["Calibration", "Point", "Traffic", "calibrate", "upper_wrong_rate"]

_Z: Final = 1.6449  # one-sided 95 %


@dataclass(frozen=True, slots=True)
class Point:
    """At `score` and above: pairs that would be served, those of them that are wrong, and all right pairs."""

    score: float
    served: int
    wrong: int
    positives: int

    @property
    def wrong_rate(self) -> float:
        """Share of the served that are wrong."""
        return self.wrong / self.served if self.served else 0.0

    @property
    def recall(self) -> float:
        """Share of the right pairs that are served."""
        return (self.served - self.wrong) / self.positives if self.positives else 0.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """A domain: points of rising score; `weight` says how likely a tenant's traffic is of its kind."""

    name: str
    points: tuple[Point, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Points of rising score, for one verifier and embedder by their fingerprints; one table, or some domains."""

    verifier: str
    embedder: str
    source: str
    points: tuple[Point, ...] = ()
    domains: tuple[Traffic, ...] = ()

    def threshold_for(self, max_wrong_rate: float) -> float | None:
        """The score that is needed while nothing is known of a tenant's own traffic; None if none will do.

        Of one table the lowest that keeps the bound with 95 % confidence. Of several domains the lowest at which the
        bound is as likely kept as not on traffic that may be of any of their kinds. Rises as the bound falls.
        """
        if self.domains:
            start = self.bound(max_wrong_rate).start
            return None if math.isinf(start) else start
        for point in self.points:
            if point.served and upper_wrong_rate(point.wrong, point.served) <= max_wrong_rate:
                return point.score
        return None

    def bound(self, max_wrong_rate: float, probe_rate: float = 0.0) -> Bound:
        """How a tenant's own traffic moves the score that is needed."""
        from tenantgate.cache.core import bound

        tables = self.domains or (Traffic("", self.points),)
        domains = [
            bound.domain_of([(p.score, p.served, p.wrong) for p in table.points], table.weight)
            for table in tables
        ]
        least = min((table.points[0].score for table in tables if table.points), default=1.0)
        start = None
        if not self.domains:
            found = self.threshold_for(max_wrong_rate)
            start = math.inf if found is None else found
        return bound.Bound(domains, max_wrong_rate, start=start, least=least, probe_rate=probe_rate)

    def at(self, score: float) -> Point | None:
        """The point that holds at `score`: the next at or above it."""
        i = bisect.bisect_left([p.score for p in self.points], score)
        return self.points[i] if i < len(self.points) else None

    def to_json(self) -> str:
        """The table as it is shipped."""
        head: dict[str, Any] = {
            "version": 2 if self.domains else 1,
            "verifier": self.verifier,
            "embedder": self.embedder,
            "source": self.source,
        }
        opened = json.dumps(head)[:-1]
        if not self.domains:
            return f'{opened},\n "points": {_rows(self.points)}}}\n'
        tables = (
            f'{{"name": {json.dumps(each.name)}, "weight": {each.weight}, "points": {_rows(each.points)}}}'
            for each in self.domains
        )
        return f'{opened},\n "domains": [\n {", ".join(tables)}]}}\n'

    @classmethod
    def from_json(cls, text: str, *, where: str = "calibration") -> Calibration:
        """Read a table.

        Raises:
            ConfigError: it isn't one, with the field and its problem.
        """
        try:
            raw: Any = json.loads(text)
            if raw["version"] not in (1, 2):
                raise ConfigError(f"{where}: version {raw['version']!r} is neither 1 nor 2")
            domains: tuple[Traffic, ...] = ()
            points: tuple[Point, ...] = ()
            if raw["version"] == 1:
                points = _points(raw["points"])
            else:
                domains = tuple(
                    Traffic(str(d["name"]), _points(d["points"]), float(d["weight"])) for d in raw["domains"]
                )
            found = cls(str(raw["verifier"]), str(raw["embedder"]), str(raw["source"]), points, domains)
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            raise ConfigError(f"{where}: not a calibration table ({type(error).__name__})") from None
        if raw["version"] == 2 and not (domains and all(0 < each.weight < math.inf for each in domains)):
            raise ConfigError(f"{where}: domains must be some, each with a weight above 0")
        for table in (points, *(each.points for each in domains)):
            _check(table, where)
        return found


def _rows(points: Sequence[Point]) -> str:
    return "[\n  " + ",\n  ".join(json.dumps(asdict(point)) for point in points) + "\n ]"


def _points(rows: Any) -> tuple[Point, ...]:
    return tuple(
        Point(float(p["score"]), int(p["served"]), int(p["wrong"]), int(p["positives"])) for p in rows
    )


def _check(points: Sequence[Point], where: str) -> None:
    for point in points:
        if not (math.isfinite(point.score) and 0 <= point.wrong <= point.served and point.positives >= 0):
            raise ConfigError(f"{where}: counts must not be negative, and wrong not above served")
    for before, after in itertools.pairwise(points):
        if after.score <= before.score or after.served > before.served:
            raise ConfigError(f"{where}: points must rise in score and fall in served")


def upper_wrong_rate(wrong: int, served: int) -> float:
    """Upper end of the one-sided 95 % Wilson score interval of ``wrong / served``.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    if served <= 0:
        return 1.0
    rate, z2 = wrong / served, _Z * _Z
    middle = rate + z2 / (2 * served)
    spread = _Z * math.sqrt(rate * (1 - rate) / served + z2 / (4 * served * served))
    return min(1.0, (middle + spread) / (1 + z2 / served))


def calibrate(
    scored: Iterable[tuple[float, bool]],
    *,
    verifier: str,
    embedder: str,
    source: str,
    steps: Sequence[float] = (),
) -> Calibration:
    """The table for labelled pairs ``(score, same)``; a pair that a rule excludes comes with a score below 0."""
    pairs = sorted(scored)
    positives = sum(same for _, same in pairs)
    grid = steps or [i / 200 for i in range(200)] + [1 - 10**-k * m for k in (3, 4) for m in (4, 2, 1)]
    points = []
    scores = [score for score, _ in pairs]
    wrong_from = [0] * (len(pairs) + 1)
    for i in range(len(pairs) - 1, -1, -1):
        wrong_from[i] = wrong_from[i + 1] + (not pairs[i][1])
    for score in sorted(grid):
        i = bisect.bisect_left(scores, score)
        points.append(Point(score, len(pairs) - i, wrong_from[i], positives))
    return Calibration(verifier, embedder, source, tuple(points))

"""How a tenant's own traffic moves the score that a neighbour's answer must reach, so that the bound is kept there.

What is compared. Where a question was near a stored one and the provider answered all the same (because the score was
too low, or because a would-be hit was *probed*), the fresh answer is compared with the stored one: right, or wrong.
Each comparison is counted in the bin of its score. Hits that nobody compares are counted by bin, too: what share of the
served is wrong depends on both.

What is believed. The chance that an answer is wrong falls with the verifier's log-odds x: ``floor + (1 - floor) *
sigmoid(level - slope * x)``. Each hypothesis is one (level, slope, floor) of a grid; its prior weight comes from
several domains of labelled traffic (`tenantgate.cache.core.calibration`), each taken for so little that a tenant's own
comparisons soon outweigh it. This is the idea of vCache (Schroeder et al. 2025), with a floor for what no score can
tell.

When the threshold moves.

* It *falls* below the start only at a score where the hypotheses under which more than the bound would be wrong are
  refuted: the likelihood of all, by their prior weights, is at least 1 / `ALPHA` times that of the best of these. That
  ratio is a test martingale under each of them, so by Ville's inequality it may be looked at after each comparison
  (Waudby-Smith and Ramdas 2020, Confidence sequences for sampling without replacement: the prior-posterior ratio).
* It *rises* without such proof, where it is likely enough that more than the bound is wrong.
* It starts anew where comparisons come out wrong more often than believed (Page's CUSUM on the likelihood ratio), or
  where questions suddenly find fewer neighbours than they used to: another kind of traffic, of which little is known.

Probes go where they tell most: a bin's share is proportional to the standard deviation of its outcomes (Neyman 1934).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "ALPHA",
    "BINS",
    "Belief",
    "Bound",
    "Change",
    "Comparison",
    "Domain",
    "Evidence",
    "Plan",
    "Seen",
    "bin_of",
    "domain_of",
    "edge",
]

BINS: Final = 21
"""Bins of the verifier's score, by its log-odds: from -1 (a score of .27) in steps of .5 to 9 (.9999) and above."""
_FIRST: Final = -1.0
_STEP: Final = 0.5
_NEAR: Final = (
    4  # the first bin that counts as a neighbour where traffic is watched for a change: a score of .73
)

ALPHA: Final = 0.1
"""How likely at most a fall of the threshold is one that breaks the bound, whenever one looks."""

_STRENGTH: Final = 60.0  # comparisons for which each domain of the prior counts
_UNKNOWN_FLOOR: Final = 0.5  # of the prior: that the floor isn't the domain's but any of the grid
_ANYTHING: Final = 0.02  # of the prior: that it is like no domain
_VOLUME: Final = 60.0  # would-be hits for which the domains' distribution over the bins counts

_RISES: Final = (0.3, 0.6, 600.0)
"""The threshold rises where more than the bound is wrong with a probability above 1 - q; q goes from the first to the
second with so many comparisons: what is doubtful at first is left as the several domains have it."""

_MOST: Final = 4000.0  # comparisons that are remembered; beyond that all count half
_RECENT: Final = 100.0  # comparisons from which it starts anew
_ALARM: Final = 5.0  # of the CUSUM: e to that power is the likelihood ratio that starts it anew
_WORSE: Final = 1.2  # log-odds by which the alternative of the CUSUM is worse than what is believed
_FEWER: Final = 0.45  # of the usual share of lookups that find a neighbour
_FAST: Final = 60.0  # lookups of the short mean
_SLOW: Final = 1000.0  # and of the long one
_WARM: Final = 300.0  # lookups before the two are compared
_KEPT: Final = 0.25  # of the evidence, where questions find fewer neighbours

_QUIET: Final = 30.0  # would-be hits before the first probe: a tenant's first paraphrases are all served
_EAGER: Final = 0.1  # the share that is probed while little is known
_ENOUGH: Final = 150.0  # probes after which it is `probe_rate`
_MOST_PROBED: Final = 0.5  # of one bin
_LEARNT: Final = 600.0  # comparisons after which of the misses with a neighbour only a part is compared
_LATER: Final = 0.25

_HISTORY: Final = 20

_LEVELS: Final = np.arange(-6, 3.01, 0.5)
_SLOPES: Final = np.array([0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
_FLOORS: Final = np.array([0.0, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1])


def bin_of(score: float) -> int | None:
    """The bin of a verifier's score, 0 to 1; None where it is too low ever to be served."""
    if not score > 0.0:
        return None
    odds = math.inf if score >= 1 else math.log(score / (1 - score))
    return None if odds < _FIRST else int(min(BINS - 1, (odds - _FIRST) / _STEP))


def edge(number: int) -> float:
    """The lowest score of a bin; for `BINS` and above one that no score reaches."""
    return math.inf if number >= BINS else 1 / (1 + math.exp(-(_FIRST + _STEP * number)))


def _grid() -> Array:
    """For each hypothesis and bin the chance that an answer is wrong; falls from bin to bin."""
    level, slope, floor = (axis.ravel() for axis in np.meshgrid(_LEVELS, _SLOPES, _FLOORS, indexing="ij"))
    odds = _FIRST + _STEP * (np.arange(BINS) + 0.5)
    sigmoid = 1 / (1 + np.exp(slope[:, None] * odds - level[:, None]))
    chances: Array = np.clip(floor[:, None] + (1 - floor[:, None]) * sigmoid, 1e-4, 1 - 1e-4)
    return chances


_WRONG: Final = _grid()
_LOG_WRONG: Final = np.log(_WRONG)
_LOG_RIGHT: Final = np.log(1 - _WRONG)


@dataclass(frozen=True, slots=True)
class Domain:
    """Labelled traffic: by bin, pairs that were right and wrong. `weight` is how likely a tenant's is of its kind."""

    right: tuple[float, ...]
    wrong: tuple[float, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A fresh answer beside the stored one: the bin of the questions' score, and whether the two answers differ."""

    bin: int
    wrong: bool
    probe: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """Lookups not told yet: how many, how many found a neighbour, and these by the bin of their score."""

    lookups: int = 0
    near: int = 0
    hits: int = 0
    """Answers that were served by similarity."""
    bins: Mapping[int, int] = field(default_factory=dict)

    def with_lookup(self, number: int | None, *, hit: bool = False) -> Seen:
        """One lookup more, whose best neighbour has a score of this bin."""
        if number is None:
            return replace(self, lookups=self.lookups + 1)
        bins = {**self.bins, number: self.bins.get(number, 0) + 1}
        return Seen(self.lookups + 1, self.near + (number >= _NEAR), self.hits + hit, bins)


@dataclass(frozen=True, slots=True)
class Change:
    """A threshold that held from `at` on (Unix seconds), and why."""

    at: int
    threshold: float
    why: str


_ZEROS: Final = (0.0,) * BINS
_ROWS: Final = ("right", "wrong", "seen", "recent_right", "recent_wrong")
_NUMBERS: Final = ("alarm", "lookups", "near_fast", "near_slow", "probed")
_COUNTS: Final = ("hits", "compared", "probes", "probes_wrong", "restarts")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one tenant's traffic: small counts, no text. Old ones count less and less."""

    right: tuple[float, ...] = _ZEROS
    wrong: tuple[float, ...] = _ZEROS
    seen: tuple[float, ...] = _ZEROS
    """Lookups by the bin of their best neighbour."""
    recent_right: tuple[float, ...] = _ZEROS
    recent_wrong: tuple[float, ...] = _ZEROS
    alarm: float = 0.0
    lookups: float = 0.0
    """Since it started anew."""
    near_fast: float = 0.0
    near_slow: float = 0.0
    probed: float = 0.0
    """Probes since it started anew."""
    hits: int = 0
    """All answers ever that were served by similarity."""
    compared: int = 0
    """All comparisons ever; `probes` are those of hits."""
    probes: int = 0
    probes_wrong: int = 0
    restarts: int = 0
    history: tuple[Change, ...] = ()

    def to_json(self) -> str:
        """As it is stored; `from_json` gives it back."""
        rows = [[round(x, 3) for x in getattr(self, name)] for name in _ROWS]
        numbers = [round(getattr(self, name), 5) for name in _NUMBERS]
        counts = [getattr(self, name) for name in _COUNTS]
        past = [[c.at, c.threshold, c.why] for c in self.history]
        return json.dumps([rows, numbers, counts, past], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes | None) -> Evidence:
        """What was stored; nothing known for anything that can't be read."""
        try:
            rows, numbers, counts, past = json.loads(text or "")
            if len(rows) != len(_ROWS) or any(len(row) != BINS for row in rows):
                return cls()
            given: dict[str, Any] = {
                **{name: tuple(map(_positive, row)) for name, row in zip(_ROWS, rows, strict=True)},
                **{name: _positive(value) for name, value in zip(_NUMBERS, numbers, strict=True)},
                **{name: int(value) for name, value in zip(_COUNTS, counts, strict=True)},
            }
            history = tuple(Change(int(at), float(threshold), str(why)) for at, threshold, why in past)
            return cls(**given, history=history)
        except (ValueError, TypeError, OverflowError, RecursionError):
            return cls()


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 <= number < 1e12:
        raise ValueError
    return number


@dataclass(frozen=True, slots=True)
class Plan:
    """What lookups go by: the score that is needed, and by bin the share of would-be hits that is probed.

    `compare` is the share of the misses with a neighbour whose answers are compared, 0 to 1.
    """

    threshold: float
    probe: tuple[float, ...] = _ZEROS
    compare: float = 1.0

    def to_json(self) -> str:
        """As it is stored; `from_json` gives it back."""
        threshold = None if math.isinf(self.threshold) else self.threshold
        whole = [threshold, [round(x, 4) for x in self.probe], self.compare]
        return json.dumps(whole, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes) -> Plan | None:
        """What was stored; None for anything else."""
        try:
            threshold, probe, compare = json.loads(text)
            shares = tuple(map(_positive, probe))
            found = math.inf if threshold is None else float(threshold)
            return cls(found, shares, _positive(compare)) if len(shares) == BINS and found > 0 else None
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class Belief:
    """What follows from evidence: the plan, and of the answers served by it the share that is thought to be wrong.

    `low` and `high` are the ends of the credible interval of 90 %. All three are None where nothing is served.
    """

    plan: Plan
    wrong: float | None
    low: float | None
    high: float | None
    chances: tuple[float, ...]
    """By bin, that an answer is wrong."""


class Bound:
    """One bound and what is known beforehand. `start` is the score that is needed while nothing else is known."""

    def __init__(
        self,
        domains: Sequence[Domain],
        max_wrong_rate: float,
        *,
        start: float | None = None,
        least: float = 0.0,
        probe_rate: float = 0.02,
    ) -> None:
        """Of several domains.

        Args:
            domains: what is known of others' traffic; at least one.
            max_wrong_rate: the bound, above 0 and below 1.
            start: the threshold to begin with, if it isn't to follow from the domains.
            least: below this score nothing is served, whatever is learnt.
            probe_rate: share of the would-be hits that is probed when enough is known, 0 to 1.
        """
        self.max_wrong_rate = max_wrong_rate
        self._rate = probe_rate
        self._prior = np.log(_mixed(domains))
        self._volume = _usual(domains)
        self._least = next((i for i in range(BINS) if edge(i) >= least), BINS)
        if start is None:
            shares = _shares(self._volume)
            start = edge(max(self._least, self._lowest(np.exp(self._prior), shares, 0.5)))
        self.start = start
        self._start = next((i for i in range(BINS) if edge(i) >= start), BINS)

    def believe(self, evidence: Evidence) -> Belief:
        """What follows from evidence."""
        compared = sum(evidence.right) + sum(evidence.wrong)
        weights, likelihood, mixture = self._weighed(evidence)
        shares = _shares(self._volume + np.array(evidence.seen))
        number = max(
            self._least,
            self._lowest(weights, shares, _at_least(compared)),
            min(self._start, self._proved(shares, likelihood, mixture)),
        )
        threshold = self.start if number == self._start else edge(number)
        chances = tuple(float(x) for x in weights @ _WRONG)
        probe = self._probed(number, chances, evidence)
        compare = 1.0 if compared < _LEARNT else _LATER
        wrong, low, high = (None, None, None) if number >= BINS else _interval(weights, shares[:, number])
        return Belief(Plan(threshold, probe, compare), wrong, low, high, chances)

    def _weighed(self, evidence: Evidence) -> tuple[Array, Array, float]:
        """The weight of each hypothesis, its log-likelihood, and that of all by their prior weights."""
        likelihood: Array = _LOG_WRONG @ np.array(evidence.wrong) + _LOG_RIGHT @ np.array(evidence.right)
        joint = self._prior + likelihood
        most = float(joint.max())
        weights = np.exp(joint - most)
        total = float(weights.sum())
        return weights / total, likelihood, most + math.log(total)

    def _lowest(self, weights: Array, shares: Array, probability: float) -> int:
        """The lowest bin at and above which the bound holds with this probability."""
        holds = np.nonzero(weights @ (shares <= self.max_wrong_rate) >= probability)[0]
        return int(holds[0]) if len(holds) else BINS

    def _proved(self, shares: Array, likelihood: Array, mixture: float) -> int:
        """The lowest bin at which all hypotheses that break the bound are refuted."""
        for number in range(BINS):
            breaking = shares[:, number] > self.max_wrong_rate
            if not breaking.any() or mixture - float(likelihood[breaking].max()) >= -math.log(ALPHA):
                return number
        return BINS

    def _probed(self, number: int, chances: Sequence[float], evidence: Evidence) -> tuple[float, ...]:
        if sum(evidence.seen[number:]) < _QUIET or self._rate <= 0:
            return _ZEROS
        eager = max(self._rate, _EAGER)
        rate = self._rate + (eager - self._rate) * max(0.0, 1 - evidence.probed / _ENOUGH)
        spread = [math.sqrt(p * (1 - p)) for p in chances]
        seen = evidence.seen[number:]
        mean = sum(s * n for s, n in zip(spread[number:], seen, strict=True)) / max(sum(seen), 1e-9)
        return tuple(
            min(_MOST_PROBED, rate * each / mean) if i >= number else 0.0 for i, each in enumerate(spread)
        )

    # -- what comes in --------------------------------------------------------------------------------------

    def note(self, evidence: Evidence, seen: Seen) -> Evidence:
        """Evidence with some lookups more; it starts anew where these find far fewer neighbours than usual."""
        if not seen.lookups:
            return evidence
        evidence = replace(evidence, hits=evidence.hits + seen.hits)
        total = evidence.lookups + seen.lookups
        share = seen.near / seen.lookups
        fast, slow = (
            mean + (share - mean) * max(seen.lookups / total, 1 - (1 - 1 / length) ** seen.lookups)
            for mean, length in ((evidence.near_fast, _FAST), (evidence.near_slow, _SLOW))
        )
        counts = list(evidence.seen)
        for number, count in seen.bins.items():
            counts[number] += count
        if total > _WARM and slow > 0.1 and fast < _FEWER * slow:
            return replace(
                _restarted(evidence),
                right=_scaled(evidence.right, _KEPT), wrong=_scaled(evidence.wrong, _KEPT),
                seen=_scaled(counts, _KEPT),
            )  # fmt: skip
        if sum(counts) > 2 * _MOST:
            counts = [count / 2 for count in counts]
        return replace(evidence, seen=tuple(counts), lookups=total, near_fast=fast, near_slow=slow)

    def learn(self, evidence: Evidence, found: Comparison) -> Evidence:
        """Evidence with one comparison more; it starts anew where too many come out wrong."""
        weights, _, _ = self._weighed(evidence)
        expected = float(weights @ _WRONG[:, found.bin])
        odds = math.log(expected / (1 - expected)) + _WORSE
        worse = 1 / (1 + math.exp(-odds))
        ratio = math.log(worse / expected) if found.wrong else math.log((1 - worse) / (1 - expected))
        grown = replace(
            evidence,
            alarm=max(0.0, evidence.alarm + ratio),
            compared=evidence.compared + 1,
            probes=evidence.probes + found.probe,
            probes_wrong=evidence.probes_wrong + (found.probe and found.wrong),
            probed=evidence.probed + found.probe,
            **_counted(evidence, found),
        )
        if grown.alarm <= _ALARM:
            return grown
        return replace(
            _restarted(grown), right=grown.recent_right, wrong=grown.recent_wrong,
            seen=_scaled(grown.seen, _KEPT), recent_right=_ZEROS, recent_wrong=_ZEROS,
        )  # fmt: skip

    def updated(
        self, evidence: Evidence, seen: Seen, found: Comparison | None, now: float
    ) -> tuple[Evidence, Belief]:
        """Evidence with all that has come in, a changed threshold in its history, and what follows from it."""
        after = self.note(evidence, seen)
        if found is not None:
            after = self.learn(after, found)
        belief = self.believe(after)
        before = evidence.history[-1].threshold if evidence.history else self.start
        threshold = belief.plan.threshold
        shown = 1.0 if math.isinf(threshold) else threshold
        if shown == before:
            return after, belief
        why = "restart" if after.restarts > evidence.restarts else "raised" if shown > before else "lowered"
        history = (*after.history, Change(int(now), shown, why))[-_HISTORY:]
        return replace(after, history=history), belief


def _shares(volume: Array) -> Array:
    """By hypothesis and bin, of what is served at that bin and above the share that is wrong."""
    shares: Array = np.cumsum((_WRONG * volume)[:, ::-1], axis=1)[:, ::-1] / np.cumsum(volume[::-1])[::-1]
    return shares


def _interval(weights: Array, shares: Array) -> tuple[float, float, float]:
    """The mean of shares by their weights, and the ends of the interval of 90 %."""
    order = np.argsort(shares)
    summed = np.cumsum(weights[order])
    low, high = (float(shares[order[min(int((summed < q).sum()), len(order) - 1)]]) for q in (0.05, 0.95))
    return float(weights @ shares), low, high


def _at_least(compared: float) -> float:
    first, last, enough = _RISES
    return first + (last - first) * min(1.0, compared / enough)


def _mixed(domains: Sequence[Domain]) -> Array:
    """The prior weight of each hypothesis."""
    weights = np.zeros(len(_WRONG))
    whole = sum(domain.weight for domain in domains)
    for domain in domains:
        right, wrong = np.array(domain.right), np.array(domain.wrong)
        strength = min(1.0, _STRENGTH / max(1.0, float(right.sum() + wrong.sum())))
        likelihood = (_LOG_WRONG @ wrong + _LOG_RIGHT @ right) * strength
        share = np.exp(likelihood - likelihood.max())
        weights += share / share.sum() * (domain.weight / whole)
    by_floor = weights.reshape(-1, len(_FLOORS))
    any_floor = by_floor.mean(axis=1, keepdims=True)
    mixed = (1 - _UNKNOWN_FLOOR) * by_floor + _UNKNOWN_FLOOR * any_floor
    prior: Array = ((1 - _ANYTHING) * mixed + _ANYTHING / mixed.size).ravel()
    return prior


def _usual(domains: Sequence[Domain]) -> Array:
    """The domains' lookups by bin, scaled down to what they count for; never 0, which would divide."""
    counts = np.zeros(BINS)
    for domain in domains:
        own = np.array(domain.right) + np.array(domain.wrong)
        counts += own / max(1.0, float(own.sum()))
    usual: Array = counts / max(counts.sum(), 1e-9) * _VOLUME + 0.1
    return usual


def _counted(evidence: Evidence, found: Comparison) -> dict[str, Any]:
    side = "wrong" if found.wrong else "right"
    counts: dict[str, tuple[float, ...]] = {}
    for prefix, most in (("", _MOST), ("recent_", _RECENT)):
        pair = {name: getattr(evidence, prefix + name) for name in ("right", "wrong")}
        pair[side] = tuple(n + (i == found.bin) for i, n in enumerate(pair[side]))
        if sum(itertools.chain(*pair.values())) > most:
            pair = {name: _scaled(row, 0.5) for name, row in pair.items()}
        counts |= {prefix + name: row for name, row in pair.items()}
    return counts


def _restarted(evidence: Evidence) -> Evidence:
    return replace(
        evidence, alarm=0.0, lookups=0.0, near_fast=0.0, near_slow=0.0, probed=0.0,
        restarts=evidence.restarts + 1,
    )  # fmt: skip


def _scaled(row: Sequence[float], factor: float) -> tuple[float, ...]:
    return tuple(x * factor for x in row)


def domain_of(points: Sequence[tuple[float, int, int]], weight: float = 1.0) -> Domain:
    """A domain from rising (score, served at or above it, of those wrong): what lies between two is in their bin."""
    right, wrong = [0.0] * BINS, [0.0] * BINS
    for (score, served, bad), (_, later, later_bad) in itertools.pairwise([*points, (math.inf, 0, 0)]):
        number = bin_of(score)
        if number is not None:
            wrong[number] += max(0, bad - later_bad)
            right[number] += max(0, (served - bad) - (later - later_bad))
    return Domain(tuple(right), tuple(wrong), weight)

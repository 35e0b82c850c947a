"""How a tenant's own traffic moves the score that a neighbour's answer must reach, so that the bound is kept there.

What is compared. Where a question was near a stored one and the provider answered all the same (because the score was
too low, or because a would-be hit was *probed*), the fresh answer is compared with the stored one: the same, alike or
other (`tenantgate.cache.core.answers`). Each comparison is counted in the bin of its score. Hits that nobody compares
are counted by bin, too: what share of the served is wrong depends on both.

What is believed. The chance that an answer is wrong falls with the verifier's log-odds x: ``floor + (1 - floor) *
sigmoid(level - slope * x)``. Each hypothesis is one (level, slope, floor) of a grid; its prior weight comes from
labelled traffic (`tenantgate.cache.core.calibration`), each domain taken for so little that a tenant's own comparisons
soon outweigh it. This is the idea of vCache (Schroeder et al. 2025), with a floor for what no score can tell.

A verdict isn't the truth: how often a right answer comes in other words, and looks other then, depends on the provider.
So each hypothesis has a kind of provider with it, two shares that are learnt along. What tells them apart from wrong
answers: equal words, which prove a right one; that the provider's share is the same at all scores; and *repeats*, the
same question sent to the provider again, whose two answers are right by definition.

When the threshold moves.

* It *falls* below the start only at a score where the hypotheses under which more than the bound would be wrong are
  refuted, whatever the provider: the likelihood of all, by their prior weights, is at least 1 / `ALPHA` times that of
  the best of these. That ratio is a test martingale under each of them, so by Ville's inequality it may be looked at
  after each comparison (Waudby-Smith and Ramdas 2020, Confidence sequences for sampling without replacement: the
  prior-posterior ratio).
* It *rises* where the bound is kept with a probability below `ALPHA`, given what is known of the provider: a rewording
  one alone silences nobody.
* It starts anew where comparisons come out worse than believed (Page's CUSUM on the likelihood ratio), or where
  questions suddenly find fewer neighbours than they used to: another kind of traffic, of which little is known.

Probes go where they tell most: a bin's share is proportional to the standard deviation of its outcomes (Neyman 1934).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tenantgate.cache.core.answers import Verdict
from tenantgate.cache.core.evidence import (
    BINS,
    FIRST,
    STEP,
    ZEROS,
    Change,
    Comparison,
    Evidence,
    Plan,
    Seen,
    bin_of,
    edge,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["ALPHA", "Belief", "Bound", "Domain", "domain_of"]

ALPHA: Final = 0.1
"""How likely at most the threshold falls where that breaks the bound, or rises where the bound is kept."""

_STRENGTH: Final = 60.0  # comparisons for which each domain of the prior counts
_UNKNOWN_FLOOR: Final = 0.5  # of the prior: that the floor isn't the domain's but any of the grid
_ANYTHING: Final = 0.1  # of the prior: that it is like no domain
_VOLUME: Final = 60.0  # would-be hits for which the domains' distribution over the bins counts

_MOST: Final = 2000.0  # comparisons that are remembered; beyond that all count half
_MOST_REPEATS: Final = 600.0
_RECENT: Final = 100.0  # comparisons at most from which it starts anew
_ALARM: Final = 4.0  # of the CUSUM: e to that power is the likelihood ratio that starts it anew
_WORSE: Final = 1.2  # log-odds by which the alternative of the CUSUM is worse than what is believed
_SETTLED: Final = 60.0  # comparisons before which nothing is believed firmly enough to be given up
_FAR_ABOVE: Final = 3.0  # and how many times the bound it is at least
_FEWER: Final = 0.45  # of the usual share of lookups that find a neighbour
_FAST: Final = 60.0  # lookups of the short mean
_SLOW: Final = 1000.0  # and of the long one
_WARM: Final = 300.0  # lookups before the two are compared
_KEPT: Final = 0.25  # of the evidence, where questions find fewer neighbours

_QUIET: Final = 30.0  # would-be hits before the first probe: a tenant's first paraphrases are all served
_EAGER: Final = 0.1  # the share that is probed while little is known
_ENOUGH: Final = 150.0  # probes after which it is `probe_rate`
_FEW_REPEATS: Final = 40.0  # up to which exact hits are probed at the eager share, too
_MOST_PROBED: Final = 0.5  # of one bin
_LEARNT: Final = 600.0  # comparisons after which of the misses with a neighbour only a part is compared
_LATER: Final = 0.25

_HISTORY: Final = 20

_LEVELS: Final = np.arange(-6, 3.01, 0.5)
_SLOPES: Final = np.array([0.0, 0.15, 0.35, 0.6, 0.9])
_FLOORS: Final = np.array([0.0, 0.003, 0.01, 0.03, 0.1])

_ODD: Final = np.array([0.005, 0.01, 0.02, 0.035, 0.06, 0.1, 0.17, 0.3, 0.5])
"""Providers that reword, in kinds: share of the right answers that look other. Equal words and alike ones are one."""
_ODD_WEIGHTS: Final = np.array([0.22, 0.22, 0.22, 0.12, 0.1, 0.087, 0.03, 0.002, 0.001])
"""Their prior weights: 1 to 2 % were measured."""
_EQUAL: Final = np.array([0.9, 0.95, 0.975, 0.99, 0.997])
"""Providers that repeat themselves: share of the right answers in the stored one's words. Alike and other ones are one.
They weigh as much as those that reword."""
_TELLING: Final = 0.7
"""Share of the wrong answers that look other: fewer than was measured (`tenantgate.cache.core.answers.FAR_ANSWERS`),
so that more are thought wrong rather than fewer."""
_CHANCE: Final = 0.001  # that a wrong answer has the same words


def _grid() -> Array:
    """For each hypothesis and bin the chance that an answer is wrong; falls from bin to bin."""
    level, slope, floor = (axis.ravel() for axis in np.meshgrid(_LEVELS, _SLOPES, _FLOORS, indexing="ij"))
    odds = FIRST + STEP * (np.arange(BINS) + 0.5)
    sigmoid = 1 / (1 + np.exp(slope[:, None] * odds - level[:, None]))
    chances: Array = np.clip(floor[:, None] + (1 - floor[:, None]) * sigmoid, 1e-4, 1 - 1e-4)
    return chances


_WRONG: Final = _grid()


def _verdicts() -> tuple[Array, Array]:
    """By kind of provider: chances of each verdict (in their order) on a right answer; and on a wrong one.

    Two verdicts that a kind takes for one have the chance of either.
    """
    reword = np.stack([1 - _ODD, 1 - _ODD, _ODD], axis=1)
    repeat = np.stack([_EQUAL, 1 - _EQUAL, 1 - _EQUAL], axis=1)
    wrong = [(1 - _TELLING, 1 - _TELLING, _TELLING)] * len(_ODD)
    wrong += [(_CHANCE, 1 - _CHANCE, 1 - _CHANCE)] * len(_EQUAL)
    return np.concatenate([reword, repeat]), np.array(wrong)


_IF_RIGHT, _IF_WRONG = _verdicts()
_KINDS: Final = len(_IF_RIGHT)
_KIND_WEIGHTS: Final = np.concatenate([_ODD_WEIGHTS, np.full(len(_EQUAL), 1 / len(_EQUAL))]) / 2


def _logs() -> NDArray[np.float32]:
    """The log of the chance of each verdict in each bin: (kinds x hypotheses, verdicts x bins)."""
    chances = (1 - _WRONG)[None, :, None, :] * _IF_RIGHT[:, None, :, None]
    chances = chances + _WRONG[None, :, None, :] * _IF_WRONG[:, None, :, None]
    return np.log(chances).reshape(_KINDS * len(_WRONG), -1).astype(np.float32)


_LOGS: Final = _logs()


@dataclass(frozen=True, slots=True)
class Domain:
    """Labelled traffic: by bin, pairs that were right and wrong. `weight` is how likely a tenant's is of its kind."""

    right: tuple[float, ...]
    wrong: tuple[float, ...]
    weight: float = 1.0


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
        self._prior = np.log(_KIND_WEIGHTS)[:, None] + np.log(_mixed(domains))
        self._volume = _usual(domains)
        self._least = next((i for i in range(BINS) if edge(i) >= least), BINS)
        if start is None:
            shares = _shares(self._volume)
            start = edge(max(self._least, self._lowest(_mixed(domains), shares, 0.5)))
        self.start = start
        self._start = next((i for i in range(BINS) if edge(i) >= start), BINS)

    def believe(self, evidence: Evidence) -> Belief:
        """What follows from evidence."""
        compared = sum(map(sum, _counts(evidence)))
        joint, likelihood, mixture = self._weighed(evidence)
        weights = joint.sum(axis=0)
        shares = _shares(self._volume + np.array(evidence.seen))
        number = max(
            self._least,
            self._lowest(weights, shares, ALPHA),
            min(self._start, self._proved(shares, likelihood, mixture)),
        )
        threshold = self.start if number == self._start else edge(number)
        chances = tuple(float(x) for x in weights @ _WRONG)
        plan = Plan(
            threshold,
            self._probed(number, chances, evidence),
            compare=1.0 if compared < _LEARNT else _LATER,
            repeat=self._repeated(evidence),
        )
        wrong, low, high = (None, None, None) if number >= BINS else _interval(weights, shares[:, number])
        return Belief(plan, wrong, low, high, chances)

    def _weighed(self, evidence: Evidence) -> tuple[Array, Array, float]:
        """The weight of each kind and hypothesis; by hypothesis the greatest log-likelihood; that of all."""
        counts = _counts(evidence)
        # Not by BLAS, whose threads cost more than they save for so little.
        found = np.einsum("ij,j->i", _LOGS, np.array(counts, np.float32).ravel())
        likelihood = found.astype(float).reshape(_KINDS, -1)
        same, alike, other = map(sum, counts)
        likelihood += (_split(same, alike, other) + _of_repeats(evidence))[:, None]
        joint = self._prior + likelihood
        most = float(joint.max())
        weights = np.exp(joint - most)
        total = float(weights.sum())
        return weights / total, likelihood.max(axis=0), most + math.log(total)

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
            return ZEROS
        eager = max(self._rate, _EAGER)
        rate = self._rate + (eager - self._rate) * max(0.0, 1 - evidence.probed / _ENOUGH)
        spread = [math.sqrt(p * (1 - p)) for p in chances]
        seen = evidence.seen[number:]
        mean = sum(s * n for s, n in zip(spread[number:], seen, strict=True)) / max(sum(seen), 1e-9)
        return tuple(
            min(_MOST_PROBED, rate * each / mean) if i >= number else 0.0 for i, each in enumerate(spread)
        )

    def _repeated(self, evidence: Evidence) -> float:
        count = evidence.repeats_same + evidence.repeats_alike + evidence.repeats_other
        if count < _FEW_REPEATS and self._rate > 0:
            return max(self._rate, _EAGER)
        return self._rate if count < _ENOUGH else self._rate * _LATER

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
            kept: dict[str, Any] = {name: _scaled(getattr(evidence, name), _KEPT) for name in _NAMES}
            return replace(_restarted(evidence), seen=_scaled(counts, _KEPT), **kept)
        if sum(counts) > 2 * _MOST:
            counts = [count / 2 for count in counts]
        return replace(evidence, seen=tuple(counts), lookups=total, near_fast=fast, near_slow=slow)

    def learn(self, evidence: Evidence, found: Comparison) -> Evidence:
        """Evidence with one comparison more; it starts anew where these come out worse than believed."""
        if found.bin is None:
            return _repeated(evidence, found.verdict)
        alarm = 0.0
        if sum(map(sum, _counts(evidence))) >= _SETTLED:
            alarm = max(0.0, evidence.alarm + self._surprise(evidence, found.bin, found.verdict))
        # The likeliest time of a change is when the sum was 0 last: from there on the recent ones count.
        known = evidence if evidence.alarm else replace(evidence, **_FORGOTTEN)
        grown = replace(
            known,
            alarm=alarm,
            compared=evidence.compared + 1,
            probes=evidence.probes + found.probe,
            probes_other=evidence.probes_other + (found.probe and found.verdict is Verdict.OTHER),
            probed=evidence.probed + found.probe,
            **_counted(known, found.bin, found.verdict),
        )
        if grown.alarm <= _ALARM:
            return grown
        recent: dict[str, Any] = {name: getattr(grown, f"recent_{name}") for name in _NAMES}
        return replace(_restarted(grown), seen=_scaled(grown.seen, _KEPT), **recent, **_FORGOTTEN)

    def _surprise(self, evidence: Evidence, number: int, verdict: Verdict) -> float:
        """The log-likelihood ratio of a verdict if answers were worse than believed, to that of what is believed."""
        weights, _, _ = self._weighed(evidence)
        at = list(Verdict).index(verdict)
        right, wrong = (float(weights.sum(axis=1) @ chances[:, at]) for chances in (_IF_RIGHT, _IF_WRONG))
        expected = float(weights.sum(axis=0) @ _WRONG[:, number])
        odds = math.log(expected / (1 - expected)) + _WORSE
        worse = max(1 / (1 + math.exp(-odds)), min(0.5, _FAR_ABOVE * self.max_wrong_rate))
        if worse <= expected:
            return 0.0
        return math.log((right + worse * (wrong - right)) / (right + expected * (wrong - right)))

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


def _mixed(domains: Sequence[Domain]) -> Array:
    """The prior weight of each hypothesis."""
    weights = np.zeros(len(_WRONG))
    whole = sum(domain.weight for domain in domains)
    for domain in domains:
        right, wrong = np.array(domain.right), np.array(domain.wrong)
        strength = min(1.0, _STRENGTH / max(1.0, float(right.sum() + wrong.sum())))
        likelihood = (np.log(_WRONG) @ wrong + np.log(1 - _WRONG) @ right) * strength
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


_NAMES: Final = tuple(verdict.value for verdict in Verdict)


_FORGOTTEN: Final[dict[str, Any]] = {f"recent_{name}": ZEROS for name in _NAMES}


def _counts(evidence: Evidence) -> list[tuple[float, ...]]:
    return [getattr(evidence, name) for name in _NAMES]


def _split(same: float, alike: float, other: float) -> Array:
    """By kind of provider the log-likelihood of how those split that it takes for one, whatever their shares."""
    return np.repeat([_log_beta(same, alike), _log_beta(alike, other)], [len(_ODD), len(_EQUAL)])


def _of_repeats(evidence: Evidence) -> Array:
    """The log-likelihood of the repeats by kind of provider.

    How many come in the same words tells nothing of one that rewords: a model may answer a question that is asked again
    in the same words, and the same question in other words in others.
    """
    same, alike, other = evidence.repeats_same, evidence.repeats_alike, evidence.repeats_other
    reword = alike * np.log(1 - _ODD) + other * np.log(_ODD) + _log_beta(same, alike + other)
    repeat = same * np.log(_EQUAL) + (alike + other) * np.log(1 - _EQUAL) + _log_beta(alike, other)
    return np.concatenate([reword, repeat])


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a + 1) + math.lgamma(b + 1) - math.lgamma(a + b + 2)


def _repeated(evidence: Evidence, verdict: Verdict) -> Evidence:
    counts: dict[str, Any] = {
        f"repeats_{name}": getattr(evidence, f"repeats_{name}") + (name == verdict) for name in _NAMES
    }
    if sum(counts.values()) > _MOST_REPEATS:
        counts = {name: count / 2 for name, count in counts.items()}
    return replace(evidence, **counts)


def _counted(evidence: Evidence, number: int, verdict: Verdict) -> dict[str, Any]:
    counts: dict[str, tuple[float, ...]] = {}
    for prefix, most in (("", _MOST), ("recent_", _RECENT)):
        rows = {name: getattr(evidence, prefix + name) for name in _NAMES}
        rows[verdict] = tuple(n + (i == number) for i, n in enumerate(rows[verdict]))
        if sum(itertools.chain(*rows.values())) > most:
            rows = {name: _scaled(row, 0.5) for name, row in rows.items()}
        counts |= {prefix + name: row for name, row in rows.items()}
    return counts


def _restarted(evidence: Evidence) -> Evidence:
    return replace(
        evidence,
        alarm=0.0,
        lookups=0.0,
        near_fast=0.0,
        near_slow=0.0,
        probed=0.0,
        restarts=evidence.restarts + 1,
    )


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

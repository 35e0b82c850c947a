"""Comparing pairs: the same request to two targets, moments apart.

A machine's speed drifts over minutes, so two runs one after the other compare two times of the day. Here each request
goes to both targets within one slot; quantities are taken from the pairs, and the bootstrap draws whole pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUANTILES", "Comparison", "Estimate", "compare", "quantiles"]

QUANTILES: Final = (50, 95, 99)
_DRAWS: Final = 1000
_CHUNK: Final = 100
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A target beside the bare route; milliseconds, and plain numbers for ratios.

    Attributes:
        pairs: how many pairs there were.
        bare: quantiles of the bare route, by percent (``p50`` …).
        with_us: quantiles of the target.
        added: quantile of the target less the same quantile of the bare route.
        by_pair: quantiles of the pairs' differences. Where two targets are the same, their upper quantiles aren't
            zero but the noise of the machine.
        ratio: quantile of the target over the same quantile of the bare route.
    """

    pairs: int
    bare: Mapping[str, float]
    with_us: Mapping[str, float]
    added: Mapping[str, Estimate]
    by_pair: Mapping[str, Estimate]
    ratio: Mapping[str, Estimate]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """The `QUANTILES` of some values; empty for none."""
    if not values:
        return {}
    return {f"p{q}": float(v) for q, v in zip(QUANTILES, np.percentile(values, QUANTILES), strict=True)}


def compare(bare_ms: Sequence[float], ours_ms: Sequence[float], *, seed: int = 1) -> Comparison:
    """Compare times of pairs: `bare_ms` and `ours_ms` belong together place by place.

    Raises:
        ValueError: they aren't equally long.
    """
    if len(bare_ms) != len(ours_ms):
        raise ValueError(f"{len(bare_ms)} and {len(ours_ms)} values are no pairs")
    if not bare_ms:
        return Comparison(0, {}, {}, {}, {}, {})
    a, b = np.asarray(bare_ms, float), np.asarray(ours_ms, float)
    rng = np.random.default_rng(seed)
    draws: list[list[Floats]] = [[], [], []]
    for _ in range(_DRAWS // _CHUNK):
        drawn = rng.integers(0, len(a), size=(_CHUNK, len(a)))
        for kept, values in zip(draws, _measures(a[drawn], b[drawn]), strict=True):
            kept.append(values)
    added, by_pair, ratio = (
        _estimates(value, np.concatenate(kept, axis=1))
        for value, kept in zip(_measures(a, b), draws, strict=True)
    )
    return Comparison(len(a), quantiles(bare_ms), quantiles(ours_ms), added, by_pair, ratio)


def _measures(a: Floats, b: Floats) -> tuple[Floats, Floats, Floats]:
    """Added, by pair, ratio: a row for each of the `QUANTILES`, a column for each row of `a` and `b`."""
    bare, ours = np.percentile(a, QUANTILES, axis=-1), np.percentile(b, QUANTILES, axis=-1)
    return ours - bare, np.percentile(b - a, QUANTILES, axis=-1), ours / bare


def _estimates(values: Floats, draws: Floats) -> dict[str, Estimate]:
    low, high = np.percentile(draws, (2.5, 97.5), axis=1)
    return {
        f"p{q}": Estimate(float(v), float(lo), float(hi))
        for q, v, lo, hi in zip(QUANTILES, values, low, high, strict=True)
    }

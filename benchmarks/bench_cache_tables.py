"""What the cache serves of pairs that want two answers, and of paraphrases that want one: the project's own tables.

    python benchmarks/bench_cache_tables.py [--max-wrong-rate R] [--verifier NAME] [--show N]

For each kind: pairs, those that the rules alone would let through (with a model that always says yes), and those that
the models then serve at the score that the bound asks for. The decision's cost is printed last.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from cache_pairs import (
    Apart,
    character_pairs,
    clause_pairs,
    edit_pairs,
    everyday_questions,
    paraphrases,
    table_pairs,
)

from tenantgate.cache.config import VERIFIERS, CacheConfig
from tenantgate.cache.core.alignment import compare
from tenantgate.cache.core.fitness import unfit
from tenantgate.cache.core.judge import NEAR, difference
from tenantgate.cache.core.text_parts import read
from tenantgate.cache.models import CacheModels
from tenantgate.cache.service import MODELS
from tenantgate.fields import fields_of
from tenantgate.models.language import Languages
from tenantgate.models.ports import BUILT_IN

__all__ = ["bench_tables"]

Json = dict[str, Any]
LANGUAGES: Final = Languages()
PROMPT: Final = (
    "I am planning a dinner for eight people on Saturday and one of my guests is allergic to {}, another one doesn't "
    "eat meat, and two are children who like neither fish nor hot spices; the kitchen is small and I have one oven "
    "only. Which starter, main course and dessert could I prepare the day before, how long would each of them take, "
    "and what should I buy in which shop of a small town so that all is fresh and costs no more than a hundred euros?"
)
"""About a hundred tokens."""
ROUNDS: Final = 300


@dataclass(slots=True)
class Count:
    """What became of the pairs of one kind."""

    pairs: int = 0
    passed: int = 0
    served: int = 0
    examples: list[Apart] = field(default_factory=list)


class Decision:
    """The whole decision on a pair, stage by stage."""

    def __init__(self, models: CacheModels, threshold: float) -> None:
        self._models, self._threshold = models, threshold

    @staticmethod
    def passes(a: str, b: str) -> bool:
        """Whether the rules let the pair through, however sure a model would be."""
        if any(unfit(text, LANGUAGES) is not None for text in (a, b)):
            return False
        return difference(a, b) is None

    def serves(self, a: str, b: str) -> bool:
        """Whether the models then find it the same."""
        embedder, verifier = self._models.embedder, self._models.verifier
        if embedder.truncates(a) or embedder.truncates(b) or verifier.truncates(a, b):
            return False
        left, right = embedder.read(a), embedder.read(b)
        cosine = float(left.vector @ right.vector)
        states = {text: r.states for text, r in ((a, left), (b, right)) if r.states is not None}
        return cosine >= NEAR and verifier.score(a, b, cosine, states) >= self._threshold


def _everyday() -> Iterator[Apart]:
    for language, questions in everyday_questions().items():
        for a, b in itertools.combinations(questions, 2):
            yield Apart(language, a, b)


def _counted(pairs: Iterable[Apart], decision: Decision) -> dict[str, Count]:
    counts: defaultdict[str, Count] = defaultdict(Count)
    for pair in pairs:
        if pair.a == pair.b:
            continue
        count = counts[pair.kind]
        count.pairs += 1
        if decision.passes(pair.a, pair.b):
            count.passed += 1
            if decision.serves(pair.a, pair.b):
                count.served += 1
                count.examples.append(pair)
    return dict(counts)


def _print(title: str, counts: dict[str, Count], show: int) -> Json:
    total = Count(*(sum(getattr(c, name) for c in counts.values()) for name in ("pairs", "passed", "served")))
    print(
        f"\n  {title}: {total.pairs:,} pairs, {total.passed} pass the rules, {total.served} served "
        f"({total.served / max(1, total.pairs):.2%})",
        flush=True,
    )
    for kind, count in counts.items():
        if count.passed or len(counts) < 12:
            print(f"    {kind:<14} {count.pairs:>6} pairs {count.passed:>5} pass {count.served:>5} served")
        for pair in count.examples[:show]:
            print(f"      {pair.a!r} | {pair.b!r}")
    kinds = {kind: (count.pairs, count.passed, count.served) for kind, count in counts.items()}
    return {"pairs": total.pairs, "passed": total.passed, "served": total.served, "kinds": kinds}


def bench_tables(models: CacheModels, threshold: float, show: int = 0) -> Json:
    """Print and give what is served of each table, and the cost of the decision."""
    decision = Decision(models, threshold)
    tables: dict[str, Iterable[Apart]] = {
        "a clause more": clause_pairs(),
        "characters that no model reads": character_pairs(),
        "signs, code, options, paths, units, roles": table_pairs("cache_signs.toml"),
        "English near misses, by hand": table_pairs("cache_edits.toml"),
        "English near misses, one edit of a template": edit_pairs(),
        "near misses in 21 languages": table_pairs("cache_languages.toml"),
        "different questions in 21 languages": _everyday(),
    }
    print("pairs that want two answers")
    out: Json = {title: _print(title, _counted(pairs, decision), show) for title, pairs in tables.items()}
    same = [pair for pair in dict.fromkeys(paraphrases()) if pair[0] != pair[1]]
    kept = [pair for pair in same if decision.passes(*pair)]
    served = sum(decision.serves(*pair) for pair in kept)
    print(
        f"\n  paraphrases by template: {len(same):,}, {len(kept) / len(same):.1%} pass the rules, "
        f"{served / len(same):.1%} served",
        flush=True,
    )
    out["paraphrases"] = {"pairs": len(same), "passed": len(kept), "served": served}
    out["cost_us"] = _cost()
    return out


def _cost() -> Json:
    """Processor time of the rules for a prompt of about a hundred tokens with four neighbours, in microseconds."""
    asked = PROMPT.format("nuts")

    def language() -> None:
        unfit(asked, LANGUAGES)

    def question() -> None:
        read.__wrapped__(asked)

    def near() -> None:
        for word in ("eggs", "milk", "wheat", "salt"):
            difference(asked, PROMPT.format(word))

    def same() -> None:
        compare(read.__wrapped__(asked + " please"), read(asked))

    figures = {f.__name__: _best(f) for f in (language, question, near, same)}
    names = {
        "language": "fitness",
        "question": "reading the question",
        "near": "four near misses beside it",
        "same": "reading and comparing one that is the same",
    }
    shown = ", ".join(f"{names[name]} {value:.0f} µs" for name, value in figures.items())
    print(f"\n  cost of 100 tokens: {shown}")
    return figures


def _best(of: Any) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        of()
        times.append(time.perf_counter() - start)
    return float(np.percentile(times, 10)) * 1e6


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description="What the semantic cache serves of the project's own tables."
    )
    parser.add_argument(
        "--max-wrong-rate", type=float, default=fields_of(CacheConfig)["max_wrong_rate"].default
    )
    parser.add_argument("--verifier", choices=VERIFIERS, default=BUILT_IN)
    parser.add_argument(
        "--show", type=int, default=0, metavar="N", help="examples of each kind that are served"
    )
    args = parser.parse_args(argv)
    models = MODELS.load(BUILT_IN, args.verifier)
    if models is None:
        print("error: the models can't be loaded", file=sys.stderr)
        return 2
    threshold = models.calibration.threshold_for(args.max_wrong_rate)
    bench_tables(models, 0.5 if threshold is None else threshold, args.show)
    return 0


if __name__ == "__main__":
    sys.exit(main())

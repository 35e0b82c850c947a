"""How often a near stored question needs another answer, measured on several domains: the shipped calibration.

    python training/calibrate_traffic.py PAIRS.jsonl INTENTS.jsonl [OTHER.jsonl …] [--verifier large] [--out FILE]

INTENTS and OTHERs have ``text``, ``intent`` a line. Each file is a domain, replayed in random order, each text asked
once: of what was stored before, the neighbour that `tenantgate.cache.core.judge.choose` would serve at the lowest
score is right if its intent is the same, and the text is stored unless that score is `KEPT` or above, as a cache that
serves it would do. PAIRS (``a``, ``b``, ``same``) are a domain, too: the texts of pairs, those of one intent that are
the same by their labels. There every question has one beside it that was chosen for being hard to tell apart, so it
weighs less.

Only requests that the verifier wasn't trained on are counted (the split of ``train_verifier.py``), but all of INTENTS
are stored, so that each meets as many neighbours as real traffic has.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from train_verifier import split
from verifier_pairs import Pair, Request, components, read_pairs, read_requests

from tenantgate.cache.config import VERIFIERS
from tenantgate.cache.core import judge
from tenantgate.cache.core import text_parts as wording
from tenantgate.cache.core.calibration import Calibration, Point, Traffic
from tenantgate.cache.core.evidence import BINS, edge
from tenantgate.cache.core.judge import NEAR, Candidate, choose
from tenantgate.cache.core.ports import PairReader
from tenantgate.cache.core.verifier_cascade import Cascade
from tenantgate.cache.verifier import STAGES, calibration_file, load_readers
from tenantgate.errors import EdgeError
from tenantgate.models.files import ModelFiles, find_models
from tenantgate.models.ports import BUILT_IN

BOUNDS = (0.01, 0.02, 0.03, 0.05, 0.1)
KEPT = 0.9
"""The score from which a request counts as served, and isn't stored."""
MOST_NEIGHBOURS = 4  # as many as the plugin's default asks Redis for
HARD = 0.5
"""What a domain of hard pairs weighs beside one of traffic."""


class Remembering:
    """A reader that reads each pair once in all replays."""

    def __init__(self, reader: PairReader, states: Mapping[str, bytes]) -> None:
        self._read = lru_cache(maxsize=None)(lambda a, b: reader.log_odds(a, b, states))
        self.truncates = lru_cache(maxsize=None)(reader.truncates)
        self.fingerprint = reader.fingerprint

    def log_odds(self, a: str, b: str, states: Mapping[str, bytes]) -> float:  # noqa: ARG002 - has them all
        """As the reader says."""
        return self._read(a, b)


class Replayed:
    """The requests of a domain, each with its neighbours above the cosine that counts, the nearest first."""

    def __init__(self, files: ModelFiles, verifier: str, requests: Sequence[Request]) -> None:
        embedder = files.embedder()
        readings = {request.text: embedder.read(request.text) for request in requests}
        vectors = np.array([readings[request.text].vector for request in requests])
        states = {text: reading.states or b"" for text, reading in readings.items()}
        self.requests = requests
        readers = [Remembering(reader, states) for reader in load_readers(verifier, files)]
        self.verifier = Cascade(readers, STAGES[verifier])
        self._intents = {request.text: request.intent for request in requests}
        self._near: list[list[tuple[int, float]]] = []
        for i in range(len(requests)):
            cosines = vectors @ vectors[i]
            cosines[i] = -1
            order = np.argsort(-cosines)[: int((cosines >= NEAR).sum())]
            self._near.append([(int(j), float(cosines[j])) for j in order])

    def replay(self, seed: int) -> Iterator[tuple[Request, float, bool]]:
        """The requests with a neighbour that no rule excludes: its score, and whether its intent is the same."""
        stored: set[int] = set()
        for i in random.Random(seed).sample(range(len(self.requests)), len(self.requests)):
            asked = self.requests[i]
            best = choose(asked.text, self._stored(i, stored), self.verifier, 2.0)  # which no score reaches
            if best is not None:
                yield asked, best.score, best.candidate.answer == asked.intent
            if best is None or best.score < KEPT:
                stored.add(i)

    def _stored(self, i: int, stored: set[int]) -> Iterator[Candidate[str]]:
        left = MOST_NEIGHBOURS
        for j, cosine in self._near[i]:
            if j in stored:
                near = self.requests[j]
                yield Candidate(cosine, near.text, self._intents[near.text])
                left -= 1
                if left == 0:
                    return


def of_pairs(pairs: Iterable[Pair], most: int, seed: int = 1) -> list[Request]:
    """The texts of pairs as requests, at most so many; of one intent are those that labels join."""
    pairs = list(pairs)
    joined = components(pair for pair in pairs if pair.same)
    random.Random(seed).shuffle(pairs)
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.a, pair.b)))
    return [Request(text, joined.get(text, text)) for text in texts[:most]]


def table(replayed: Replayed, counted: set[str], seeds: int) -> tuple[Point, ...]:
    """What `seeds` orders of a domain give, as counts of one."""
    drawn = [
        (score, right)
        for seed in range(seeds)
        for request, score, right in replayed.replay(seed)
        if request.text in counted
    ]
    points = []
    for score in (edge(number) for number in range(BINS)):
        served = [right for found, right in drawn if found >= score]
        # Several orders steady the curve but aren't more evidence: each request counts once.
        points.append(
            Point(
                round(score, 6), round(len(served) / seeds), round(served.count(False) / seeds), len(counted)
            )
        )
    return tuple(points)


def main(argv: list[str] | None = None) -> int:
    """Replay, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path)
    parser.add_argument("intents", type=Path, help="what the verifier was trained on in part")
    parser.add_argument("others", type=Path, nargs="*", help="more domains, which it wasn't trained on")
    parser.add_argument("--verifier", choices=VERIFIERS, default=BUILT_IN)
    parser.add_argument("--out", type=Path, help="default: where it ships")
    parser.add_argument("--seeds", type=int, default=4, help="orders to average (default: %(default)s)")
    parser.add_argument("--most", type=int, default=6000, help="texts of a domain (default: %(default)s)")
    args = parser.parse_args(argv)
    judge.__dict__["read"] = lru_cache(maxsize=None)(
        wording.read.__wrapped__
    )  # the same texts come again and again
    files = find_models()
    if files is None:
        raise EdgeError("the models aren't built: run `tenantgate models build`")
    intents = read_requests(args.intents)
    data = split(read_pairs(args.pairs), intents)
    held = {request.text for request in (*data.held_intents, *data.held_texts)}
    named = [
        (args.intents.stem, intents, 1.0),
        *((path.stem, read_requests(path), 1.0) for path in args.others),
    ]
    named.append((args.pairs.stem, of_pairs(data.held, args.most), HARD))
    domains = []
    fingerprint = ""
    for name, whole, weight in named:
        requests = list({request.text: request for request in whole}.values())[: args.most]
        counted = held if name == args.intents.stem else {request.text for request in requests}
        replayed = Replayed(files, args.verifier, requests)
        fingerprint = replayed.verifier.fingerprint
        points = table(replayed, counted & {request.text for request in requests}, args.seeds)
        domains.append(Traffic(name, points, weight))
        print(f"{name}: {len(requests)} requests, {points[0].positives} counted; weight {weight:g}")
        for point in points[::2]:
            share = point.served / max(1, point.positives)
            print(
                f"  {point.score:.4f}  {share:6.1%} found, of them wrong {point.wrong_rate:.4f}", flush=True
            )
    made = Calibration(
        verifier=fingerprint,
        embedder=files.embedder().fingerprint,
        source="replays of "
        + ", ".join(f"{each.name} ({each.points[0].positives} counted)" for each in domains)
        + " in random order, each text asked once; only texts held out from training are counted",
        domains=tuple(domains),
    )
    for bound in BOUNDS:
        print(f"max_wrong_rate {bound:g} begins at {made.threshold_for(bound)}")
    text = made.to_json()
    Calibration.from_json(text)
    (args.out or calibration_file(args.verifier)).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

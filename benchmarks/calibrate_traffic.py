"""Measure how often the whole decision is wrong on traffic, and write that as the shipped calibration.

    python benchmarks/calibrate_traffic.py PAIRS.jsonl INTENTS.jsonl [--verifier large] [--out calibration.json]

Replays INTENTS (``text``, ``intent`` a line) in random order at rising scores, each text asked once: a request is
answered by `tenantgate.cache.judge.choose` from those that were stored before it, and stored if it isn't. Right is
an answer to the same intent. Only requests that the verifier wasn't trained on are counted (the split of
``train_verifier.py``, hence PAIRS), but all are stored, so each meets as many neighbours as real traffic has.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from train_verifier import split
from verifier_pairs import Request, read_pairs, read_requests

from tenantgate.cache import judge, wording
from tenantgate.cache.calibration import Calibration, Point, upper_wrong_rate
from tenantgate.cache.cascade import Cascade
from tenantgate.cache.config import BUILT_IN, VERIFIERS
from tenantgate.cache.judge import NEAR, choose
from tenantgate.cache.ports import PairReader
from tenantgate.edge.models import (
    STAGES,
    ModelFiles,
    calibration_file,
    find_models,
    load_readers,
)
from tenantgate.errors import EdgeError

SCORES = (*np.arange(0.3, 0.56, 0.04).round(3), *np.arange(0.56, 0.98, 0.02).round(3), 0.98)
MOST_NEIGHBOURS = 4  # as many as the plugin's default asks Redis for


class Remembering:
    """A reader that reads each pair once in all replays."""

    def __init__(self, reader: PairReader, states: Mapping[str, bytes]) -> None:
        self._read = lru_cache(maxsize=None)(lambda a, b: reader.log_odds(a, b, states))
        self.truncates = lru_cache(maxsize=None)(reader.truncates)
        self.fingerprint = reader.fingerprint

    def log_odds(self, a: str, b: str, states: Mapping[str, bytes]) -> float:  # noqa: ARG002 - has them all
        """As the reader says."""
        return self._read(a, b)


class Traffic:
    """All requests, each with its neighbours above the cosine that counts, the nearest first."""

    def __init__(self, files: ModelFiles, verifier: str, requests: list[Request]) -> None:
        embedder = files.embedder()
        readings = {request.text: embedder.read(request.text) for request in requests}
        vectors = np.array([readings[request.text].vector for request in requests])
        states = {text: reading.states or b"" for text, reading in readings.items()}
        self.requests = requests
        readers = [Remembering(reader, states) for reader in load_readers(verifier, files)]
        self.verifier = Cascade(readers, STAGES[verifier])
        self._near: list[list[tuple[int, float]]] = []
        for i in range(len(requests)):
            cosines = vectors @ vectors[i]
            cosines[i] = -1
            order = np.argsort(-cosines)[: int((cosines >= NEAR).sum())]
            self._near.append([(int(j), float(cosines[j])) for j in order])

    def replay(self, score: float, seed: int) -> list[tuple[Request, Request]]:
        """The requests that were answered, each with the one whose answer it got."""
        stored: set[int] = set()
        served: list[tuple[Request, Request]] = []
        for i in random.Random(seed).sample(range(len(self.requests)), len(self.requests)):
            asked = self.requests[i]
            found = choose(asked.text, self._stored(i, stored), self.verifier, score)
            if found is None:
                stored.add(i)
            else:
                served.append((asked, self.requests[found]))
        return served

    def _stored(self, i: int, stored: set[int]) -> Iterator[tuple[float, str, int]]:
        left = MOST_NEIGHBOURS
        for j, cosine in self._near[i]:
            if j in stored:
                yield cosine, self.requests[j].text, j
                left -= 1
                if left == 0:
                    return


def mistakes(served: list[tuple[Request, Request]]) -> int:
    """How many got the answer to another intent."""
    return sum(asked.intent != found.intent for asked, found in served)


def main(argv: list[str] | None = None) -> int:
    """Replay, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path)
    parser.add_argument("intents", type=Path)
    parser.add_argument("--verifier", choices=VERIFIERS, default=BUILT_IN)
    parser.add_argument("--out", type=Path, help="default: where it ships")
    parser.add_argument(
        "--seeds", type=int, default=10, help="orders of the traffic to average (default: 10)"
    )
    args = parser.parse_args(argv)
    judge.__dict__["read"] = lru_cache(maxsize=None)(
        wording.read.__wrapped__
    )  # the same texts come again and again
    files = find_models()
    if files is None:
        raise EdgeError("the models aren't built: run `tenantgate models build`")
    requests = read_requests(args.intents)
    data = split(read_pairs(args.pairs), requests)
    counted = {request.text for request in (*data.held_intents, *data.held_texts)}
    traffic = Traffic(files, args.verifier, requests)
    print(f"{len(counted)} requests held out from training, of {len(requests)}")
    print("score   hits   wrong  at most |  hits of all   wrong")
    points: list[Point] = []
    for score in map(float, SCORES):
        drawn = [pair for seed in range(args.seeds) for pair in traffic.replay(score, seed)]
        held = [(asked, found) for asked, found in drawn if asked.text in counted]
        # Several orders steady the curve but aren't more evidence: each request counts once.
        served, wrong = (round(count / args.seeds) for count in (len(held), mistakes(held)))
        if points:
            served = min(served, points[-1].served)  # rises of a hit or two with the score are chance
        points.append(Point(score, served, wrong, len(counted)))
        print(
            f"{score:5.3f}  {served / len(counted):.3f}  {wrong / max(1, served):.4f}  "
            f"{upper_wrong_rate(wrong, served):.4f}  | {len(drawn) / args.seeds / len(requests):12.3f}  "
            f"{mistakes(drawn) / max(1, len(drawn)):.4f}",
            flush=True,
        )
    table = Calibration(
        verifier=traffic.verifier.fingerprint,
        embedder=files.embedder().fingerprint,
        source=f"replay of {len(requests)} assistant requests in random order, each asked once; counted are the "
        f"{len(counted)} held out from training; right means the same intent",
        points=tuple(points),
    )
    text = table.to_json()
    Calibration.from_json(text)
    (args.out or calibration_file(args.verifier)).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

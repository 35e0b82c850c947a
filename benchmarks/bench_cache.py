"""The semantic cache's quality on labelled pairs, on a replay of traffic, and its latency.

    python benchmarks/bench_cache.py --pairs PAIRS.jsonl --traffic TRAFFIC.jsonl [--held-out]
                                     [--json FILE]

PAIRS has ``a``, ``b``, ``same`` (1 or 0) a line, TRAFFIC ``text``, ``intent``. The replay and the latencies go
through the plugin itself, with Kong played in this process and a real Redis, so they hold no time of Kong's own.
Everything drawn is drawn from ``--seed``.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import importlib
import importlib.util
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import redis

from tenantgate.cache.calibrating import BOUNDS, Pair, read_pairs
from tenantgate.cache.config import VERIFIERS, CacheConfig
from tenantgate.cache.core.judge import Difference, difference
from tenantgate.cache.models import CacheModels
from tenantgate.cache.service import MODELS
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.errors import ConfigError, TenantgateError
from tenantgate.fields import fields_of
from tenantgate.kong.testing import FakeKong
from tenantgate.models.ports import BUILT_IN
from tenantgate.paths import plugin_file
from tenantgate.telemetry import logs, metrics

PLUGIN: Final = "tenant-semantic-cache"
KEY: Final = "benchmark-key-benchmark-key-benchmark"
ZIPF: Final = 1.0
"""Exponent of the repeats' distribution: the k-th most frequent text is asked 1/k as often as the first."""
RESAMPLES: Final = 100
"""Of the pairs, to tell how steady a recall is."""
ROUNDS: Final = 400
"""Texts that the latency is measured with."""
WARM: Final = 20
"""First rounds, which don't count."""
"""Neighbours of a search: as the plugin's field has it."""

Json = dict[str, Any]


def say(line: str = "") -> None:
    """Print a line at once."""
    print(line, flush=True)


@dataclass(frozen=True, slots=True)
class Request:
    """A text of the traffic, and what it is about."""

    text: str
    intent: str


def read_requests(path: Path) -> list[Request]:
    """The texts of a file, each once, in its order."""
    found: dict[str, Request] = {}
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({type(error).__name__})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found.setdefault(row["text"], Request(str(row["text"]), str(row["intent"])))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}:{number}: must be an object with text and intent") from None
    return list(found.values())


def held_out(pairs: list[Pair], requests: list[Request]) -> tuple[list[Pair], list[Request]]:
    """What the shipped verifier wasn't trained on, if these are the files that it was trained with."""
    # The training programs are no package.
    sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))
    train_verifier = importlib.import_module("train_verifier")
    verifier_pairs = importlib.import_module("verifier_pairs")
    split = train_verifier.split(
        [verifier_pairs.Pair(p.a, p.b, p.same) for p in pairs],
        [verifier_pairs.Request(r.text, r.intent) for r in requests],
    )
    return (
        [Pair(p.a, p.b, p.same) for p in split.held],
        [Request(r.text, r.intent) for r in split.held_intents],
    )


# --- where and with what ---


def surroundings(models: CacheModels) -> Json:
    """The machine, the date, the commit and the models."""
    root = Path(__file__).resolve().parents[1]

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", root, *args], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit + (" with changes" if git("status", "--porcelain") else ""),
        "embedder": models.embedder.fingerprint,
        "verifier": models.verifier.fingerprint,
        "calibration": models.calibration.source,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# --- (a) pairs ---


@dataclass(frozen=True, slots=True)
class Scored:
    """A pair with its cosine, its verifier's score, and the rule that keeps it apart."""

    same: bool
    cosine: float
    score: float
    rule: Difference | None

    @property
    def decision(self) -> float:
        """The score of the whole decision: below 0 where a rule refuses."""
        return -1.0 if self.rule else self.score


def score(pairs: Sequence[Pair], models: CacheModels) -> list[Scored]:
    """Score the pairs on all processors, every pair with every part, so that each part's worth can be told."""
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.a, pair.b)))

    def one(pair: Pair) -> Scored:
        cosine = float(vectors[pair.a] @ vectors[pair.b])
        cut = models.verifier.truncates(pair.a, pair.b)
        return Scored(
            pair.same,
            cosine,
            -1.0 if cut else models.verifier.score(pair.a, pair.b, cosine),
            difference(pair.a, pair.b),
        )

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        vectors = dict(zip(texts, pool.map(models.embedder.embed, texts), strict=True))
        return list(pool.map(one, pairs))


def recall_at(precision: float, labelled: Sequence[tuple[float, bool]]) -> tuple[float, float, float] | None:
    """The lowest score with at least this precision: (recall, precision, score). None if no score has it.

    Pairs below 0 are never served. Pairs with one score are served together or not at all.
    """
    positives = sum(same for _, same in labelled)
    best, right, served = None, 0, 0
    ranked = sorted((row for row in labelled if row[0] >= 0), reverse=True)
    for value, group in itertools.groupby(ranked, key=lambda row: row[0]):
        for _, same in group:
            served, right = served + 1, right + same
        if right / served >= precision:
            best = (right / positives, right / served, value)
    return best


def spread(precision: float, labelled: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """How far the recall of `recall_at` is chance: its 5th and 95th percentile over resamples of the pairs."""
    rng = random.Random(0)
    recalls = []
    for _ in range(RESAMPLES):
        found = recall_at(precision, rng.choices(labelled, k=len(labelled)))
        recalls.append(found[0] if found else 0.0)
    low, high = np.percentile(recalls, [5, 95])
    return float(low), float(high)


def bench_pairs(pairs: Sequence[Pair], models: CacheModels, bound: float) -> Json:
    """Print and give the figures on pairs."""
    started = time.monotonic()
    rows = score(pairs, models)
    positives = sum(row.same for row in rows)
    say(f"\n(a) {len(rows):,} labelled pairs, {positives:,} the same; {time.monotonic() - started:.0f} s")
    sweeps: dict[str, Callable[[Scored], float]] = {
        "cosine": lambda row: row.cosine,
        "cosine and rules": lambda row: -1.0 if row.rule else row.cosine,
        "verifier": lambda row: row.score,
        "rules and verifier": lambda row: row.decision,
    }
    out: Json = {"pairs": len(rows), "same": positives, "sweep": {}, "spread": {}, "bounds": {}, "rules": {}}
    say(f"  {'swept':<20} {'precision':>9} {'recall':>7} {'at':>7}   5 to 95 % of resamples")
    for name, of in sweeps.items():
        for precision in (0.9, 0.95):
            labelled = [(of(row), row.same) for row in rows]
            found = recall_at(precision, labelled)
            low, high = spread(precision, labelled)
            out["sweep"][f"{name} at {precision}"] = found
            out["spread"][f"{name} at {precision}"] = low, high
            values = f"{found[0]:>7.3f} {found[2]:>7.4f}" if found else f"{'none':>7} {'':>7}"
            say(f"  {name:<20} {precision:>9} {values}   {low:.2f} to {high:.2f}")
    say(f"\n  {'max_wrong_rate':<20} {'threshold':>9} {'served':>7} {'precision':>9} {'recall':>7}")
    for limit in BOUNDS:
        out["bounds"][str(limit)] = _at_bound(rows, models, limit)
    threshold = models.calibration.threshold_for(bound)
    used = 0.5 if threshold is None else threshold
    say(f"\n  {'rule':<12} {'right':>7} {'wrong':>7}   of them the verifier would serve at {used:.4g}:")
    for rule in Difference:
        hit = [row for row in rows if row.rule is rule]
        passed = [row for row in hit if row.score >= used]
        figures = {
            "right": sum(row.same for row in hit),
            "wrong": sum(not row.same for row in hit),
            "right_lost": sum(row.same for row in passed),
            "wrong_stopped": sum(not row.same for row in passed),
        }
        out["rules"][rule.value] = figures
        say(
            f"  {rule.value:<12} {figures['right']:>7} {figures['wrong']:>7}   "
            f"{figures['right_lost']} right lost, {figures['wrong_stopped']} wrong stopped"
        )
    return out


def _at_bound(rows: Sequence[Scored], models: CacheModels, limit: float) -> Json | None:
    threshold = models.calibration.threshold_for(limit)
    if threshold is None:
        say(f"  {limit:<20} no score of the calibration keeps it")
        return None
    served = [row for row in rows if row.decision >= threshold]
    right = sum(row.same for row in served)
    precision = right / len(served) if served else None
    recall = right / max(1, sum(row.same for row in rows))
    shown = "-" if precision is None else f"{precision:.3f}"
    say(f"  {limit:<20} {threshold:>9.4g} {len(served):>7} {shown:>9} {recall:>7.3f}")
    return {"threshold": threshold, "served": len(served), "precision": precision, "recall": recall}


# --- (b) replay ---


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the plugin did: ``exact``, ``similar``, ``miss`` or ``bypass``, and whose answer it gave."""

    level: str
    answered_from: int | None = None


class Client:
    """One tenant's way through the plugin: access, and for a miss the log phase with a provider's answer."""

    def __init__(self, plugin: Any, tenant: str, texts: Sequence[str]) -> None:
        self._plugin, self._tenant, self._texts = plugin, tenant, texts
        self._bodies = [
            json.dumps({"model": "bench", "messages": [{"role": "user", "content": text}]}).encode()
            for text in texts
        ]

    def access(self, i: int) -> FakeKong:
        """Ask text `i`."""
        return FakeKong(consumer=self._tenant, body=self._bodies[i]).run(self._plugin, "access")

    def store(self, kong: FakeKong, i: int) -> None:
        """Answer text `i` as its provider would, naming the text."""
        choice = {"index": 0, "message": {"role": "assistant", "content": str(i)}, "finish_reason": "stop"}
        answer = json.dumps({"object": "chat.completion", "model": "bench", "choices": [choice]})
        kong.record = {"response": {"status": 200}, "ai": {"proxy": {"payload": {"response": answer}}}}
        kong.run(self._plugin, "log")

    def ask(self, i: int) -> Outcome:
        """Ask text `i`, and store the answer to a miss."""
        kong = self.access(i)
        outcome = outcome_of(kong)
        if outcome.level == "miss":
            self.store(kong, i)
        return outcome


def outcome_of(kong: FakeKong) -> Outcome:
    """What came of an access phase."""
    if kong.exit is None:
        return Outcome(kong.reply_headers.get("X-Cache-Status", "error").lower())
    if kong.exit.status != 200:
        return Outcome("error")
    level = "similar" if "x-cache-similarity" in kong.exit.headers else "exact"
    return Outcome(level, int(kong.exit.json["choices"][0]["message"]["content"]))


def replay(client: Client, requests: Sequence[Request], order: Sequence[int], title: str) -> Json:
    """Ask in this order; print and give what came of it."""
    started = time.monotonic()
    levels: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for i in order:
        outcome = client.ask(i)
        levels[outcome.level] += 1
        source = outcome.answered_from
        if source is not None and requests[source].intent != requests[i].intent:
            wrong[outcome.level] += 1
    hits, missed = levels["exact"] + levels["similar"], wrong.total()
    say(f"\n(b) {title}: {len(order):,} requests, {time.monotonic() - started:.0f} s")
    say(f"  hits {hits / len(order):.1%}, of them in another intent {missed / max(1, hits):.2%} ({missed})")
    for level in ("exact", "similar"):
        share = wrong[level] / max(1, levels[level])
        say(f"    {level:<8} {levels[level]:>6} hits, in another intent {wrong[level]} ({share:.2%})")
    for level in sorted(levels.keys() - {"exact", "similar", "miss"}):
        say(
            f"    {level:<8} {levels[level]:>6} requests that the cache didn't look up: read the rest with care"
        )
    return {"requests": len(order), "levels": dict(levels), "other_intent": dict(wrong)}


def zipf_order(count: int, draws: int, rng: random.Random) -> list[int]:
    """`draws` of ``range(count)``, whose frequencies follow Zipf's law in a random ranking."""
    ranking = rng.sample(range(count), count)
    sums = list(itertools.accumulate(1 / rank**ZIPF for rank in range(1, count + 1)))
    return [ranking[bisect.bisect_left(sums, rng.random() * sums[-1])] for _ in range(draws)]


# --- (c) latency ---


def bench_latency(
    plugin: Any, server: RedisServer, models: CacheModels, texts: Sequence[str], rng: random.Random
) -> Json:
    """Print and give p50 and p95 of each outcome, and its ratio to the floor of the same text, just before or after."""
    client = Client(plugin, "latency", texts)
    order = rng.sample(range(len(texts)), len(texts))
    asked = order[: min(ROUNDS, len(texts) // 2)]
    stored = [i for i in order[len(asked) : len(asked) + 1000] if client.ask(i).level == "miss"]
    if not asked or not stored:
        raise ConfigError("traffic: too few texts to measure the latency with")
    bare = redis.Redis(port=server.port, driver_info=None, protocol=2)
    bare.get("tenantgate:warm-up")
    times: dict[str, list[tuple[float, float]]] = {}
    for number, i in enumerate(asked):
        repeat = rng.choice(stored)
        steps = ["floor", "new", "exact"]
        rng.shuffle(steps)  # whatever drifts, drifts for all three
        took, came = {}, {}
        for step in steps:
            before, started = _verifications(), time.perf_counter()
            if step == "floor":
                models.embedder.embed(texts[i])
                bare.get(f"tenantgate:{i}")
                came[step] = "floor"
            else:
                kong = client.access(i if step == "new" else repeat)
            took[step] = (time.perf_counter() - started) * 1000
            if step != "floor":
                verified = ", verified" if _verifications() > before else ""
                came[step] = outcome_of(kong).level + verified
        if number >= min(WARM, len(asked) // 4):
            for step, name in came.items():
                times.setdefault(name, []).append((took[step], took["floor"]))
    bare.close()
    say(
        "\n(c) latency in ms; floor = embedding and one Redis trip, ratio = median over the same text's floor"
    )
    say(f"  {'what':<20} {'times':>6} {'p50':>7} {'p95':>7} {'ratio':>7}")
    out: Json = {}
    for name in sorted(times, key=lambda name: statistics.median(t for t, _ in times[name])):
        own = [t for t, _ in times[name]]
        figures = {
            "count": len(own),
            "p50_ms": float(np.percentile(own, 50)),
            "p95_ms": float(np.percentile(own, 95)),
            "ratio": statistics.median(t / floor for t, floor in times[name]),
        }
        out[name] = figures
        say(
            f"  {name:<20} {len(own):>6} {figures['p50_ms']:>7.2f} {figures['p95_ms']:>7.2f} "
            f"{figures['ratio']:>7.2f}"
        )
    return out


def _verifications() -> int:
    """How often the verifier has run in this process, as the plugin counts it."""
    name = 'tenantgate_cache_stage_seconds_count{stage="verification"}'
    for line in metrics.exposition().splitlines():
        if line.startswith(name):
            return int(float(line.rpartition(" ")[2]))
    return 0


# --- all ---


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    """A Redis of our own."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def plugin_module() -> Any:
    """The plugin's file, loaded as its server would."""
    spec = importlib.util.spec_from_file_location("bench_plugin", plugin_file(PLUGIN))
    if spec is None or spec.loader is None:
        raise TenantgateError(f"{PLUGIN} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_plugin(server: RedisServer, bound: float, verifier: str) -> Any:
    """The plugin as its server would run it, but with patience: a busy machine must not change the quality.

    Nothing is probed: the answers of these replays name the text that was asked, so to compare them would tell nothing.
    """
    return plugin_module().Plugin(
        {
            "encryption_key": KEY,
            "namespace": "bench",
            "max_wrong_rate": bound,
            "verifier": verifier,
            "cache_ttl": 86_400,
            "probe_rate": 0,
            "max_entries": 1_000_000,
            "deadline_ms": 1500,
            "redis": {"host": "127.0.0.1", "port": server.port, "timeout_ms": 1000},
        }
    )


def run(args: argparse.Namespace) -> Json:
    """All parts; the figures as they go into the JSON file."""
    pairs, requests = read_pairs(args.pairs), read_requests(args.traffic)
    if args.held_out:
        pairs, requests = held_out(pairs, requests)
    rng = random.Random(args.seed)
    pairs = rng.sample(pairs, min(args.limit, len(pairs)))
    requests = rng.sample(requests, min(args.texts, len(requests)))
    models = MODELS.load(BUILT_IN, args.verifier)
    if models is None:
        raise TenantgateError("the models can't be loaded; the log line above says why")
    out: Json = {
        "surroundings": surroundings(models),
        "seed": args.seed,
        "verifier": args.verifier,
        "max_wrong_rate": args.max_wrong_rate,
        "held_out": args.held_out,
    }
    for name, value in out["surroundings"].items():
        say(f"{name:<12} {value}")
    say(
        f"{'settings':<12} verifier {args.verifier}, max_wrong_rate {args.max_wrong_rate}, seed {args.seed}"
        f"{', only what the verifier was not trained on' if args.held_out else ''}"
    )
    if not args.held_out:
        say(
            "note: the shipped verifier may have been trained on some of these rows; --held-out leaves them out"
        )
    out["pairs"] = bench_pairs(pairs, models, args.max_wrong_rate)
    if models.calibration.threshold_for(args.max_wrong_rate) is None:
        say(
            f"\nnote: no score of the calibration keeps {args.max_wrong_rate:g}, so the replay has exact hits only"
        )
    texts = [request.text for request in requests]
    with running_redis() as server:
        plugin = load_plugin(server, args.max_wrong_rate, args.verifier)
        once = rng.sample(range(len(texts)), len(texts))
        out["replay_once"] = replay(
            Client(plugin, "once", texts),
            requests,
            once,
            "replay, each text once: every hit is by similarity",
        )
        out["replay_zipf"] = replay(
            Client(plugin, "zipf", texts),
            requests,
            zipf_order(len(texts), len(texts), rng),
            f"another run, with repeats drawn by Zipf's law (exponent {ZIPF:g}): not comparable with the first",
        )
        out["latency"] = bench_latency(plugin, server, models, texts, rng)
    return out


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="The semantic cache's quality and speed.")
    parser.add_argument("--pairs", type=Path, required=True, metavar="PAIRS.jsonl")
    parser.add_argument("--traffic", type=Path, required=True, metavar="TRAFFIC.jsonl")
    parser.add_argument("--limit", type=int, default=6000, metavar="N", help="pairs (default: %(default)s)")
    # Fewer texts of the same intents have fewer neighbours, hence fewer hits: the default is all of most files.
    parser.add_argument(
        "--texts", type=int, default=20_000, metavar="N", help="texts at most (default: %(default)s)"
    )
    parser.add_argument(
        "--max-wrong-rate",
        type=float,
        default=fields_of(CacheConfig)["max_wrong_rate"].default,
        metavar="R",
        help="default: the plugin's, %(default)s",
    )
    parser.add_argument("--verifier", choices=VERIFIERS, default=BUILT_IN, help="as the plugin's field")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--held-out", action="store_true", help="only what train_verifier.py holds out of these files"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    args = parser.parse_args(argv)
    started = time.monotonic()
    try:
        out = run(args)
    except TenantgateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    say(f"\ndone in {time.monotonic() - started:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(out, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    logs.setup(PLUGIN, level="warning")  # says why, if models can't be loaded
    sys.exit(main())

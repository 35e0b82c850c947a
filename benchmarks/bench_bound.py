"""How well `max_wrong_rate` is kept on traffic that the calibration hasn't seen.

    python benchmarks/bench_bound.py --traffic A.jsonl B.jsonl … [--pairs PAIRS.jsonl] [--only NAME …]
        [--provider rewording|repeating] [--zipf] [--json FILE]

Replays through the plugin itself, with Kong played in this process and a real Redis. The provider answers by intent, in
one of several wordings that is drawn anew for each request, or with ``--provider repeating`` in always the same. Each
set is replayed with the shipped calibration but for the domain of its file's name, each text asked once, so every hit
is by similarity; or, with ``--zipf``, as often as Zipf's law has it. Then traffic that changes: the first set, and in
the middle another. Wrong is an answer of another intent; of PAIRS, one to a question that no label joins. Everything
drawn is drawn from ``--seed``, but for which hits are probed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Beside this file and in the folder of the training programs: no packages.
import bench_cache
from bench_cache import Request, say

sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))
from calibrate_traffic import of_pairs
from verifier_pairs import read_pairs

from tenantgate.cache import service as cache_service
from tenantgate.cache.config import VERIFIERS, CacheConfig
from tenantgate.cache.core.answers import Verdict, likeness
from tenantgate.cache.core.calibration import Calibration
from tenantgate.cache.models import Models
from tenantgate.cache.verifier import calibration_file
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.errors import TenantgateError
from tenantgate.fields import fields_of
from tenantgate.kong.testing import FakeKong
from tenantgate.models.ports import BUILT_IN
from tenantgate.telemetry import logs, metrics

Json = dict[str, Any]

FIRST: Final = 2000
"""Requests after which the bound is to be kept."""
RECOVERY: Final = 1000
"""Requests after a change of traffic that it has for that."""

OPENINGS: Final = ("", "Sure. ", "Of course! ", "Happy to help. ", "Thanks for asking. ")
MIDDLES: Final = (
    "For {about}, open the app and choose {about}; the steps are shown there.",
    "You can do this in the app: under {about} you find the steps.",
    "Please go to {about} in the menu of the app, where the steps are listed.",
    "This is about {about}. In the app there is an entry for it, which leads through the steps.",
)
CLOSINGS: Final = (
    "",
    " Let me know if that helps.",
    " Anything else?",
    " I hope this answers your question.",
)


class Provider:
    """Answers by intent, one intent in several wordings, or in always the same if it is `repeating`."""

    def __init__(self, seed: int, *, repeating: bool = False) -> None:
        self._rng, self._seed, self._repeating = random.Random(seed), seed, repeating

    def answer(self, intent: str) -> str:
        """An answer that says what `intent` is about, in a wording that is drawn."""
        rng = random.Random(f"{self._seed} {intent}") if self._repeating else self._rng
        about = " ".join(intent.replace("_", " ").split())
        middle = rng.choice(MIDDLES).format(about=about)
        return rng.choice(OPENINGS) + middle + rng.choice(CLOSINGS)


@dataclass
class Counts:
    """What came of some requests."""

    requests: int = 0
    exact: int = 0
    similar: int = 0
    wrong: int = 0
    before: int = 0
    """Of the similar those answered from what another set had left, whose labels have other names: neither counted as
    wrong nor as right."""
    probes: int = 0

    def line(self) -> str:
        """In words."""
        hits = self.exact + self.similar
        exact = f" ({self.exact / max(1, self.requests):.1%} exact)" if self.exact else ""
        compared = self.similar - self.before
        left = f" and {self.before} of the other set's answers" if self.before else ""
        return (
            f"{self.requests:>6,} requests, hits {hits / max(1, self.requests):>6.1%}{exact}, "
            f"wrong of the similar {self.wrong / max(1, compared):>6.2%} ({self.wrong} of {compared}{left}), "
            f"probed {self.probes / max(1, self.requests):.2%}"
        )


class Tenant:
    """One tenant's way through the plugin."""

    def __init__(self, plugin: Any, name: str, provider: Provider) -> None:
        self._plugin, self.name, self._provider = plugin, name, provider
        self._intent_of: dict[str, str] = {}
        self._traffic_of: dict[str, str] = {}
        self.traffic = ""
        """The set that is asked from now."""

    def ask(self, request: Request, counts: Counts) -> None:
        """Ask, count, and let the provider answer a miss."""
        body = {"model": "bench", "messages": [{"role": "user", "content": request.text}]}
        kong = FakeKong(consumer=self.name, body=json.dumps(body).encode()).run(self._plugin, "access")
        counts.requests += 1
        if kong.exit is None:
            answer = self._provider.answer(request.intent)
            self._intent_of[answer], self._traffic_of[answer] = request.intent, self.traffic
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": answer},
                "finish_reason": "stop",
            }
            payload = json.dumps({"object": "chat.completion", "model": "bench", "choices": [choice]})
            kong.record = {"response": {"status": 200}, "ai": {"proxy": {"payload": {"response": payload}}}}
            kong.run(self._plugin, "log")
            return
        if kong.exit.status != 200:
            raise TenantgateError(f"the plugin answered {kong.exit.status}")
        if "x-cache-similarity" not in kong.exit.headers:
            counts.exact += 1
            return
        counts.similar += 1
        answer = kong.exit.json["choices"][0]["message"]["content"]
        if self._traffic_of[answer] != self.traffic:
            counts.before += 1
        else:
            counts.wrong += self._intent_of[answer] != request.intent


def replay(tenant: Tenant, parts: Sequence[tuple[str, str, Sequence[Request]]]) -> Json:
    """Ask the parts (traffic, title, requests) one after another; print and give what came of each."""
    out: Json = {}
    for traffic, title, requests in parts:
        counts, before = Counts(), probed()
        tenant.traffic = traffic
        for request in requests:
            tenant.ask(request, counts)
        counts.probes = probed() - before
        say(f"    {title:<26} {counts.line()}; score needed {threshold(tenant.name):.4g}")
        out[title] = dataclasses.asdict(counts)
    return out


def probed() -> int:
    """Requests that were probed so far, as the plugin counts them."""
    return int(_metric('tenantgate_cache_requests_total{status="miss",detail="probe"}') or 0)


def threshold(tenant: str) -> float:
    """The score that this tenant's neighbours need, as the plugin shows it; 2: none is served."""
    found = _metric(f'tenantgate_cache_threshold{{tenant="{tenant}"}}')
    return float("nan") if found is None else found


def _metric(name: str) -> float | None:
    for line in metrics.exposition().splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    return None


def use_calibration(without: str, verifier: str, folder: Path) -> float | None:
    """Load the models with the shipped calibration but for one domain; the score to begin with at the default bound."""
    shipped = Calibration.from_json(calibration_file(verifier).read_text("utf-8"))
    domains = tuple(each for each in shipped.domains if each.name != without)
    table = folder / "calibration.json"
    table.write_text(dataclasses.replace(shipped, domains=domains).to_json(), "utf-8")
    os.environ["TENANTGATE_CALIBRATION"] = str(table)
    cache_service.__dict__["MODELS"] = Models()
    models = cache_service.MODELS.load(BUILT_IN, verifier)
    if models is None:
        raise TenantgateError("the models can't be loaded; the log line above says why")
    return models.calibration.threshold_for(fields_of(CacheConfig)["max_wrong_rate"].default)


def bench_comparison(sets: dict[str, list[Request]], verifier: str, args: argparse.Namespace) -> Json:
    """Print and give the verdicts on the provider's answers, by whether these are to one intent."""
    models = cache_service.MODELS.load(BUILT_IN, verifier)
    if models is None:
        raise TenantgateError("the models can't be loaded; the log line above says why")
    embed = models.embedder.embed
    out: Json = {}
    say("\ncomparing two of the provider's answers")
    for name, requests in sets.items():
        rng, provider = random.Random(args.seed), _provider(args)
        intents = sorted({request.intent for request in requests})
        asked = rng.choices(intents, k=400)
        pairs = {
            "one intent": [(provider.answer(i), provider.answer(i)) for i in asked],
            "two intents": [
                (provider.answer(i), provider.answer(rng.choice([j for j in intents if j != i])))
                for i in asked
            ],
        }
        out[name] = {}
        for kind, answers in pairs.items():
            verdicts = Counter(likeness(a, b, lambda x, y: float(embed(x) @ embed(y))) for a, b in answers)
            out[name][kind] = {verdict.value: verdicts[verdict] / len(answers) for verdict in Verdict}
            shares = ", ".join(f"{verdict} {share:.1%}" for verdict, share in out[name][kind].items())
            say(f"    {name:<22} of {kind}: {shares}")
    return out


def _provider(args: argparse.Namespace) -> Provider:
    return Provider(args.seed, repeating=args.provider == "repeating")


def load_plugin(server: RedisServer, args: argparse.Namespace) -> Any:
    """The plugin with the settings that are measured."""
    module = bench_cache.plugin_module()
    return module.Plugin(
        {
            "encryption_key": bench_cache.KEY,
            "namespace": "bench",
            "max_wrong_rate": args.max_wrong_rate,
            "probe_rate": args.probe_rate,
            "verifier": args.verifier,
            "cache_ttl": 86_400,
            "max_entries": 1_000_000,
            "max_megabytes": 4096,
            "deadline_ms": 1500,
            "sweep_interval": 0,
            "redis": {"host": "127.0.0.1", "port": server.port, "timeout_ms": 1000},
        }
    )


def order(requests: Sequence[Request], rng: random.Random, *, zipf: bool) -> list[Request]:
    """The requests in random order: each once, or repeated by Zipf's law."""
    if zipf:
        return [requests[i] for i in bench_cache.zipf_order(len(requests), len(requests), rng)]
    return rng.sample(requests, len(requests))


def run(args: argparse.Namespace) -> Json:
    """All parts; the figures as they go into the JSON file."""
    sets = {path.stem: bench_cache.read_requests(path) for path in args.traffic}
    if args.pairs:
        sets[args.pairs.stem] = [Request(r.text, r.intent) for r in of_pairs(read_pairs(args.pairs), 6000)]
    rng = random.Random(args.seed)
    sets = {name: rng.sample(found, min(args.texts, len(found))) for name, found in sets.items()}
    out: Json = {"seed": args.seed, "max_wrong_rate": args.max_wrong_rate, "sets": {}, "changes": {}}
    with tempfile.TemporaryDirectory() as folder, bench_cache.running_redis() as server:
        for name in args.only or sets:
            requests = sets[name]
            start = use_calibration(name, args.verifier, Path(folder))
            say(f"\n{name}: the calibration, without a domain of this name, begins at {start}")
            asked = order(requests, rng, zipf=args.zipf)
            tenant = Tenant(load_plugin(server, args), f"{name}-{time.time_ns()}", _provider(args))
            parts = [(name, f"the first {FIRST}", asked[:FIRST]), (name, "after that", asked[FIRST:])]
            out["sets"][name] = {"start": start, **replay(tenant, parts)}
        use_calibration("", args.verifier, Path(folder))
        first, *others = sets
        for name in [] if args.no_change else others:
            say(f"\n{first}, and then {name}: the whole calibration")
            tenant = Tenant(load_plugin(server, args), f"change-{time.time_ns()}", _provider(args))
            later = order(sets[name], rng, zipf=args.zipf)
            parts = [
                (first, first, order(sets[first], rng, zipf=args.zipf)),
                (name, f"{RECOVERY} after the change", later[:RECOVERY]),
                (name, "after that", later[RECOVERY:]),
            ]
            out["changes"][name] = replay(tenant, parts)
        out["comparison"] = bench_comparison(sets, args.verifier, args)
    return out


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="How well the cache keeps its bound on new traffic.")
    parser.add_argument("--traffic", type=Path, nargs="+", required=True, metavar="TRAFFIC.jsonl")
    parser.add_argument("--pairs", type=Path, metavar="PAIRS.jsonl")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the sets left out in turn, these")
    parser.add_argument("--no-change", action="store_true", help="without the traffic that changes")
    parser.add_argument("--provider", choices=("rewording", "repeating"), default="rewording")
    parser.add_argument("--zipf", action="store_true", help="with repeats")
    parser.add_argument("--texts", type=int, default=6000, help="of each set (default: %(default)s)")
    for name in ("max_wrong_rate", "probe_rate"):
        default = fields_of(CacheConfig)[name].default
        parser.add_argument(
            "--" + name.replace("_", "-"), type=float, default=default, help="as the plugin's field"
        )
    parser.add_argument("--verifier", choices=VERIFIERS, default=BUILT_IN, help="as the plugin's field")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
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
    logs.setup(bench_cache.PLUGIN, level="warning")
    sys.exit(main())

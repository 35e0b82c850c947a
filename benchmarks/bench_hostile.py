"""What costly requests cost, and what they cost others: ``bench_hostile.py [--stages] [--starve] [--kong-bin KONG]``.

`--stages` prints the processor time of every stage by size, over the families of `tenantgate.bench.hostile`: of the
parts on their own, and of whole phases with their shipped deadlines. `--starve` runs a gateway with all plugins and
two tenants. The one asks ordinary questions; the other sends the worst families at its rate limit. It prints the first
one's latencies and errors without and with the second, in so many rounds. Beside `busy cores: N` no second tenant asks:
processes that only count use N cores, which is what any work costs on a machine that is shared with the clients, the
provider and Redis. Without either flag, both. Nothing is gated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.redaction import Policy, redact
from tenantgate.bench import load
from tenantgate.bench.hostile import BODIES, SIZES, TEXTS, bodies, request
from tenantgate.bench.load import Due, Plan, Shot
from tenantgate.cache.core.text_parts import read as read_wording
from tenantgate.devhost.stack import Stack
from tenantgate.guard.config import DEFAULT_RULES
from tenantgate.guard.core.detectors import detector
from tenantgate.guard.core.passages import of_request
from tenantgate.guard.models import PARTS
from tenantgate.kong.loading import load as load_plugin
from tenantgate.kong.testing import FakeKong
from tenantgate.llm import chat

PLUGINS: Final = Path(__file__).parents[1] / "plugins"
KEY: Final = "YmVuY2htYXJrLWtleS1vZi0zMi1ieXRlcy1sb25nISE="
CONFIGS: Final[dict[str, dict[str, Any]]] = {
    "tenant-guardrails": {},
    "tenant-semantic-cache": {"encryption_key": KEY, "redis": {"host": "127.0.0.1", "port": 1}},
    "tenant-prompt-compressor": {},
}
WORST: Final = (
    "text: prose",
    "text: a.",
    "text: dashed digits",
    "text: assignments",
    "body: empty lists",
    "body: messages",
)
"""What the hostile tenant sends, by turns: found with ``--stages``."""

BUSY: Final = "busy cores: "

TENANTS: Final = """
version: 1
gateway:
  audit: {node: hostile, sinks: [{name: file, type: file, path: audit.jsonl}]}
defaults: {audit: {}, cache: {}, compression: {}}
tenants:
  - id: victim
    api_keys: ['${{ env "DECK_VICTIM_API_KEY" }}']
    rate_limit: {per_minute: 6000}
    models: [{provider: mock, model: m}]
    guardrails:
      rules:
        - {name: injection, detector: injection, mode: block}
        - {name: personal-data, detector: personal_data}
  - id: hostile
    api_keys: ['${{ env "DECK_HOSTILE_API_KEY" }}']
    rate_limit: {per_minute: 600}
    models: [{provider: mock, model: m}]
    guardrails:
      rules:
        - {name: injection, detector: injection}
        - {name: personal-data, detector: personal_data}
        - {name: secrets, detector: secrets}
"""

# -- the cost of every stage -----------------------------------------------------------------------------


def parts() -> dict[str, Callable[[bytes], object]]:
    """The parts on their own, without deadlines; each takes a body."""

    def of_text(find: Callable[[str], object]) -> Callable[[bytes], object]:
        return lambda body: find(_text(body))  # with the reading, which is a row of its own

    PARTS.load("injection")
    guards = {
        f"detector {rule.detector}": of_text(detector(rule, PARTS))
        for rule in DEFAULT_RULES
        if rule.detector in {"personal_data", "secrets", "injection"}
    }
    return {
        "reading the body": chat.parse_request,
        **guards,
        "wording": of_text(read_wording),
        "audit redaction": lambda body: redact(RawContent(body, len(body)), Policy(key=b"k"), names=None),
    }


def phases() -> dict[str, Callable[[bytes], object]]:
    """Access phases of whole plugins, with their own deadlines."""
    made = {}
    for name, config in CONFIGS.items():
        plugin = load_plugin(PLUGINS / f"{name}.py")
        warm = getattr(plugin.module, "warm_up", None)
        if callable(warm):
            warm()
        made[f"access of {name}"] = _access(plugin.plugin(config))
    return made


def _access(plugin: Any) -> Callable[[bytes], object]:
    return lambda body: FakeKong(
        consumer="hostile", body=body, answers={"kong.response.get_source": "service"}
    ).run(plugin, "access")


def _text(body: bytes) -> str:
    parsed = chat.parse_request(body)
    return (
        of_request(parsed.body, "concatenate_all_content").text
        if isinstance(parsed, chat.ChatRequest)
        else ""
    )


def stages(sizes: Sequence[int], most_s: float) -> None:
    """Print the table: processor milliseconds, the worst family of each stage and size first."""
    rows: dict[str, dict[int, list[tuple[float, str]]]] = {}
    for stage, run in (parts() | phases()).items():
        run(request("hello"))
        for size in sizes:
            for family, body in bodies(size):
                smaller = next(
                    (ms for ms, name in rows.get(stage, {}).get(size // 10, []) if name == family), 0.0
                )
                if smaller * 10 > most_s * 1000:
                    continue  # known to take too long to wait for
                rows.setdefault(stage, {}).setdefault(size, []).append((_cost_ms(run, body), family))
    print("Processor time in ms: the median of all families, and the three that cost most.\n")
    print(f"{'stage':36}{'kB':>6}{'median':>9}  worst")
    for stage, by_size in rows.items():
        for size, costs in by_size.items():
            costs.sort(reverse=True)
            worst = ", ".join(f"{name} {ms:.0f}" for ms, name in costs[:3])
            print(f"{stage:36}{size // 1000:>6}{np.median([ms for ms, _ in costs]):>9.1f}  {worst}")


def _cost_ms(run: Callable[[bytes], object], body: bytes) -> float:
    started = time.thread_time()
    with contextlib.suppress(Exception):  # a stage may refuse; what it cost until then counts
        run(body)
    return (time.thread_time() - started) * 1000  # what a stage's own threads use isn't counted


# -- the tenant that starves the others ------------------------------------------------------------------


@dataclass(frozen=True)
class Felt:
    """What the ordinary tenant felt: milliseconds, and how many of its requests weren't answered."""

    name: str
    took_ms: list[float]
    failed: Counter[str]

    @property
    def p95_ms(self) -> float:
        """Of the answered ones."""
        return float(np.percentile(self.took_ms, 95)) if self.took_ms else float("nan")

    def line(self) -> str:
        """For the table."""
        p50, p95, p99 = np.percentile(self.took_ms, [50, 95, 99]) if self.took_ms else (0, 0, 0)
        failed = ", ".join(f"{n} x {what}" for what, n in self.failed.items()) or "none"
        return f"{self.name:32}{len(self.took_ms):>6}{p50:>9.1f}{p95:>9.1f}{p99:>9.1f}   {failed}"


def starve(args: argparse.Namespace) -> None:
    """Print what the ordinary tenant feels alone, and beside each of the hostile one's families."""
    with tempfile.TemporaryDirectory(prefix="tg-hostile-") as name:
        file = Path(name, "tenants.yaml")
        file.write_text(TENANTS)
        with Stack(
            tenants=file,
            state_dir=Path(name, "state"),
            kong_bin=args.kong_bin,
            mock_latency_ms=5.0,
            processes=args.processes,
        ) as stack:
            print(
                f"\n{stack.description}: {args.rate:g} questions/s; the other sends {args.hostile_rate:g}/s\n"
            )
            print(f"{'beside':32}{'n':>6}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}   errors")
            asks = ask(stack, args.rate)
            felt("warm-up", asks, args.warm_s)
            before = _restarts(stack)
            made = {n: b.replace(b"gpt-4o-mini", b"m", 1) for n, b in bodies(args.size)}
            beside = ["nobody", *(args.families or WORST), *(f"{BUSY}{n}" for n in args.busy)]
            p95_ms: dict[str, list[float]] = {name: [] for name in beside}
            for _ in range(args.rounds):
                for who in beside:
                    with _company(who, stack, args, made) as statuses:
                        time.sleep(1)
                        found = felt(who, asks, args.seconds)
                    p95_ms[who].append(found.p95_ms)
                    said = f"   (the hostile one's: {json.dumps(dict(statuses))})" if statuses else ""
                    print(f"{found.line()}{said}", flush=True)
            if args.rounds > 1:
                _summary(p95_ms)
            print(f"plugin servers replaced: {_restarts(stack) - before}")


def _company(
    name: str, stack: Stack, args: argparse.Namespace, made: dict[str, bytes]
) -> contextlib.AbstractContextManager[dict[str, int]]:
    if name.startswith(BUSY):
        return busy(int(name.removeprefix(BUSY)))
    if name in made:
        return hostile(stack, args.hostile_rate, args.seconds + 1, made[name])
    return contextlib.nullcontext({})


def _summary(p95_ms: dict[str, list[float]]) -> None:
    alone = p95_ms["nobody"]
    print(f"\n{'p95 in ms':32}{'median':>9}{'worst':>9}   more than alone in the same round: median, worst")
    for name, each in p95_ms.items():
        more = [p95 - base for p95, base in zip(each, alone, strict=True)]
        print(f"{name:32}{np.median(each):>9.1f}{max(each):>9.1f}   {np.median(more):+.1f}, {max(more):+.1f}")


@contextlib.contextmanager
def busy(cores: int) -> Iterator[dict[str, int]]:
    """So many processes that only count, within the block."""
    many = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield {}
    finally:
        for one in many:
            one.kill()
            one.wait()


def ask(stack: Stack, rate: float) -> Iterator[Due]:
    """Questions of the ordinary tenant, half of them asked before, without an end; `at_s` from 0."""
    url = stack.url(tenant="victim", provider="mock", model="m")
    headers = {"authorization": f"Bearer {stack.key('victim')}", "content-type": "application/json"}
    for n in _count():
        number = n // 2 if n % 2 else n + 100_000
        text = f"What does part {number} of the catalogue cost, and when can it be delivered?"
        yield Due(n / rate, "victim", n, url, headers, request(text, model="m").decode())


def _count() -> Iterator[int]:
    n = 0
    while True:
        yield n
        n += 1


def felt(name: str, asks: Iterator[Due], seconds: float) -> Felt:
    """Ask for so long, and gather."""
    dues: list[Due] = []
    first = None
    for due in asks:
        first = due.at_s if first is None else first
        if due.at_s - first >= seconds:
            break
        dues.append(Due(due.at_s - first, due.target, due.ask, due.url, due.headers, due.body))
    shots = load.run(Plan(dues))
    good = [s for s in shots if s.status == 200 and not s.error]
    return Felt(name, [s.total_s * 1000 for s in good], Counter(_why(s) for s in shots if s not in good))


def _why(shot: Shot) -> str:
    return f"{shot.status} {shot.error or shot.reason}".strip()


class hostile:  # noqa: N801 - reads as a statement
    """Sends one body again and again from a process of its own; gives what came back, by status."""

    def __init__(self, stack: Stack, rate: float, seconds: float, body: bytes) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="tg-hostile-")  # noqa: SIM115 - until the end of the block
        self._file.write(body)
        self._file.flush()
        self._command = [
            sys.executable,
            __file__,
            "--attack",
            stack.url(tenant="hostile", provider="mock", model="m"),
            "--key",
            stack.key("hostile"),
            "--body",
            self._file.name,
            "--rate",
            str(rate),
            "--seconds",
            str(seconds),
        ]
        self._statuses: dict[str, int] = {}

    def __enter__(self) -> dict[str, int]:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        return self._statuses

    def __exit__(self, *_exc: object) -> None:
        out, _ = self._process.communicate()
        self._statuses.update(json.loads(out))
        self._file.close()


def attack(args: argparse.Namespace) -> None:
    """In a process of its own: send the body at each time that is due, whatever became of those before."""
    body = Path(args.body).read_bytes()
    seen: Counter[str] = Counter()
    headers = {"authorization": f"Bearer {args.key}", "content-type": "application/json"}

    def send() -> None:
        asked = urllib.request.Request(args.attack, body, headers)  # noqa: S310 - the gateway's
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
                answer.read()
                seen[str(answer.status)] += 1
        except urllib.error.HTTPError as error:
            seen[str(error.code)] += 1
        except OSError as error:
            seen[type(error).__name__] += 1

    threads = []
    started = time.monotonic()
    for n in range(int(args.rate * args.seconds)):
        time.sleep(max(0.0, started + n / args.rate - time.monotonic()))
        threads.append(threading.Thread(target=send, daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()
    print(json.dumps(seen))


def _restarts(stack: Stack) -> int:
    return sum(
        log.read_text(errors="replace").count("server ended, starting another") for log in stack.logs()
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", action="store_true", help="the cost of every stage only")
    parser.add_argument("--starve", action="store_true", help="the tenant that starves the others only")
    parser.add_argument("--kong-bin", help="a real Kong instead of the embedded host")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="bytes, for --stages")
    parser.add_argument(
        "--most-s", type=float, default=3.0, help="leave out what would take longer than this"
    )
    parser.add_argument("--size", type=int, default=120_000, help="bytes of the hostile bodies, for --starve")
    parser.add_argument(
        "--families", nargs="+", metavar="NAME", help=f"of {len(TEXTS) + len(BODIES)}, as --stages prints"
    )
    parser.add_argument("--rate", type=float, default=10.0, help="of the ordinary tenant, each second")
    parser.add_argument(
        "--hostile-rate", type=float, default=10.0, help="of the hostile one: its limit is 10"
    )
    parser.add_argument("--seconds", type=float, default=12.0, help="of each measurement")
    parser.add_argument("--processes", default="auto", help="of the engine (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="how often all of it is measured")
    parser.add_argument(
        "--busy",
        type=int,
        nargs="+",
        default=(),
        metavar="N",
        help="also beside N busy cores, without a hostile tenant",
    )
    parser.add_argument("--warm-s", type=float, default=5.0, help="of traffic that isn't counted")
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    parser.add_argument("--body", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.attack:
        attack(args)
        return
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    if args.stages or not args.starve:
        stages(args.sizes, args.most_s)
    if args.starve or not args.stages:
        starve(args)


if __name__ == "__main__":
    main()
